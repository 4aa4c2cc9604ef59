import { assert, unreachable } from '../base/assert.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import { clientIdOf, confirm, nextId, requestIds, take } from '../retry/request-ids.js';
import { attemptTimeoutMs, begin, end } from '../retry/retry.js';
import { laneSpanMax } from './limits.js';
import { servingOf } from './route.js';
import type { Attempt, Pending, ProxyEvent, ProxyNode, ProxyState } from './state.js';

/** The only place where the state changes. It owns every Map of it. */
export function evolve(state: ProxyState, event: ProxyEvent): ProxyState {
  switch (event.type) {
    case 'OperationTaken':
      return taken(state, event.pending);
    case 'AttemptBegun':
      return begun(state, event.pending, event.node, event.now);
    case 'AttemptEnded':
      end(event.attempt.pending.history, event.outcome);
      forget(state, event.attempt);
      return abandoned(state, event.attempt);
    case 'AttemptAbandoned':
      return abandoned(state, event.attempt);
    case 'AttemptExtended':
      assert(event.pending.current !== undefined, 'only an attempt that is waited for is extended');
      event.pending.due = event.due;
      return state;
    case 'OperationParked':
      assert(event.pending.current === undefined, 'a parked operation waits for no attempt');
      event.pending.due = event.due;
      return state;
    case 'LaneReplaced':
      state.lanes[event.lane] = requestIds(clientIdOf(state.seed, state.idsMade), laneSpanMax);
      state.idsMade += 1;
      return state;
    case 'OperationRenamed': {
      const { pending, lane } = event;
      if (pending.lane !== undefined) confirm(pending.lane, seqOf(pending));
      pending.request = nextId(lane);
      pending.lane = lane;
      pending.renewals += 1;
      take(lane);
      return state;
    }
    case 'OperationSettled':
      return settled(state, event.pending);
    case 'ViewSeen':
      return viewSeen(state, event.view);
    case 'NodeLinked':
      event.node.connected = true;
      event.node.suspected = false;
      return state;
    case 'NodeUnlinked':
      event.node.connected = false;
      event.node.suspected = false;
      return state;
    case 'NodeHeard':
      event.node.heardAt = event.now;
      event.node.suspected = false;
      return state;
    case 'NodeSuspected':
      event.node.suspected = true;
      return state;
    default:
      return unreachable(event);
  }
}

function taken(state: ProxyState, pending: Pending): ProxyState {
  state.pendings.add(pending);
  state.pendingBytes += pending.bytes;
  if (pending.lane !== undefined) {
    take(pending.lane);
    state.ownWrites += 1;
  }
  return state;
}

function begun(state: ProxyState, pending: Pending, node: ProxyNode, now: number): ProxyState {
  assert(pending.current === undefined, 'one attempt at a time is waited for');
  const attempt: Attempt = { id: state.nextAttempt, pending, node, beganAt: now };
  state.nextAttempt += 1;
  state.attempts.set(attempt.id, attempt);
  node.inFlight += 1;
  begin(pending.history);
  pending.open.push(attempt);
  pending.current = attempt;
  pending.due = now + attemptTimeoutMs(pending.history, pending.deadline - now);
  return state;
}

function abandoned(state: ProxyState, attempt: Attempt): ProxyState {
  const { pending } = attempt;
  if (pending.current !== attempt) return state;
  pending.current = undefined;
  pending.due = Number.POSITIVE_INFINITY;
  pending.avoid = attempt.node.id;
  return state;
}

function forget(state: ProxyState, attempt: Attempt): void {
  assert(state.attempts.delete(attempt.id), 'an attempt ends once', { attempt: attempt.id });
  attempt.node.inFlight -= 1;
  assert(attempt.node.inFlight >= 0, 'attempts in flight are counted', { node: attempt.node.id });
  const { open } = attempt.pending;
  const index = open.indexOf(attempt);
  if (index >= 0) open.splice(index, 1);
}

function settled(state: ProxyState, pending: Pending): ProxyState {
  assert(state.pendings.delete(pending), 'an operation is answered once', { token: pending.token });
  state.pendingBytes -= pending.bytes;
  for (const attempt of pending.open) {
    state.attempts.delete(attempt.id);
    attempt.node.inFlight -= 1;
  }
  pending.open.length = 0;
  pending.current = undefined;
  if (pending.lane !== undefined) {
    confirm(pending.lane, seqOf(pending));
    state.ownWrites -= 1;
  }
  return state;
}

function seqOf(pending: Pending): number {
  assert(pending.request !== undefined, 'a write with a lane has an id');
  return pending.request.seq;
}

function viewSeen(state: ProxyState, view: View): ProxyState {
  const { nodes } = state;
  state.view = view;
  const gone = new Set(nodes.keys());
  for (const { id, address } of view.members) {
    gone.delete(id);
    if (nodes.get(id)?.address === address) continue;
    nodes.set(id, { id, address, connected: false, suspected: false, inFlight: 0, heardAt: 0 });
  }
  for (const id of gone) nodes.delete(id);
  state.serving = servingOf(view).map((member) => {
    const node = nodes.get(member.id);
    assert(node !== undefined, 'every member is a node');
    return node;
  });
  return state;
}

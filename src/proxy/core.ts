import { assert, unreachable } from '../base/assert.js';
import { KeychainError, type Reason } from '../base/errors.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import { isFull, nextId, type RequestIds } from '../retry/request-ids.js';
import {
  type AttemptOutcome,
  attemptHistory,
  attemptTimeoutMs,
  judge,
  readAttemptMs,
  reasonAtDeadline,
} from '../retry/retry.js';
import { childContext } from '../telemetry/span-ids.js';
import { isSampled } from '../telemetry/trace-context.js';
import { errorResult, fromOperationError } from '../wire/operation-error.js';
import { evolve } from './evolve.js';
import * as limits from './limits.js';
import { routeNamed, routeRead } from './route.js';
import type {
  Attempt,
  Pending,
  ProxyEffect,
  ProxyEvent,
  ProxyInput,
  ProxyNode,
  ProxyState,
} from './state.js';

/** Only a change of the view or of a link helps. */
const onChange = Number.POSITIVE_INFINITY;
/** Bytes of an operation besides its key and value. */
const operationOverheadBytes = 64;

/** One step of the core: an event is applied as soon as it is decided, by `evolve` alone. */
export class Step {
  readonly state: ProxyState;
  readonly events: ProxyEvent[] = [];
  readonly effects: ProxyEffect[] = [];

  constructor(state: ProxyState) {
    this.state = state;
  }

  emit(event: ProxyEvent): void {
    this.events.push(event);
    evolve(this.state, event);
  }
}

/** Decides one input. The state is changed by the events of the step, in place. */
export function step(state: ProxyState, input: ProxyInput): Step {
  const turn = new Step(state);
  switch (input.type) {
    case 'OperationReceived':
      receive(turn, input.token, input.operation, input.timeoutMs, input.now);
      return turn;
    case 'ViewReceived':
      see(turn, input.view, input.now);
      return turn;
    case 'ResultsReceived':
      hear(turn, input.node, input.results, input.now);
      if (input.view !== undefined) see(turn, input.view, input.now);
      return turn;
    case 'NodeConnected': {
      const node = state.nodes.get(input.node);
      if (node === undefined || node.connected) return turn;
      turn.emit({ type: 'NodeLinked', node, now: input.now });
      for (const pending of state.pendings) {
        if (pending.current === undefined && pending.due === onChange)
          attempt(turn, pending, input.now);
      }
      return turn;
    }
    case 'NodeLost': {
      const node = state.nodes.get(input.node);
      if (node === undefined) return turn;
      turn.emit({ type: 'NodeUnlinked', node });
      lose(turn, node, input.unsent, input.now);
      return turn;
    }
    case 'Ticked':
      tick(turn, input.now);
      return turn;
    case 'Closed':
      for (const pending of state.pendings) {
        const unknown = pending.history.unresolved > 0;
        giveUp(turn, pending, unknown ? 'OUTCOME_UNKNOWN' : 'SHUTTING_DOWN');
      }
      return turn;
    default:
      return unreachable(input);
  }
}

function receive(
  turn: Step,
  token: number,
  operation: Operation,
  timeoutMs: number,
  now: number,
): void {
  const { state } = turn;
  const asked = operation.operation;
  assert(asked !== undefined, 'operations are validated before they get here');
  const kind = asked.$case === 'get' ? 'read' : 'write';
  const bytes =
    operationOverheadBytes +
    asked.value.key.byteLength +
    (asked.$case === 'put' ? asked.value.value.byteLength : 0);
  const request = asked.$case === 'get' ? undefined : asked.value.request;
  const own = kind === 'write' && request === undefined;
  const lane = own ? openLane(state) : undefined;
  const refusal = overload(state, bytes, own, lane);
  if (refusal !== undefined) {
    turn.effects.push({ type: 'answer', token, result: errorResult(operation.id, refusal) });
    return;
  }
  const pending: Pending = {
    token,
    operation,
    kind,
    bytes,
    deadline: now + timeoutMs,
    history: attemptHistory(kind),
    lane,
    request: lane === undefined ? request : nextId(lane),
    open: [],
    current: undefined,
    due: onChange,
    avoid: undefined,
    renewals: 0,
  };
  turn.emit({ type: 'OperationTaken', pending });
  attempt(turn, pending, now);
}

function overload(
  state: ProxyState,
  bytes: number,
  own: boolean,
  lane: RequestIds | undefined,
): KeychainError | undefined {
  const count = state.pendings.size;
  if (count >= limits.operationsMax) {
    return overloaded('operations', count, limits.operationsMax, '--operations-max');
  }
  const total = state.pendingBytes + bytes;
  if (total > limits.operationBytesMax) {
    return overloaded(
      'bytes of operations',
      total,
      limits.operationBytesMax,
      '--operation-bytes-max',
    );
  }
  if (own && (lane === undefined || state.ownWrites >= limits.writesMax)) {
    return overloaded('writes', state.ownWrites, limits.writesMax, '--writes-max');
  }
  return undefined;
}

function overloaded(what: string, actual: number, limit: number, flag: string): KeychainError {
  return new KeychainError(
    'OVERLOADED',
    `${actual} ${what} wait for their answer at this proxy and the limit is ${limit}: send fewer at once`,
    { limit: String(limit), actual: String(actual), flag },
  );
}

function openLane(state: ProxyState): RequestIds | undefined {
  return state.lanes.find((lane) => !isFull(lane));
}

/** Sends the operation where it belongs now, or parks it until something changes. */
function attempt(turn: Step, pending: Pending, now: number): void {
  const { state } = turn;
  assert(pending.current === undefined, 'an operation is tried once at a time');
  const node = route(turn, pending);
  if (node === 'settled') return;
  if (node === undefined || !node.connected) {
    if (pending.due !== onChange) turn.emit({ type: 'OperationParked', pending, due: onChange });
    return;
  }
  turn.emit({ type: 'AttemptBegun', pending, node, now });
  const id = state.nextAttempt - 1;
  turn.effects.push({
    type: 'send',
    node: node.id,
    operation: messageOf(pending, id, now),
    bytes: pending.bytes,
  });
}

function route(turn: Step, pending: Pending): ProxyNode | undefined | 'settled' {
  const { state } = turn;
  if (state.view === undefined) return undefined;
  if (pending.kind === 'write') return state.serving[0];
  const asked = pending.operation.operation;
  const name = asked?.$case === 'get' ? asked.value.node : '';
  if (name === '') return routeRead(state.serving, state.nextAttempt, pending.avoid);
  const named = routeNamed(state.view, name);
  if (named.type === 'node') return state.nodes.get(named.id);
  const message =
    named.reason === 'MEMBER_NOT_FOUND'
      ? `${name} is not a member of the chain`
      : `${name} does not serve reads now`;
  refuse(turn, pending, new KeychainError(named.reason, message));
  return 'settled';
}

/** The trace context that an attempt carries: its own span is what the node's work belongs to. */
export function attemptTrace(trace: Uint8Array, attempt: number): Uint8Array {
  return isSampled(trace) ? childContext(trace, 'route', attempt) : trace;
}

function messageOf(pending: Pending, id: number, now: number): Operation {
  const { operation } = pending.operation;
  const trace = attemptTrace(pending.operation.trace, id);
  const timeoutMs = Math.max(1, Math.ceil(pending.deadline - now));
  const { request } = pending;
  switch (operation?.$case) {
    case 'put': {
      const { key, value } = operation.value;
      return { id, timeoutMs, trace, operation: { $case: 'put', value: { key, value, request } } };
    }
    case 'delete': {
      const { key } = operation.value;
      return { id, timeoutMs, trace, operation: { $case: 'delete', value: { key, request } } };
    }
    default:
      return { id, timeoutMs, trace, operation };
  }
}

function hear(turn: Step, id: string, results: readonly OperationResult[], now: number): void {
  const { state } = turn;
  const node = state.nodes.get(id);
  if (node !== undefined) turn.emit({ type: 'NodeHeard', node, now });
  for (const result of results) {
    const answered = state.attempts.get(result.id);
    if (answered === undefined) continue;
    const outcome = outcomeOf(result);
    const wasCurrent = answered.pending.current === answered;
    turn.emit({ type: 'AttemptEnded', attempt: answered, outcome });
    follow(turn, answered, outcome, result, wasCurrent, now);
  }
}

const answeredOutcome: AttemptOutcome = { type: 'answered' };

function outcomeOf(result: OperationResult): AttemptOutcome {
  if (result.result?.$case === 'error') {
    return { type: 'refused', reason: fromOperationError(result.result.value).reason };
  }
  if (result.result === undefined) return { type: 'refused', reason: 'INTERNAL' };
  return answeredOutcome;
}

/** Acts on the end of an attempt. One that was abandoned before can only settle the operation. */
function follow(
  turn: Step,
  ended: Attempt,
  outcome: AttemptOutcome,
  result: OperationResult | undefined,
  wasCurrent: boolean,
  now: number,
): void {
  const { pending } = ended;
  const verdict = judge(pending.history, outcome, pending.deadline - now);
  switch (verdict.type) {
    case 'settle':
      assert(result !== undefined, 'only an answer settles');
      settle(turn, pending, result);
      return;
    case 'renew':
      assert(result !== undefined, 'only an answer renews');
      renew(turn, pending, result, now);
      return;
    case 'giveUp':
      if (wasCurrent) giveUp(turn, pending, verdict.reason);
      return;
    case 'retry':
      if (!wasCurrent) return;
      if (verdict.afterMs === 0) attempt(turn, pending, now);
      else turn.emit({ type: 'OperationParked', pending, due: now + verdict.afterMs });
      return;
    default:
      unreachable(verdict);
  }
}

/** An id of ours whose session was expired after silence is replaced; the caller needs not know. */
function renew(turn: Step, pending: Pending, result: OperationResult, now: number): void {
  const { state } = turn;
  const index = pending.lane === undefined ? -1 : state.lanes.indexOf(pending.lane);
  if (pending.lane === undefined || pending.renewals >= limits.renewalsMax) {
    settle(turn, pending, result);
    return;
  }
  if (index >= 0) turn.emit({ type: 'LaneReplaced', lane: index });
  const lane = openLane(state);
  if (lane === undefined) {
    settle(turn, pending, result);
    return;
  }
  turn.emit({ type: 'OperationRenamed', pending, lane });
  if (pending.current === undefined) attempt(turn, pending, now);
}

function settle(turn: Step, pending: Pending, result: OperationResult): void {
  const id = pending.operation.id;
  turn.emit({ type: 'OperationSettled', pending });
  turn.effects.push({
    type: 'answer',
    token: pending.token,
    result: { id, result: result.result },
  });
}

function refuse(turn: Step, pending: Pending, error: KeychainError): void {
  settle(turn, pending, errorResult(pending.operation.id, error));
}

function giveUp(turn: Step, pending: Pending, reason: Reason): void {
  refuse(turn, pending, new KeychainError(reason, describe(turn.state, pending, reason)));
}

function describe(state: ProxyState, pending: Pending, reason: Reason): string {
  const attempts = `${pending.history.begun} attempts`;
  switch (reason) {
    case 'OUTCOME_UNKNOWN':
      return `the write was sent and no certain answer came in time (${attempts}): it may have been applied; the same request id, sent again, runs it at most once`;
    case 'DEADLINE':
      return `no answer came in time (${attempts}); nothing was applied`;
    case 'SHUTTING_DOWN':
      return 'this proxy is shutting down; nothing was applied';
    case 'NO_CHAIN':
      return 'the chain has no serving member: add one with `keychaindb chain add`, or start a node with --join';
    case 'NOT_SERVING':
      return `${whyParked(state)} (${attempts}); nothing was applied`;
    default:
      return `the operation was refused with ${reason} until its time was up (${attempts}); nothing was applied`;
  }
}

function whyParked(state: ProxyState): string {
  if (state.view === undefined)
    return 'no coordinator has shown this proxy a view of the chain yet';
  const head = state.serving[0];
  if (head?.connected === false) return `the head, ${head.id} at ${head.address}, can't be reached`;
  return 'no serving node answered';
}

/** The reason where time ran out; of a parked operation, what it waited for. */
function reasonNow(state: ProxyState, pending: Pending): Reason {
  const reason = reasonAtDeadline(pending.history);
  const parked = pending.current === undefined && pending.history.refusal === undefined;
  if (reason !== 'DEADLINE' || !parked) return reason;
  if (state.view !== undefined && state.serving.length === 0) return 'NO_CHAIN';
  return 'NOT_SERVING';
}

function lose(turn: Step, node: ProxyNode, unsent: ReadonlySet<number>, now: number): void {
  const lost = [...turn.state.attempts.values()].filter((open) => open.node === node);
  for (const open of lost) {
    if (!turn.state.attempts.has(open.id)) continue;
    const outcome: AttemptOutcome = { type: unsent.has(open.id) ? 'unsent' : 'lost' };
    const wasCurrent = open.pending.current === open;
    turn.emit({ type: 'AttemptEnded', attempt: open, outcome });
    if (!wasCurrent) continue;
    if (open.pending.deadline > now) attempt(turn, open.pending, now);
  }
}

const noneUnsent: ReadonlySet<number> = new Set();

/** Of another cluster no view is newer: an address may have passed to one of its processes. */
function isNewer(view: View, than: View): boolean {
  return isSameCluster(view, than) && view.epoch > than.epoch;
}

export function isSameCluster(view: View, other: View): boolean {
  return Buffer.compare(view.clusterId, other.clusterId) === 0;
}

/** The newest view wins, whoever shows it. */
function see(turn: Step, view: View, now: number): void {
  const { state } = turn;
  if (state.view !== undefined && !isNewer(view, state.view)) return;
  const before = new Map(state.nodes);
  turn.emit({ type: 'ViewSeen', view });
  for (const [id, node] of before) {
    if (state.nodes.get(id) === node) continue;
    turn.effects.push({ type: 'hangUp', node: id });
    lose(turn, node, noneUnsent, now);
  }
  for (const [id, node] of state.nodes) {
    if (before.get(id) !== node)
      turn.effects.push({ type: 'dial', node: id, address: node.address });
  }
  for (const pending of state.pendings) {
    const { current } = pending;
    if (current !== undefined) {
      if (stillRight(state, pending, current.node)) continue;
      turn.emit({ type: 'AttemptAbandoned', attempt: current });
    }
    attempt(turn, pending, now);
  }
}

function stillRight(state: ProxyState, pending: Pending, node: ProxyNode): boolean {
  return pending.kind === 'write' ? state.serving[0] === node : state.serving.includes(node);
}

function tick(turn: Step, now: number): void {
  const { state } = turn;
  let suspects = false;
  for (const pending of state.pendings) {
    if (now >= pending.deadline) {
      giveUp(turn, pending, reasonNow(state, pending));
    } else if (now >= pending.due) {
      const { current } = pending;
      const patience = current === undefined ? now : patienceOf(current, now);
      if (patience > now) {
        turn.emit({ type: 'AttemptExtended', pending, due: patience });
        continue;
      }
      if (current !== undefined) {
        turn.emit({ type: 'AttemptAbandoned', attempt: current });
        if (!current.node.suspected && isSilent(current, now)) {
          turn.emit({ type: 'NodeSuspected', node: current.node });
          suspects = true;
        }
      }
      attempt(turn, pending, now);
    }
  }
  if (suspects) leaveSuspects(turn, now);
}

/** Nothing was heard of the node for as long as a read may take, while this attempt waited. */
function isSilent(attempt: Attempt, now: number): boolean {
  return Math.max(attempt.node.heardAt, attempt.beganAt) + readAttemptMs <= now;
}

/** Until when to wait on. A node that answers others is slow, not gone: to ask elsewhere only adds load. */
function patienceOf(attempt: Attempt, now: number): number {
  if (isSilent(attempt, now)) return now;
  const { history, deadline } = attempt.pending;
  const alive = attempt.beganAt + limits.patienceFactor * attemptTimeoutMs(history, deadline);
  return Math.min(alive, attempt.node.heardAt + readAttemptMs);
}

/** Reads at a node that has just fallen silent don't wait for their own time-out, where another node is well. */
function leaveSuspects(turn: Step, now: number): void {
  const { state } = turn;
  if (!state.serving.some((node) => node.connected && !node.suspected)) return;
  for (const pending of state.pendings) {
    const { current } = pending;
    if (pending.kind !== 'read' || current?.node.suspected !== true) continue;
    if (isNamed(pending)) continue;
    turn.emit({ type: 'AttemptAbandoned', attempt: current });
    attempt(turn, pending, now);
  }
}

function isNamed(pending: Pending): boolean {
  const asked = pending.operation.operation;
  return asked?.$case === 'get' && asked.value.node !== '';
}

import { equalBytes } from '../base/bytes.js';
import { promiseMs } from '../base/timing.js';
import type { PeerMessage } from '../gen/keychaindb/v1/chain.js';
import { MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import { headerTo } from './header.js';
import type { NodeState } from './state.js';
import type { Turn } from './turn.js';
import { countsIn, everyoneIn, memberOf, type Name, nameKey, sameName, servesIn } from './views.js';

/*
 * Peer promises (R2–R5). X reads locally only while every other member that counts has promised, within
 * the last L, not to take part in a view in which X doesn't serve. Gray & Cheriton 1989 (leases);
 * Moraru et al. 2014 (quorum leases).
 */

/** Whose promise a strong read at this node needs: R4. */
export function neededBy(state: NodeState): readonly Name[] {
  const { active, seen, self } = state;
  if (active === undefined || seen === undefined) return [];
  return active.members
    .filter((m) => !sameName(m, self) && countsIn(active, m) && countsIn(seen, m))
    .map((m) => ({ id: m.id, incarnation: m.incarnation }));
}

/** End of the shortest lease among those needed. */
export function leaseEnd(state: NodeState): number {
  let end = Number.POSITIVE_INFINITY;
  for (const name of state.needed) {
    end = Math.min(end, state.held.get(nameKey(name)) ?? Number.NEGATIVE_INFINITY);
  }
  return end;
}

/** May this node answer a strong read now: it serves, isn't removed, and every needed lease runs. */
export function isLeased(state: NodeState, now: number): boolean {
  return (
    !state.removed &&
    state.active !== undefined &&
    servesIn(state.active, state.self) &&
    now < state.leaseUntil
  );
}

/** Asks every member that counts in the active or the newest view; the lease runs from `now`. */
export function askForPromises(turn: Turn, now: number): void {
  const { state } = turn;
  const { active, seen, self } = state;
  if (seen === undefined || state.removed || !servesIn(seen, self)) return;
  turn.emit({ type: 'PromisesAsked', now });
  const asked = new Map<string, Name & { address: string }>();
  for (const view of [active, seen]) {
    if (view === undefined) continue;
    for (const m of view.members) {
      if (!sameName(m, self) && countsIn(view, m) && memberOf(seen, m)) asked.set(nameKey(m), m);
    }
  }
  for (const to of asked.values()) {
    turn.effect({
      type: 'say',
      to,
      message: {
        header: headerTo(state, to),
        message: {
          $case: 'promiseRequest',
          value: { leaseMs: state.timing.leaseMs, nonce: microsOf(now) },
        },
      },
    });
  }
}

/** Whole microseconds, rounded down: a lease counts from no later than the moment it was asked for. */
function microsOf(milliseconds: number): number {
  return Math.floor(milliseconds * 1_000);
}

/** Time for the next round: every h; four times as often while a promise is lacking. */
export function isRoundDue(state: NodeState, now: number): boolean {
  const { active, seen, timing } = state;
  const lacking = active?.epoch !== seen?.epoch || now >= state.leaseUntil;
  const interval = lacking ? timing.heartbeatMs / 4 : timing.heartbeatMs;
  // A tick may come a little early.
  return now - state.lastPromiseRound >= interval - 1;
}

/** Y's side: a promise to a process that serves in the newest view *seen* (R2), kept W from now. */
export function onPromiseRequest(turn: Turn, from: Name, message: PeerMessage, now: number): void {
  const { state } = turn;
  if (message.message?.$case !== 'promiseRequest') return;
  const { leaseMs, nonce } = message.message.value;
  const { seen } = state;
  if (seen === undefined || state.removed || !servesIn(seen, from)) return;
  const member = memberOf(seen, from);
  if (member === undefined) return;
  if (leaseMs > state.leaseMaxMs) turn.emit({ type: 'LeaseLimitRaised', leaseMs });
  const until = now + promiseMs(leaseMs, state.timing.drift);
  const old = state.given.get(nameKey(from));
  turn.emit({ type: 'PromiseGiven', name: from, until: Math.max(until, old?.until ?? 0) });
  turn.effect({
    type: 'say',
    to: member,
    message: {
      header: headerTo(state, from),
      message: { $case: 'promiseGrant', value: { nonce } },
    },
  });
}

/** X's side: the lease runs L from the moment that the request was made, however late the grant is. */
export function onPromiseGrant(turn: Turn, from: Name, nonce: number, now: number): void {
  const { state } = turn;
  const until = nonce / 1000 + state.timing.leaseMs;
  if (nonce / 1000 > now || nonce < microsOf(state.leasesDroppedAt)) return;
  turn.emit({ type: 'PromiseHeld', name: from, until, now });
}

/** R3 (1): does an unexpired promise forbid taking part in this view? */
export function owesAgainst(state: NodeState, view: View, now: number): boolean {
  return owedUntil(state, view) > now;
}

/** When the last promise that forbids taking part in this view runs out; -Infinity: there is none. */
export function owedUntil(state: NodeState, view: View): number {
  let last = Number.NEGATIVE_INFINITY;
  for (const [key, { name, until }] of state.given) {
    if (until <= last || servesIn(view, name) || state.stopped.has(key)) continue;
    if (!cameBackNewer(state, view, name)) last = until;
  }
  return last;
}

/** The same store came up under a newer incarnation: its lock proves that the old process is gone. */
function cameBackNewer(state: NodeState, view: View, name: Name): boolean {
  const old = state.seenStores.get(nameKey(name));
  if (old === undefined) return false;
  return everyoneIn(view).some(
    (m) => m.id === name.id && m.incarnation > name.incarnation && equalBytes(m.storeId, old),
  );
}

/** R3 (3): every member that is newly JOINING has promised, so that a join interrupts no read. */
export function holdsNewlyJoining(state: NodeState, view: View, now: number): boolean {
  if (!servesIn(view, state.self)) return true;
  return view.members.every((m) => {
    if (m.state !== MemberState.JOINING || sameName(m, state.self)) return true;
    if (state.active !== undefined && countsIn(state.active, m)) return true;
    return (state.held.get(nameKey(m)) ?? Number.NEGATIVE_INFINITY) > now;
  });
}

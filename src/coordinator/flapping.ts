import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import { heldMsFirst, heldMsMax, servedMs } from './limits.js';

/** How often a node has lost its place, by a coordinator's clock; volatile. */
export interface Flap {
  /** Times since it last served for long. */
  readonly times: number;
  /** When it lost its place last, or began anew without one. Monotonic milliseconds. */
  readonly at: number;
  /** Since when it serves; undefined: it doesn't. */
  readonly servingSince: number | undefined;
}

/** By node id; of nobody who is no member any more. */
export type Flaps = Map<string, Flap>;

/**
 * What a view says about who lost its place, unasked: a drained node, or one that was removed, didn't.
 * @param newest the incarnation that was heard last of a node: a coordinator that catches up with its log sees no flaps
 */
export function noteView(
  flaps: Flaps,
  before: View,
  after: View,
  newest: (id: string) => number | undefined,
  now: number,
): void {
  const all = [...after.members, ...after.others];
  for (const id of [...flaps.keys()]) if (!all.some((m) => m.id === id)) flaps.delete(id);
  for (const member of all) {
    const { id } = member;
    const flap = flaps.get(id);
    if (isLost(before, after, id, newest(id))) {
      const isForgiven = flap?.servingSince !== undefined && now - flap.servingSince >= servedMs;
      const times = isForgiven ? 1 : (flap?.times ?? 0) + 1;
      flaps.set(id, { times, at: now, servingSince: undefined });
    }
    const present = flaps.get(id);
    const serves = after.members.some((m) => m.id === id && m.state === MemberState.SERVING);
    if (present === undefined || serves === (present.servingSince !== undefined)) continue;
    flaps.set(id, { ...present, servingSince: serves ? now : undefined });
  }
}

/** Did the process that had the place of this id lose it, or a process that waited end? */
function isLost(before: View, after: View, id: string, heard: number | undefined): boolean {
  const is = (m: Member): boolean => m.id === id;
  const was = before.members.find(is);
  const next = after.others.find(is);
  if (next?.drained === true || heard === undefined) return false;
  if (heard !== was?.incarnation && heard !== next?.incarnation) return false;
  if (was !== undefined) {
    const stays = after.members.some((m) => is(m) && m.incarnation === was.incarnation);
    // The only one that serves goes on under its next incarnation (R10).
    return !stays && !after.members.some(is);
  }
  const waited = before.others.find(is);
  return (
    waited?.state === MemberState.WAITING &&
    next?.state === MemberState.WAITING &&
    !waited.drained &&
    next.incarnation > waited.incarnation
  );
}

/** Milliseconds for which a node isn't taken in yet: nothing the first time, then longer and longer. */
export function heldForMs(flaps: Flaps, id: string, now: number): number {
  const flap = flaps.get(id);
  if (flap === undefined || flap.times < 2) return 0;
  const held = Math.min(heldMsFirst * 2 ** Math.min(flap.times - 2, 20), heldMsMax);
  return Math.max(0, flap.at + held - now);
}

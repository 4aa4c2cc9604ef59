import { equalBytes } from '../base/bytes.js';
import { MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import { isDamaged } from './compare.js';
import { headerTo } from './header.js';
import { closeHellos, dialPredecessor, reconcileFollowers } from './link.js';
import { askForPromises, holdsNewlyJoining, owedUntil, owesAgainst } from './promise.js';
import { afterLeaseChange, dropQueries, refuseWaitingReads } from './read.js';
import { startOver } from './snapshot.js';
import type { NodeIdentity, NodeState } from './state.js';
import type { Turn } from './turn.js';
import { everyoneIn, isHead, isTail, memberOf, sameName, servesIn } from './views.js';
import { commitWhatMay, refuseWaitingWrites, takeToken } from './write.js';

/*
 * Views: seen, then active (R1–R3, R5, R8).
 */

/** A view that a coordinator or a peer has shown and that is on the disk. */
export function onViewPersisted(turn: Turn, view: View, now: number): void {
  const { state } = turn;
  if (state.removed || view.epoch <= (state.seen?.epoch ?? -1)) return;
  const wasIn = state.seen !== undefined && memberOf(state.seen, state.self) !== undefined;
  // The one that a lossy command names goes on with what it has.
  const isOther = state.seen !== undefined && state.seen.lineage !== view.lineage;
  const strange = isOther && !isNamedBy(view, state.self);
  turn.emit({ type: 'ViewSeen', view, now });
  if (strange) {
    remove(
      turn,
      'the chain was recovered without this node: its store is of another lineage',
      true,
    );
    return;
  }
  if (isOfAnotherStore(view, state.self)) {
    // That process has to confirm its stop itself: nothing is said to the others.
    turn.emit({ type: 'Removed' });
    turn.effect({ type: 'stop', wipe: false, why: 'another store has this name and incarnation' });
    return;
  }
  if (memberOf(view, state.self) === undefined) {
    if (wasIn || state.active !== undefined) remove(turn, `not in the view of epoch ${view.epoch}`);
    return;
  }
  askForPromises(turn, now);
  tryActivate(turn, now);
  // Fewer promises may be needed now (R4).
  afterLeaseChange(turn, now);
}

/** Is this very process and store a serving member of the view? */
function isNamedBy(view: View, self: NodeIdentity): boolean {
  return servesIn(view, self) && !isOfAnotherStore(view, self);
}

/** An incarnation is no proof where a store was lost and a clock went back: the store id is. */
function isOfAnotherStore(view: View, self: NodeIdentity): boolean {
  return everyoneIn(view).some(
    (m) => sameName(m, self) && m.storeId.byteLength > 0 && !equalBytes(m.storeId, self.storeId),
  );
}

/** R2: out of the view. Stops answering under this incarnation for ever and tells the others so. */
function remove(turn: Turn, why: string, isStrange = false): void {
  const { state } = turn;
  // R18: those that serve now have all that is committed, and this store hasn't any more.
  const wipe = isStrange || isDamaged(state);
  turn.emit({ type: 'Removed' });
  refuseWaitingWrites(turn);
  refuseWaitingReads(turn);
  const { seen } = state;
  if (seen !== undefined) {
    for (const to of seen.members) {
      turn.effect({
        type: 'say',
        to,
        message: {
          header: headerTo(state, to),
          message: { $case: 'stopped', value: { seenEpoch: seen.epoch } },
        },
      });
    }
  }
  turn.effect({ type: 'stop', wipe, why });
}

/** R3: activates the newest seen view as soon as nothing forbids it. */
export function tryActivate(turn: Turn, now: number): void {
  const { state } = turn;
  const { seen } = state;
  if (seen === undefined || state.removed) return;
  if (state.active !== undefined && state.active.epoch >= seen.epoch) return;
  if (memberOf(seen, state.self) === undefined) return;
  if (servesIn(seen, state.self) && now < state.bootWaitUntil) return;
  if (owesAgainst(state, seen, now)) return;
  if (!holdsNewlyJoining(state, seen, now)) return;
  if (state.incomplete && memberOf(seen, state.self)?.state !== MemberState.SYNCING) {
    startOver(turn, 'it is to count in the chain, and its store holds a part of a snapshot');
    return;
  }
  activate(turn, seen, now);
}

/** When time alone lets the newest seen view be activated: promises and boot wait are over; undefined: it is active. */
export function activationDue(state: NodeState): number | undefined {
  const { seen, active, self, removed } = state;
  if (seen === undefined || removed || memberOf(seen, self) === undefined) return undefined;
  if (active !== undefined && active.epoch >= seen.epoch) return undefined;
  const booted = servesIn(seen, self) ? state.bootWaitUntil : Number.NEGATIVE_INFINITY;
  return Math.max(booted, owedUntil(state, seen));
}

function activate(turn: Turn, view: View, now: number): void {
  const { state } = turn;
  const { up, down } = state;
  if (up !== undefined) {
    turn.effect({ type: 'hangUpPredecessor', session: up.session, why: 'a newer epoch' });
  }
  if (down !== undefined) {
    turn.effect({ type: 'hangUpFollower', link: down.link, why: 'a newer epoch' });
  }
  turn.emit({ type: 'Activated', view, now });
  dropQueries(turn);
  closeHellos(turn);
  askForPromises(turn, now);
  dialPredecessor(turn);
  if (isHead(view, state.self)) {
    // The head's token is its activation (R7).
    if (isTail(view, state.self)) takeToken(turn);
    reconcileFollowers(turn);
    commitWhatMay(turn, now);
  }
  turn.effect({ type: 'beat' });
  afterLeaseChange(turn, now);
}

/** Peers that lack a process of the newest view are shown it: views spread by whole views (R1). */
export function showView(turn: Turn, to: { id: string; incarnation: number }): void {
  const { state } = turn;
  const { seen } = state;
  if (seen === undefined) return;
  const member = everyoneIn(seen).find((m) => m.id === to.id);
  if (member === undefined) return;
  const name = { id: to.id, incarnation: to.incarnation, address: member.address };
  turn.effect({
    type: 'say',
    to: name,
    message: { header: headerTo(state, name), message: { $case: 'view', value: seen } },
  });
}

import type { PeerMessage } from '../gen/keychaindb/v1/chain.js';
import { onViewPersisted, showView, tryActivate } from './activation.js';
import {
  compareOnTick,
  onDamageFound,
  onRangeHashed,
  onRangeRead,
  onRangeRolled,
  onStateAnswer,
  onStateQuery,
} from './compare.js';
import type { ChainEvent } from './events.js';
import { expireSessions } from './expiry.js';
import type { StoreChanges } from './fold.js';
import { headerTo, isForMe } from './header.js';
import type { ChainEffect, ChainInput } from './inputs.js';
import { clockMarginMs } from './limits.js';
import {
  dialPredecessor,
  onDownLinkClosed,
  onLogSynced,
  onPredecessorSaid,
  onSuccessorSaid,
  onUpLinkClosed,
  reconcileFollowers,
} from './link.js';
import { askForPromises, isRoundDue, onPromiseGrant, onPromiseRequest } from './promise.js';
import {
  afterLeaseChange,
  askTail,
  forgetLate,
  onReadsReceived,
  onWatermarkAnswer,
  onWatermarkQuery,
  repeatLateQuery,
} from './read.js';
import { onBaseWritten, onChunksStored, onInstalled } from './snapshot.js';
import type { ClockReading, NodeState } from './state.js';
import { Turn } from './turn.js';
import { everyoneIn, nameKey } from './views.js';
import { onWritesReceived } from './write.js';

export interface ChainStep {
  readonly events: readonly ChainEvent[];
  /** Released when the events of the step are as durable as they have to be. */
  readonly effects: readonly ChainEffect[];
}

/**
 * Decides one input: pure but for `state`, which it alone owns and changes through events (and the
 * list of who waits for an answer). What a commit changes in the store goes to `changes`, in order.
 */
export function step(state: NodeState, input: ChainInput, changes?: StoreChanges): ChainStep {
  const turn = new Turn(state, changes);
  switch (input.type) {
    case 'Ticked':
      onTick(turn, input.now, input.wall);
      break;
    case 'ViewPersisted':
      onViewPersisted(turn, input.view, input.now);
      break;
    case 'WritesReceived':
      onWritesReceived(turn, input.writes, input.now, input.wall);
      break;
    case 'ReadsReceived':
      onReadsReceived(turn, input.reads, input.now);
      break;
    case 'PeerSaid':
      onPeerSaid(turn, input.message, input.now);
      break;
    case 'PredecessorSaid':
      onPredecessorSaid(turn, input.message, input.blocks, input.chunks, input.now);
      break;
    case 'UpLinkClosed':
      onUpLinkClosed(turn, input.session);
      break;
    case 'SuccessorSaid':
      onSuccessorSaid(turn, input.link, input.message, input.now);
      break;
    case 'DownLinkClosed':
      onDownLinkClosed(turn, input.link);
      break;
    case 'LogSynced':
      onLogSynced(turn, input.through, input.blocks, input.now);
      break;
    case 'BaseWritten':
      onBaseWritten(turn, input.base);
      break;
    case 'ChunksStored':
      onChunksStored(turn, input.session, input.chunks);
      break;
    case 'SnapshotInstalled':
      onInstalled(turn, input.session, input.ledger);
      break;
    case 'RangeRead':
      onRangeRead(turn, input.nonce, input.range, input.now);
      break;
    case 'RangeHashed':
      onRangeHashed(turn, input.asked, input.hash);
      break;
    case 'RangeRolled':
      onRangeRolled(turn, input.nonce, input.theirs, input.own, input.now);
      break;
    case 'DamageFound':
      onDamageFound(turn, input.what);
      break;
  }
  return turn;
}

function onTick(turn: Turn, now: number, wall: number): void {
  const { state } = turn;
  if (state.removed) return;
  guardAgainstSuspension(turn, now, wall);
  for (const [key, { until }] of state.given) if (until <= now) state.given.delete(key);
  tryActivate(turn, now);
  if (isRoundDue(state, now)) askForPromises(turn, now);
  dialPredecessor(turn);
  reconcileFollowers(turn);
  forgetLate(turn, now);
  repeatLateQuery(turn, now);
  askTail(turn, now);
  expireSessions(turn, now, wall);
  compareOnTick(turn, now);
}

/** Has the wall clock gone on without the monotonic one between two readings of both, or jumped? */
export function haveParted(before: ClockReading, after: ClockReading): boolean {
  return Math.abs(after.wall - before.wall - (after.now - before.now)) > clockMarginMs;
}

/** A suspended machine stops the monotonic clock: what it promised itself means nothing after it. */
function guardAgainstSuspension(turn: Turn, now: number, wall: number): void {
  const { state } = turn;
  const last = state.lastTick;
  state.lastTick = { now, wall };
  if (last === undefined) return;
  if (haveParted(last, { now, wall })) turn.emit({ type: 'LeasesDropped', now });
}

function onPeerSaid(turn: Turn, message: PeerMessage, now: number): void {
  const { state } = turn;
  const { header } = message;
  if (header?.from === undefined || state.removed) return;
  if (!isForMe(state, header)) {
    // Another lineage, or an older incarnation of this node: the newest view tells the sender.
    if (header.chainId === state.chainId && header.to?.id === state.self.id) {
      showView(turn, header.from);
    }
    return;
  }
  const { from } = header;
  spreadViews(turn, header.seenEpoch, from);
  switch (message.message?.$case) {
    case 'promiseRequest':
      onPromiseRequest(turn, from, message, now);
      return;
    case 'promiseGrant':
      onPromiseGrant(turn, from, message.message.value.nonce, now);
      tryActivate(turn, now);
      afterLeaseChange(turn, now);
      return;
    case 'watermarkQuery':
      onWatermarkQuery(turn, from, header.epoch, message.message.value.nonce, now);
      return;
    case 'watermarkAnswer': {
      const { nonce, watermark } = message.message.value;
      onWatermarkAnswer(turn, header.epoch, nonce, watermark, now);
      return;
    }
    case 'viewRequest':
      showView(turn, from);
      return;
    case 'stopped':
      onStopped(turn, from, message.message.value.seenEpoch, now);
      return;
    case 'stateQuery':
      onStateQuery(turn, from, header.epoch, message.message.value);
      return;
    case 'stateAnswer':
      onStateAnswer(turn, from, header.epoch, message.message.value, now);
      return;
    case 'view': // The shell persists it first and hands it over as ViewPersisted.
    case undefined:
      return;
  }
}

/** A peer with an older view is shown the newer one; one with a newer view is asked for it (R1). */
function spreadViews(
  turn: Turn,
  seenEpoch: number,
  from: { id: string; incarnation: number },
): void {
  const { state } = turn;
  const own = state.seen?.epoch ?? 0;
  if (seenEpoch < own) {
    showView(turn, from);
  } else if (seenEpoch > own && state.seen !== undefined) {
    const member = everyoneIn(state.seen).find((m) => m.id === from.id);
    if (member === undefined) return;
    const to = { ...from, address: member.address };
    turn.effect({
      type: 'say',
      to,
      message: { header: headerTo(state, to), message: { $case: 'viewRequest', value: {} } },
    });
  }
}

/** R3: a confirmed stop counts only from a process that has seen its own removal. */
function onStopped(
  turn: Turn,
  from: { id: string; incarnation: number },
  seenEpoch: number,
  now: number,
): void {
  const { state } = turn;
  const promised = state.given.has(nameKey(from));
  if (seenEpoch > 0 && promised) turn.emit({ type: 'PeerStopped', name: from });
  tryActivate(turn, now);
}

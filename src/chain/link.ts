import { assert } from '../base/assert.js';
import type { FollowDown, FollowUp } from '../gen/keychaindb/v1/chain.js';
import type { EntryId, SnapshotChunk } from '../gen/keychaindb/v1/log.js';
import type { LogBlock } from '../log/event-log.js';
import { origin, sameEntry } from '../log/event-log.js';
import { headerTo, isForMe } from './header.js';
import { feedFrom } from './kept.js';
import { beginInstall, startOver, takeChunks } from './snapshot.js';
import { holds, idAt } from './spans.js';
import type { NodeState, ParkedHello } from './state.js';
import type { Turn } from './turn.js';
import { isHead, isTail, predecessorOf, sameName, servesIn, successorOf } from './views.js';
import { commitThroughKnown, commitWhatMay, failCutWrites, takeToken } from './write.js';

/*
 * Links: the successor dials its predecessor and follows its log (R6, R7). Links are per epoch; a
 * message of another epoch or session is not used.
 */

/** Everything up to here is synced at this node and at all before it (R11). */
export function syncedThrough(state: NodeState): EntryId {
  const { ledger, up, active } = state;
  if (active !== undefined && isHead(active, state.self)) return ledger.synced;
  if (up === undefined || !up.reconciled) return origin;
  return up.syncedThrough.index < ledger.synced.index ? up.syncedThrough : ledger.synced;
}

/** Opens the link of the active epoch to the predecessor, if there is one and none is open. */
export function dialPredecessor(turn: Turn): void {
  const { state } = turn;
  const { active, ledger } = state;
  if (active === undefined || state.removed || state.up !== undefined) return;
  const predecessor = predecessorOf(active, state.self);
  if (predecessor === undefined) return;
  const session = state.nextSession;
  turn.emit({ type: 'UpDialed', session, to: predecessor });
  const ends = ledger.staged.map((b) => b.end).reverse();
  turn.effect({
    type: 'dialPredecessor',
    address: predecessor.address,
    session,
    hello: {
      header: headerTo(state, predecessor),
      session,
      message: {
        $case: 'hello',
        value: { ends: [...ends, ledger.watermark], watermark: ledger.watermark },
      },
    },
  });
}

/** May this node use its downstream link: active, and reconciled with its own predecessor in this epoch (R7). */
function hasToken(state: NodeState): boolean {
  const { active } = state;
  if (active === undefined || state.removed) return false;
  return isHead(active, state.self) || state.up?.reconciled === true;
}

export function onSuccessorSaid(turn: Turn, link: number, message: FollowUp, now: number): void {
  const { state } = turn;
  const { header } = message;
  if (!isForMe(state, header) || state.removed) {
    turn.effect({ type: 'hangUpFollower', link, why: 'not for this incarnation or lineage' });
    return;
  }
  switch (message.message?.$case) {
    case 'hello':
      park(turn, {
        link,
        session: message.session,
        epoch: header.epoch,
        from: header.from,
        ends: message.message.value.ends,
      });
      reconcileFollowers(turn);
      return;
    case 'ack': {
      const { down, active } = state;
      if (down === undefined || down.link !== link || down.session !== message.session) return;
      if (header.epoch !== active?.epoch) return;
      const { synced, watermark, snapshotChunks } = message.message.value;
      if (snapshotChunks > 0) {
        turn.effect({ type: 'snapshotAcked', link, chunks: snapshotChunks });
        return;
      }
      onAck(turn, synced ?? origin, watermark ?? origin, now);
      return;
    }
    default:
      turn.effect({ type: 'hangUpFollower', link, why: 'a message without content' });
  }
}

function onAck(turn: Turn, synced: EntryId, watermark: EntryId, now: number): void {
  const { state } = turn;
  assert(state.down !== undefined, 'an acknowledgment came on a link');
  assert(holds(state.ledger.spans, synced), 'a follower has synced what it was sent', { synced });
  turn.emit({ type: 'DownAcked', synced });
  const { active } = state;
  if (active === undefined) return;
  if (isTail(active, state.self)) {
    commitWhatMay(turn, now);
    turn.effect({ type: 'beat' });
  } else {
    commitThroughKnown(turn, watermark, now);
  }
}

/** Keeps a hello until it can be answered; a newer one of the same process replaces the older. */
function park(turn: Turn, hello: ParkedHello): void {
  const { hellos } = turn.state;
  const older = hellos.findIndex((h) => h.from.id === hello.from.id);
  if (older >= 0) {
    const [gone] = hellos.splice(older, 1);
    if (gone !== undefined && gone.link !== hello.link) {
      turn.effect({ type: 'hangUpFollower', link: gone.link, why: 'a newer hello came' });
    }
  }
  hellos.push(hello);
  const { state } = turn;
  turn.effect({
    type: 'keepWaiting',
    link: hello.link,
    message: {
      header: headerTo(state, hello.from),
      session: hello.session,
      common: undefined,
      syncedThrough: undefined,
      watermark: undefined,
      items: [],
      snapshot: undefined,
    },
  });
}

/** Drops hellos of older epochs: those processes dial again. */
export function closeHellos(turn: Turn): void {
  const { hellos, active } = turn.state;
  const epoch = active?.epoch ?? 0;
  for (const hello of hellos.filter((h) => h.epoch < epoch)) {
    turn.effect({ type: 'hangUpFollower', link: hello.link, why: 'an older epoch' });
  }
  hellos.splice(0, hellos.length, ...hellos.filter((h) => h.epoch >= epoch));
}

/** Answers the successor's hello of this epoch once the token is here. */
export function reconcileFollowers(turn: Turn): void {
  const { state } = turn;
  const { active, hellos } = state;
  if (active === undefined || !hasToken(state)) return;
  for (const hello of [...hellos]) {
    if (hello.epoch > active.epoch) continue;
    hellos.splice(hellos.indexOf(hello), 1);
    const successor = successorOf(active, state.self);
    if (hello.epoch < active.epoch || !successor || !sameName(successor, hello.from)) {
      turn.effect({ type: 'hangUpFollower', link: hello.link, why: 'not my successor' });
      continue;
    }
    feed(turn, hello);
  }
}

function feed(turn: Turn, hello: ParkedHello): void {
  const { state } = turn;
  if (state.down !== undefined && state.down.link !== hello.link) {
    turn.effect({
      type: 'hangUpFollower',
      link: state.down.link,
      why: 'the successor dialed again',
    });
  }
  const { after, isSnapshot } = feedFrom(state, hello.ends);
  const { link, session, from } = hello;
  assert(
    !isSnapshot || state.active === undefined || !servesIn(state.active, from),
    'what a serving member lacks is in the log',
    { ends: hello.ends, start: state.kept.start.id },
  );
  turn.emit({ type: 'DownReconciled', link, session, from, after });
  const first = downMessage(state);
  turn.effect(
    isSnapshot
      ? { type: 'feedSnapshot', link, session, first }
      : { type: 'feed', link, session, common: after, first: { ...first, common: after } },
  );
}

/** What a message to the follower says beside its blocks; the shell asks for it when the link is free. */
export function downMessage(state: NodeState): FollowDown {
  const { down, ledger } = state;
  assert(down !== undefined, 'there is a follower');
  return {
    header: headerTo(state, down.from),
    session: down.session,
    common: undefined,
    syncedThrough: syncedThrough(state),
    watermark: ledger.watermark,
    items: [],
    snapshot: undefined,
  };
}

/** What this node acknowledges to its predecessor; the shell asks for it when the link is free. */
export function upMessage(state: NodeState): FollowUp | undefined {
  const { up, ledger } = state;
  if (up === undefined) return undefined;
  const snapshotChunks = up.install?.stored ?? 0;
  if (!up.reconciled && snapshotChunks === 0) return undefined;
  const { synced, watermark } = ledger;
  return {
    header: headerTo(state, up.to),
    session: up.session,
    message: { $case: 'ack', value: { synced, watermark, snapshotChunks } },
  };
}

export function onPredecessorSaid(
  turn: Turn,
  message: FollowDown,
  blocks: readonly LogBlock[],
  chunks: readonly SnapshotChunk[],
  now: number,
): void {
  const { state } = turn;
  const { up, active } = state;
  if (state.removed || active === undefined || up === undefined) return;
  if (message.session !== up.session || !isForMe(state, message.header)) return;
  turn.emit({ type: 'UpHeard', now });
  if (message.header.epoch !== active.epoch || !sameName(message.header.from, up.to)) return;
  // Nothing, where the link is new: the follower may have heard less on the one before.
  const before = syncedThrough(state).index;
  if (!up.reconciled) {
    const { snapshot } = message;
    if (snapshot !== undefined && up.install === undefined) beginInstall(turn, snapshot);
    if (up.install !== undefined) {
      takeChunks(turn, chunks);
      return;
    }
    if (message.common === undefined) return;
    if (!reconcile(turn, message.common, message.syncedThrough ?? origin)) return;
  }
  if (!take(turn, blocks)) return;
  const through = message.syncedThrough ?? origin;
  if (state.up !== undefined && through.index > state.up.syncedThrough.index) {
    assert(
      holds(state.ledger.spans, through) || through.index > state.ledger.last.index,
      'same log',
      {
        through,
        last: state.ledger.last,
      },
    );
    turn.emit({ type: 'UpSynced', through });
  }
  if (state.down !== undefined && syncedThrough(state).index > before) {
    turn.effect({ type: 'refreshFollower', link: state.down.link });
  }
  if (isTail(active, state.self)) {
    if (state.authorityAt === undefined) takeToken(turn);
    commitWhatMay(turn, now);
  } else if (message.watermark !== undefined) {
    commitThroughKnown(turn, message.watermark, now);
  }
  reconcileFollowers(turn);
}

/** R6: cut back to the last common entry, never below the watermark. False: this store can't follow. */
function reconcile(turn: Turn, common: EntryId, through: EntryId): boolean {
  const { state } = turn;
  const { ledger } = state;
  assert(state.up !== undefined, 'a link was dialed before it is reconciled');
  if (state.incomplete) {
    startOver(turn, 'this store holds a part of a snapshot, and the chain goes on from its log');
    return false;
  }
  if (common.index < ledger.watermark.index) {
    assert(
      state.active === undefined || !servesIn(state.active, state.self),
      'a serving member has nothing committed that its predecessor lacks',
      { common, watermark: ledger.watermark },
    );
    startOver(
      turn,
      `the chain's log and this store's part below its watermark (${ledger.watermark.index})`,
    );
    return false;
  }
  if (!sameEntry(common, ledger.last)) {
    turn.emit({ type: 'SuffixCut', after: common });
    failCutWrites(turn, common.index);
  }
  turn.emit({ type: 'UpReconciled', syncedThrough: through });
  turn.effect({ type: 'acknowledge', session: state.up.session });
  return true;
}

/** Appends what was streamed; a gap closes the link, which then resumes from the last common block. */
function take(turn: Turn, blocks: readonly LogBlock[]): boolean {
  const { state } = turn;
  for (const block of blocks) {
    if (block.end.index <= state.ledger.last.index) {
      assert(
        idAt(state.ledger.spans, block.end.index).generation === block.end.generation,
        'a block that came twice is the same',
        { end: block.end },
      );
      continue;
    }
    if (!sameEntry(block.previous, state.ledger.last)) {
      closeUp(turn, `a gap: ${block.previous.index} after ${state.ledger.last.index}`);
      return false;
    }
    turn.emit({ type: 'BlockAppended', block, stored: false });
  }
  return true;
}

export function closeUp(turn: Turn, why: string): void {
  const { up } = turn.state;
  if (up === undefined) return;
  turn.effect({ type: 'hangUpPredecessor', session: up.session, why });
  turn.emit({ type: 'UpClosed' });
}

export function onUpLinkClosed(turn: Turn, session: number): void {
  if (turn.state.up?.session === session) turn.emit({ type: 'UpClosed' });
}

export function onDownLinkClosed(turn: Turn, link: number): void {
  const { state } = turn;
  const index = state.hellos.findIndex((h) => h.link === link);
  if (index >= 0) state.hellos.splice(index, 1);
  if (state.down?.link === link) turn.emit({ type: 'DownClosed' });
}

/** Own disk: what is synced may be acknowledged, forwarded, committed. */
export function onLogSynced(
  turn: Turn,
  through: EntryId,
  blocks: readonly LogBlock[],
  now: number,
): void {
  const { state } = turn;
  const { ledger } = state;
  for (const block of blocks) {
    // An entry that was put into the log without a request: the log drives the chain all the same.
    if (sameEntry(block.previous, ledger.last)) {
      turn.emit({ type: 'BlockAppended', block, stored: true });
    }
  }
  if (!holds(ledger.spans, through) || through.index <= ledger.synced.index) return;
  const before = syncedThrough(state).index;
  turn.emit({ type: 'Synced', through });
  if (state.up?.reconciled === true) {
    turn.effect({ type: 'acknowledge', session: state.up.session });
  }
  // The blocks went ahead of the sync; that they are on the disk follows them (R11).
  if (state.down !== undefined && syncedThrough(state).index > before) {
    turn.effect({ type: 'refreshFollower', link: state.down.link });
  }
  commitWhatMay(turn, now);
}

import { assert } from '../base/assert.js';
import { MemberState } from '../gen/keychaindb/v1/coordinator.js';
import type { SnapshotBase, SnapshotChunk } from '../gen/keychaindb/v1/log.js';
import { sameEntry } from '../log/event-log.js';
import { droppable, type LogMark } from './kept.js';
import { closeUp } from './link.js';
import type { Ledger } from './state.js';
import type { Turn } from './turn.js';
import { memberOf } from './views.js';

/*
 * A member whose log ends before the one of its predecessor begins gets a base instead, and the log after it
 * (R17). From the first word of it until it is whole this store holds nothing that counts.
 */

/** The predecessor sends a snapshot: everything that is here goes. */
export function beginInstall(turn: Turn, base: SnapshotBase): void {
  const { state } = turn;
  const { active, up, ledger } = state;
  assert(active !== undefined && up !== undefined, 'a snapshot comes on a link of this epoch');
  const { at } = base;
  if (at === undefined || at.index === 0) {
    closeUp(turn, 'a snapshot of nothing');
    return;
  }
  const member = memberOf(active, state.self)?.state;
  assert(
    member !== MemberState.SERVING && at.index > ledger.watermark.index,
    'a serving member has all that is committed, and a snapshot has more than whom it is for',
    { at, watermark: ledger.watermark },
  );
  if (member !== MemberState.SYNCING) {
    startOver(turn, `the chain's log begins after this store's end (${ledger.last.index})`);
    return;
  }
  turn.emit({ type: 'SnapshotBegun', base, at });
}

/** Chunks in their order; what is missing closes the link, and the next one begins anew. */
export function takeChunks(turn: Turn, chunks: readonly SnapshotChunk[]): void {
  const { state } = turn;
  for (const chunk of chunks) {
    const { up } = state;
    const install = up?.install;
    if (up === undefined || install === undefined) return;
    const isNext =
      chunk.at !== undefined &&
      sameEntry(chunk.at, install.at) &&
      chunk.sequence === install.taken &&
      chunk.sequence < install.chunks;
    if (!isNext) {
      closeUp(turn, `chunk ${chunk.sequence} of a snapshot after ${install.taken} of them`);
      return;
    }
    turn.emit({ type: 'ChunkTaken' });
    turn.effect({ type: 'storeChunk', session: up.session, chunk });
    if (chunk.sequence + 1 === install.chunks) {
      turn.effect({ type: 'completeInstall', session: up.session });
    }
  }
}

/** So many chunks are in the store: the predecessor may send more. */
export function onChunksStored(turn: Turn, session: number, chunks: number): void {
  const { up } = turn.state;
  if (up?.session !== session || up.install === undefined) return;
  turn.emit({ type: 'ChunksStored', chunks });
  turn.effect({ type: 'acknowledge', session });
}

/** The store is whole, and synced: what it holds counts from here on, as after a start. */
export function onInstalled(turn: Turn, session: number, ledger: Ledger): void {
  const { up } = turn.state;
  // The link has ended meanwhile: the next one begins anew, for the state that this one made is not this core's.
  if (up?.session !== session || up.install === undefined) return;
  assert(sameEntry(ledger.last, up.install.at), 'the log goes on at the revision of the snapshot', {
    last: ledger.last,
    at: up.install.at,
  });
  turn.emit({ type: 'SnapshotInstalled', ledger });
  turn.effect({ type: 'acknowledge', session });
}

/** A base became valid: the log may begin later. */
export function onBaseWritten(turn: Turn, base: LogMark): void {
  const { state } = turn;
  if (state.incomplete || base.id.index <= state.kept.base.id.index) return;
  const through = droppable(state);
  turn.emit({ type: 'BaseMade', base });
  if (through !== undefined) turn.emit({ type: 'LogDropped', through });
}

/** This incarnation is over, and what its store holds is no part of the chain. */
export function startOver(turn: Turn, why: string): void {
  turn.effect({ type: 'stop', wipe: true, why });
  turn.emit({ type: 'Removed' });
}

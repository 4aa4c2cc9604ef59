import { assert } from '../base/assert.js';
import { KeychainError } from '../base/errors.js';
import { EntryId, RaftGroup, RaftSnapshot } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import { type EventLog, origin } from '../log/event-log.js';
import { metaKey } from '../log/keys.js';
import { type DurableState, emptyDurable, evolve, type RaftEvent, snapshotId } from './state.js';

const termKey = metaKey('raft-term');
const voteKey = metaKey('raft-vote');
const groupKey = metaKey('raft-group');
const snapshotKey = metaKey('raft-snapshot');

type Get = (key: Uint8Array) => Promise<Uint8Array | undefined>;

/** Hands an event to the disk. What one turn of the event loop hands over is one atomic write. */
export function persist(log: EventLog, event: RaftEvent, state: DurableState): void {
  switch (event.type) {
    case 'GroupFounded':
      log.record([put(groupKey, RaftGroup.encode(event.group).finish())], { sync: true });
      return;
    case 'TermVoted':
      log.record(recordVote(event.term, event.vote), { sync: true });
      return;
    case 'EntriesAppended':
      log.append(event.blocks);
      return;
    case 'SuffixCut':
      log.cut(event.after === 0 ? origin : state.log.at(event.after));
      return;
    case 'SnapshotTaken':
      log.record([recordSnapshot(event.snapshot)], { sync: true });
      log.drop(state.log.base);
      return;
    case 'SnapshotInstalled':
      log.record([recordSnapshot(event.snapshot)], { sync: true });
      if (state.log.base.index === snapshotId(event.snapshot).index) log.reset(state.log.base);
      return;
  }
}

function put(key: Uint8Array, value: Uint8Array): WriteOp {
  return { type: 'put', key, value };
}

/** Term and vote, in one batch. */
export function recordVote(term: number, vote: string): readonly WriteOp[] {
  return [
    put(termKey, EntryId.encode({ generation: term, index: 0 }).finish()),
    put(voteKey, new TextEncoder().encode(vote)),
  ];
}

function recordSnapshot(snapshot: RaftSnapshot): WriteOp {
  return put(snapshotKey, RaftSnapshot.encode(snapshot).finish());
}

/** Term and vote as they stand on the disk; 0 and '' where there are none. */
export async function readVote(
  get: Get,
): Promise<{ readonly term: number; readonly vote: string }> {
  const term = await get(termKey);
  const vote = await get(voteKey);
  return {
    term: term === undefined ? 0 : EntryId.decode(term).generation,
    vote: vote === undefined ? '' : new TextDecoder().decode(vote),
  };
}

/** The snapshot that stands for the beginning of the log; undefined where the log has its beginning. */
export async function readSnapshot(get: Get): Promise<RaftSnapshot | undefined> {
  const bytes = await get(snapshotKey);
  return bytes === undefined ? undefined : RaftSnapshot.decode(bytes);
}

/** The fold of what stands on the disk: the same that the member had. Throws KeychainError CORRUPT. */
export async function readDurable(log: EventLog): Promise<DurableState> {
  const state = emptyDurable();
  const get: Get = (key) => log.get(key);
  evolve(state, { type: 'TermVoted', ...(await readVote(get)) });
  const group = await get(groupKey);
  if (group !== undefined) {
    evolve(state, { type: 'GroupFounded', group: RaftGroup.decode(group) });
  }
  const snapshot = await readSnapshot(get);
  if (snapshot !== undefined) {
    evolve(state, { type: 'SnapshotInstalled', snapshot });
    // Some of what it stands for is kept.
    state.log.reset(log.start);
  }
  if (log.start.index > snapshotId(snapshot).index) {
    throw new KeychainError(
      'CORRUPT',
      `the log begins after entry ${log.start.index}, and no snapshot stands for what was before it`,
    );
  }
  for await (const block of log.read(log.start)) {
    evolve(state, { type: 'EntriesAppended', blocks: [block] });
  }
  assert(
    snapshot === undefined ||
      state.log.termAt(snapshotId(snapshot).index) === snapshot.at?.generation,
    'the log goes on after its snapshot',
    { snapshot: snapshot?.at, last: state.log.last },
  );
  return state;
}

/** Holds its folder nothing that the others could count on? 0.1.0 founded no group, but voted. */
export function isBlank(state: DurableState): boolean {
  return !isFounded(state) && state.term === 0;
}

/** Has this member ever known of a group? */
export function isFounded({ groups, snapshot }: DurableState): boolean {
  return snapshot !== undefined || groups.some(({ group }) => group.members.length > 0);
}

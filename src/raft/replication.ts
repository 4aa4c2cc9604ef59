import { assert } from '../base/assert.js';
import { noBytes } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { AppendRequest, AppendResponse } from '../gen/keychaindb/v1/raft.js';
import { encodeBlock, payloadChecksum } from '../log/block.js';
import { type LogBlock, origin } from '../log/event-log.js';
import { isMajority, isSeen, majorityIndex } from './group.js';
import { appendBytesMax, appendEntriesMax } from './limits.js';
import { carried, matched, mayCarry, type Progress, probeFrom } from './progress.js';
import { sendSnapshot } from './snapshot.js';
import { currentGroup, groupAt, others, type RaftState } from './state.js';
import type { Turn } from './turn.js';

/** One entry, one block. */
export function appendAsLeader(turn: Turn, payload: Uint8Array, isGroup = false): EntryId {
  const { state } = turn;
  const { log, term } = state.durable;
  const index = log.last.index + 1;
  // The wall clock never goes back in the log.
  state.lastAt = Math.max(state.lastAt, Math.floor(turn.wall));
  const entry = {
    generation: term,
    index,
    at: state.lastAt,
    request: undefined,
    trace: noBytes,
    payload,
    checksum: payloadChecksum(payload),
    isGroup,
  };
  const block = encodeBlock({ chainId: 0, previous: log.last, entries: [entry] });
  turn.emit({ type: 'EntriesAppended', blocks: [block] });
  state.uncommittedBytes += payload.byteLength;
  return block.end;
}

/** To every other member: what it lacks, or a heartbeat. */
export function broadcast(turn: Turn): void {
  turn.state.round += 1;
  for (const { id } of others(turn.state)) sendAppend(turn, id, true);
}

/** What a follower lacks; nothing where there is nothing, unless `heartbeat`. */
export function sendAppend(turn: Turn, to: string, heartbeat: boolean): void {
  const { state } = turn;
  const { log } = state.durable;
  const progress = state.progress.get(to);
  if (progress === undefined) return;
  if (progress.next <= log.base.index) sendSnapshot(turn, to, progress);
  const blocks = mayCarry(progress) ? batchFrom(state, progress.next) : [];
  if (blocks.length === 0 && !heartbeat) return;
  const request = {
    // While a snapshot is under way nothing is compared: the message only says who leads.
    previous: progress.mode === 'snapshot' ? origin : log.at(progress.next - 1),
    blocks: blocks.map((block) => block.bytes),
    commit: state.commit,
    round: state.round,
  };
  if (blocks.length > 0) {
    const bytes = blocks.reduce((sum, block) => sum + block.bytes.byteLength, 0);
    carried(progress, progress.next + blocks.length - 1, bytes);
  }
  // Its own sync isn't waited for: it counts for a commit only when it is done (thesis §10.2.1).
  turn.send(to, { $case: 'appendRequest', value: request }, { afterSync: false });
}

function batchFrom({ durable }: RaftState, from: number): readonly LogBlock[] {
  const blocks: LogBlock[] = [];
  let bytes = 0;
  const through = Math.min(durable.log.last.index, from + appendEntriesMax - 1);
  for (const block of durable.log.between(from, through)) {
    bytes += block.bytes.byteLength;
    if (blocks.length > 0 && bytes > appendBytesMax) break;
    blocks.push(block);
  }
  return blocks;
}

/** The receiver's part (figure 2, AppendEntries); the request is of the own term. */
export function onAppendRequest(
  turn: Turn,
  from: string,
  request: AppendRequest,
  received: readonly LogBlock[],
): void {
  const { state } = turn;
  const { log } = state.durable;
  const answer = (response: Omit<AppendResponse, 'round'>): void =>
    turn.send(
      from,
      { $case: 'appendResponse', value: { ...response, round: request.round } },
      { afterSync: true },
    );
  let previous = request.previous ?? origin;
  let blocks = received;
  if (previous.index < state.commit) {
    // What is committed here is the same everywhere: it needs no comparison and is never cut.
    blocks = received.filter(({ end }) => end.index > state.commit);
    previous = log.at(state.commit);
  }
  if (log.termAt(previous.index) !== previous.generation) {
    answer({ accepted: false, match: 0, conflict: conflictAt(state, previous.index) });
    return;
  }
  const match = previous.index + blocks.length;
  take(turn, blocks);
  answer({ accepted: true, match, conflict: undefined });
  commitThrough(turn, Math.min(request.commit, match));
}

/** Appends what is new; where an entry conflicts, it goes with all behind it (§5.3). */
function take(turn: Turn, blocks: readonly LogBlock[]): void {
  const { state } = turn;
  const { log } = state.durable;
  const first = blocks.findIndex(({ end }) => log.termAt(end.index) !== end.generation);
  const [block] = first < 0 ? [] : blocks.slice(first);
  if (block === undefined) return;
  const { index } = block.end;
  if (index <= log.last.index) {
    assert(index > state.commit, 'a committed entry is never cut', { index, commit: state.commit });
    turn.emit({ type: 'SuffixCut', after: index - 1 });
  }
  turn.emit({ type: 'EntriesAppended', blocks: blocks.slice(first) });
  state.lastAt = Math.max(state.lastAt, blocks.at(-1)?.entries[0]?.at ?? 0);
}

/** Where the logs part at the latest: the conflicting entry's term and its first index, or the log's end (§5.3). */
function conflictAt({ durable: { log } }: RaftState, index: number): EntryId {
  const term = log.termAt(index);
  if (term === undefined) return { generation: 0, index: log.last.index + 1 };
  return { generation: term, index: log.firstOfTerm(index) };
}

/** A leader hears of a follower. */
export function onAppendResponse(turn: Turn, from: string, response: AppendResponse): void {
  const { state, now } = turn;
  const { log } = state.durable;
  const progress = state.progress.get(from);
  if (progress === undefined) return;
  progress.heardAt = now;
  progress.round = Math.max(progress.round, response.round);
  if (response.accepted) {
    const match = Math.min(response.match, log.last.index);
    // While a snapshot is under way an answer to something older says nothing of it; one that lost its race with
    // the log needs no answer of its own (B11).
    const needed = Math.min(progress.snapshotIndex, log.base.index);
    if (progress.mode !== 'snapshot' || match >= needed) matched(progress, match);
    advanceCommit(turn);
  } else if (progress.mode !== 'snapshot') {
    const conflict = response.conflict ?? { generation: 0, index: 1 };
    // A log doesn't end before what its member has: it is an old answer, or a disk that was lost, and asking again at
    // once would be answered the same (B11).
    if (conflict.generation === 0 && conflict.index <= progress.match) return;
    backUp(state, progress, conflict);
  }
  if (state.role === 'leader') sendAppend(turn, from, !response.accepted);
}

function backUp({ durable: { log } }: RaftState, progress: Progress, conflict: EntryId): void {
  const ours = conflict.generation === 0 ? undefined : log.lastOfTerm(conflict.generation);
  const next = ours === undefined ? conflict.index : Math.min(ours + 1, progress.next - 1);
  probeFrom(progress, Math.max(1, Math.min(next, log.last.index + 1)));
}

/** §5.3, §5.4.2: an entry of the own term on a majority's disks commits everything up to it. */
export function advanceCommit(turn: Turn): void {
  const { state } = turn;
  if (state.role !== 'leader') return;
  // The own disk counts as the others' do, when it is synced (B4); not at all where it is no voter's.
  const { group } = currentGroup(state.durable);
  const matchOf = (id: string): number =>
    id === state.id ? state.synced : (state.progress.get(id)?.match ?? 0);
  const index = majorityIndex(group, matchOf);
  // Whoever has what is committed has it in its log who made it so: those never start with an empty folder (decision 16).
  const then = groupAt(state.durable, index);
  if (!isMajority(group, (id) => matchOf(id) >= index && isSeen(then, id))) return;
  if (index > state.commit && state.durable.log.termAt(index) === state.durable.term) {
    commitThrough(turn, index);
    // Followers learn it at once: a proposal's answer doesn't wait for a heartbeat.
    broadcast(turn);
  }
}

export function commitThrough(turn: Turn, index: number): void {
  const { state } = turn;
  if (index <= state.commit) return;
  for (const { entries } of state.durable.log.between(state.commit + 1, index)) {
    state.uncommittedBytes -= entries[0]?.payload.byteLength ?? 0;
  }
  state.uncommittedBytes = Math.max(0, state.uncommittedBytes);
  state.commit = index;
  turn.effect({ type: 'apply', through: index });
}

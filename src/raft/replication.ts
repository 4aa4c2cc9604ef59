import { assert } from '../base/assert.js';
import { noBytes } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { AppendRequest, AppendResponse } from '../gen/keychaindb/v1/raft.js';
import { encodeBlock, payloadChecksum } from '../log/block.js';
import type { LogBlock } from '../log/event-log.js';
import { appendBytesMax, appendEntriesMax, inFlightMax } from './limits.js';
import { majority, type Progress, type RaftState } from './state.js';
import type { Turn } from './turn.js';

/** One entry, one block; `wall`: milliseconds, made never to go back in the log. */
export function appendAsLeader(turn: Turn, payload: Uint8Array, wall: number): EntryId {
  const { state } = turn;
  const { log, term } = state.durable;
  const index = log.last.index + 1;
  state.lastAt = Math.max(state.lastAt, Math.floor(wall));
  const entry = {
    generation: term,
    index,
    at: state.lastAt,
    request: undefined,
    trace: noBytes,
    payload,
    checksum: payloadChecksum(payload),
  };
  const block = encodeBlock({ chainId: 0, previous: log.last, entries: [entry] });
  turn.emit({ type: 'EntriesAppended', blocks: [block] });
  state.uncommittedBytes += payload.byteLength;
  return block.end;
}

/** To every follower: what it lacks, or a heartbeat. */
export function broadcast(turn: Turn): void {
  turn.state.round += 1;
  for (const peer of turn.state.peers) sendAppend(turn, peer, true);
}

/** What a follower lacks; nothing where there is nothing, unless `heartbeat`. */
export function sendAppend(turn: Turn, peer: string, heartbeat: boolean): void {
  const { state } = turn;
  const progress = state.progress.get(peer);
  if (progress === undefined) return;
  const mayCarry = progress.inFlight < (progress.probing ? 1 : inFlightMax);
  const blocks = mayCarry ? batchFrom(state, progress.next) : [];
  if (blocks.length === 0 && !heartbeat) return;
  const request = {
    previous: state.durable.log.at(progress.next - 1),
    blocks: blocks.map((block) => block.bytes),
    commit: state.commit,
    round: state.round,
  };
  if (blocks.length > 0) {
    progress.inFlight += 1;
    if (!progress.probing) progress.next += blocks.length;
  }
  // Its own sync isn't waited for: it counts for a commit only when it is done.
  turn.send(peer, { $case: 'appendRequest', value: request }, { afterSync: false });
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
  blocks: readonly LogBlock[],
): void {
  const { state } = turn;
  const { log } = state.durable;
  const previous = request.previous ?? { generation: 0, index: 0 };
  const answer = (response: Omit<AppendResponse, 'round'>): void =>
    turn.send(
      from,
      { $case: 'appendResponse', value: { ...response, round: request.round } },
      { afterSync: true },
    );
  // What is committed here is the same everywhere: it needs no comparison and is never cut.
  if (previous.index < state.commit && blocks.length === 0) {
    answer({ accepted: true, match: previous.index, conflict: undefined });
    return;
  }
  if (log.termAt(previous.index) !== previous.generation) {
    answer({ accepted: false, match: 0, conflict: conflictAt(state, previous.index) });
    return;
  }
  let match = previous.index;
  for (const [position, block] of blocks.entries()) {
    const { generation, index } = block.end;
    if (log.termAt(index) !== generation) {
      if (index <= log.last.index) {
        assert(index > state.commit, 'a committed entry is never cut', {
          index,
          commit: state.commit,
        });
        turn.emit({ type: 'SuffixCut', after: index - 1 });
        state.synced = Math.min(state.synced, index - 1);
      }
      turn.emit({ type: 'EntriesAppended', blocks: blocks.slice(position) });
      match = previous.index + blocks.length;
      break;
    }
    match = index;
  }
  state.lastAt = Math.max(state.lastAt, blocks.at(-1)?.entries[0]?.at ?? 0);
  answer({ accepted: true, match, conflict: undefined });
  commitThrough(turn, Math.min(request.commit, match));
}

/** Where the logs part at the latest: the conflicting entry's term and its first index, or the log's end (§5.3). */
function conflictAt({ durable: { log } }: RaftState, index: number): EntryId {
  const term = log.termAt(index);
  if (term === undefined) return { generation: 0, index: log.last.index + 1 };
  return { generation: term, index: log.firstOfTerm(index) };
}

export function onAppendResponse(turn: Turn, from: string, response: AppendResponse): void {
  const { state, now } = turn;
  const progress = state.progress.get(from);
  if (progress === undefined) return;
  progress.heardAt = now;
  if (progress.inFlight > 0) progress.inFlight -= 1;
  if (response.accepted) {
    progress.probing = false;
    progress.match = Math.max(progress.match, response.match);
    progress.next = Math.max(progress.next, progress.match + 1);
    advanceCommit(turn);
  } else {
    backUp(state, progress, response.conflict ?? { generation: 0, index: 1 });
  }
  sendAppend(turn, from, !response.accepted);
}

function backUp({ durable: { log } }: RaftState, progress: Progress, conflict: EntryId): void {
  const ours = conflict.generation === 0 ? undefined : log.lastOfTerm(conflict.generation);
  const next = ours === undefined ? conflict.index : Math.min(ours + 1, progress.next - 1);
  progress.next = Math.max(progress.match + 1, Math.min(next, log.last.index + 1), 1);
  progress.probing = true;
  progress.inFlight = 0;
}

/** §5.3, §5.4.2: an entry of the own term on a majority's disks commits everything up to it. */
export function advanceCommit(turn: Turn): void {
  const { state } = turn;
  if (state.role !== 'leader') return;
  const synced = [state.synced, ...[...state.progress.values()].map((p) => p.match)];
  synced.sort((a, b) => b - a);
  const index = synced[majority(state) - 1] ?? 0;
  if (index > state.commit && state.durable.log.termAt(index) === state.durable.term) {
    commitThrough(turn, index);
    // Followers learn it at once: a proposal's answer doesn't wait for a heartbeat.
    broadcast(turn);
  }
}

function commitThrough(turn: Turn, index: number): void {
  const { state } = turn;
  if (index <= state.commit) return;
  for (const { entries } of state.durable.log.between(state.commit + 1, index)) {
    state.uncommittedBytes -= entries[0]?.payload.byteLength ?? 0;
  }
  state.uncommittedBytes = Math.max(0, state.uncommittedBytes);
  state.commit = index;
  turn.effect({ type: 'apply', through: index });
}

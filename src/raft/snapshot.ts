import type { SnapshotRequest } from '../gen/keychaindb/v1/raft.js';
import type { Progress } from './progress.js';
import { groupAt, type RaftState, snapshotId } from './state.js';
import type { Turn } from './turn.js';

/** Is it time to let a snapshot stand for the log (thesis §5.1)? */
export function isSnapshotDue(state: RaftState): boolean {
  const { durable, applied, limits, snapshotAsked } = state;
  const newest = Math.max(snapshotId(durable.snapshot).index, snapshotAsked);
  return applied - newest >= limits.snapshotEntries;
}

/** The state machine has said what it is; a tail of the log stays, for followers that lack a little. */
export function onSnapshotMade(turn: Turn, index: number, made: Uint8Array): void {
  const { state } = turn;
  const { durable, limits } = state;
  const { log } = durable;
  if (index > state.applied || index <= snapshotId(durable.snapshot).index) return;
  const [block] = log.between(index, index);
  const snapshot = {
    at: log.at(index),
    time: block?.entries[0]?.at ?? 0,
    group: groupAt(durable, index),
    state: made,
  };
  const dropped = Math.max(log.base.index, Math.min(index - limits.keptEntries, state.synced));
  turn.emit({ type: 'SnapshotTaken', snapshot, dropped });
}

/** What a follower lacks is not kept any more. Sent anew where no answer comes. */
export function sendSnapshot(turn: Turn, to: string, progress: Progress): void {
  const { state, now } = turn;
  const { snapshot } = state.durable;
  const isLost = now - progress.snapshotSentAt >= 4 * state.limits.electionMs;
  if (snapshot === undefined || (progress.mode === 'snapshot' && !isLost)) return;
  progress.mode = 'snapshot';
  progress.snapshotIndex = snapshotId(snapshot).index;
  progress.snapshotSentAt = now;
  progress.inFlight = [];
  progress.inFlightBytes = 0;
  const value = { snapshot, round: state.round };
  turn.send(to, { $case: 'snapshotRequest', value }, { afterSync: false });
}

/** The receiver's part (thesis §5.3, InstallSnapshot); the request is of the own term. */
export function onSnapshotRequest(turn: Turn, from: string, request: SnapshotRequest): void {
  const { state } = turn;
  const { snapshot, round } = request;
  if (snapshot === undefined) return;
  const { index } = snapshotId(snapshot);
  if (index > state.commit) {
    turn.emit({ type: 'SnapshotInstalled', snapshot });
    state.commit = index;
    state.lastAt = Math.max(state.lastAt, snapshot.time);
    turn.effect({ type: 'restore', snapshot });
  }
  // Of what is committed here nothing is taken back, whatever the snapshot says.
  const value = { accepted: true, match: state.commit, conflict: undefined, round };
  turn.send(from, { $case: 'appendResponse', value }, { afterSync: true });
}

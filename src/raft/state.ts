import type { EntryId, GroupMember, RaftGroup, RaftSnapshot } from '../gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from '../log/event-log.js';
import { emptyGroup, type GroupAt, groupIn } from './group.js';
import type { RaftEffect } from './inputs.js';
import type { Progress } from './progress.js';
import { RaftLog } from './raft-log.js';

/** What survives a restart; the fold of the events, and nothing else (Raft §5, figure 2: persistent state). */
export interface DurableState {
  term: number;
  /** Who got this member's vote in `term`; '' for nobody. */
  vote: string;
  /** Stands for the entries through its own; some of them may be kept. */
  snapshot: RaftSnapshot | undefined;
  readonly log: RaftLog;
  /**
   * The groups that the kept log decides, oldest first, the first one as it was before it. The newest one holds,
   * committed or not (thesis §4.1).
   */
  groups: GroupAt[];
}

/** A stored fact. On the disk before any effect that depends on it. */
export type RaftEvent =
  | { readonly type: 'GroupFounded'; readonly group: RaftGroup }
  | { readonly type: 'TermVoted'; readonly term: number; readonly vote: string }
  | { readonly type: 'EntriesAppended'; readonly blocks: readonly LogBlock[] }
  | { readonly type: 'SuffixCut'; readonly after: number }
  /** The own state machine's; and the entries through `dropped` are forgotten. */
  | {
      readonly type: 'SnapshotTaken';
      readonly snapshot: RaftSnapshot;
      readonly dropped: number;
    }
  /** The leader's. A log that goes on after it stays; one that parts from it goes. */
  | { readonly type: 'SnapshotInstalled'; readonly snapshot: RaftSnapshot };

export function emptyDurable(): DurableState {
  return {
    term: 0,
    vote: '',
    snapshot: undefined,
    log: new RaftLog(),
    groups: [{ index: 0, group: emptyGroup }],
  };
}

/** The only way the durable state changes; replay runs this alone. */
export function evolve(state: DurableState, event: RaftEvent): void {
  switch (event.type) {
    case 'GroupFounded':
      state.groups = [{ index: 0, group: event.group }];
      return;
    case 'TermVoted':
      state.term = event.term;
      state.vote = event.vote;
      return;
    case 'EntriesAppended':
      for (const block of event.blocks) {
        state.log.append(block);
        const group = groupIn(block);
        if (group !== undefined) state.groups.push({ index: block.end.index, group });
      }
      return;
    case 'SuffixCut':
      state.log.cutAfter(event.after);
      state.groups = state.groups.filter(({ index }) => index <= event.after);
      return;
    case 'SnapshotTaken':
      state.snapshot = event.snapshot;
      state.log.dropThrough(event.dropped);
      dropGroups(state);
      return;
    case 'SnapshotInstalled':
      install(state, event.snapshot);
      return;
  }
}

/** Of the groups before the kept log only the newest one matters. */
function dropGroups(state: DurableState): void {
  const { base } = state.log;
  const older = state.groups.filter(({ index }) => index <= base.index);
  state.groups = [...older.slice(-1), ...state.groups.filter(({ index }) => index > base.index)];
}

function install(state: DurableState, snapshot: RaftSnapshot): void {
  const at = snapshotId(snapshot);
  state.snapshot = snapshot;
  // What follows it is the leader's too, or will be found not to be: it may have been acknowledged (B9).
  if (keepsLog(state, snapshot)) return;
  state.log.reset(at);
  state.groups = [{ index: at.index, group: snapshot.group ?? emptyGroup }];
}

/** Does the log hold the entry that a snapshot ends with? */
export function keepsLog({ log }: DurableState, snapshot: RaftSnapshot): boolean {
  const at = snapshotId(snapshot);
  return log.termAt(at.index) === at.generation;
}

export function snapshotId(snapshot: RaftSnapshot | undefined): EntryId {
  return snapshot?.at ?? origin;
}

/** The group that holds now, committed or not. */
export function currentGroup({ groups }: DurableState): GroupAt {
  return groups.at(-1) ?? { index: 0, group: emptyGroup };
}

/** The group as it was at an entry. */
export function groupAt({ groups }: DurableState, index: number): RaftGroup {
  return groups.findLast((g) => g.index <= index)?.group ?? emptyGroup;
}

/** Who waits for an entry of this leader: a caller of this process, or a follower that passed it on. */
export type Proposer =
  | { readonly type: 'local'; readonly token: number }
  | { readonly type: 'remote'; readonly from: string; readonly id: number };

/** What a leader, or a follower that asked it, knows of a read that waits for the leader's word. */
export interface PendingRead {
  readonly reader: Proposer;
  /** What was committed when it came. */
  readonly index: number;
  /** It is answered when a majority has answered a message of this round, or a later one. */
  readonly round: number;
}

/** A member that is to be removed, when those that are left have shown that they are a majority. */
export interface Removal {
  readonly id: string;
  readonly proposer: Proposer;
  /** Answered by a majority of those that are left. */
  readonly round: number;
  /** Monotonic milliseconds when it is given up. */
  readonly until: number;
}

/** Leadership that is being handed over. */
export interface Transfer {
  readonly to: string;
  /** Monotonic milliseconds when it is given up. */
  readonly until: number;
  readonly proposer: Proposer;
  /** The other one was told to stand for election. */
  told: boolean;
}

/** What was handed to the disk and is not known to be there. */
export interface Storing {
  readonly id: number;
  /** The log's end then; lower where it was cut since: an older write vouches for nothing newer (B8). */
  through: number;
  /** The term then. */
  readonly term: number;
  /** What waits for it, that of later steps included which stored nothing. */
  effects: readonly RaftEffect[];
}

export type Role = 'follower' | 'pre-candidate' | 'candidate' | 'leader';

export interface RaftLimits {
  /** Milliseconds. */
  readonly electionMs: number;
  readonly heartbeatMs: number;
  /** Applied entries since the last snapshot before the next one, and how many are kept behind it. */
  readonly snapshotEntries: number;
  readonly keptEntries: number;
}

/** One member of the group. Everything but `durable` is volatile. Only the core changes it. */
export interface RaftState {
  readonly id: string;
  /** host:port at which the others reach this member; '' where nobody has to be told. */
  readonly address: string;
  readonly limits: RaftLimits;
  readonly durable: DurableState;
  /** Its folder is empty, and another one may have been lost: it hears nobody before it is admitted (decision 16). */
  unsure: boolean;
  role: Role;
  leader: string | undefined;
  /** Highest index known to be committed, and handed to the state machine. */
  commit: number;
  applied: number;
  /** Highest index of the own log that is on the disk. */
  synced: number;
  /** The term that is on the disk, with the vote in it. */
  storedTerm: number;
  /** Writes under way, oldest first. */
  storing: Storing[];
  nextStore: number;
  /** Who answered this candidate's request, and how. */
  votes: Map<string, boolean>;
  /** Leader only; by member. */
  progress: Map<string, Progress>;
  /** Of the leader's newest messages to all. */
  round: number;
  /** Monotonic milliseconds. */
  electionAt: number;
  heartbeatAt: number;
  heardLeaderAt: number;
  /** Leader: index → who waits. */
  proposers: Map<number, Proposer>;
  /** Leader: bytes of payloads not yet committed. */
  uncommittedBytes: number;
  /** Proposals passed on to a leader: id → token of this process. */
  forwarded: Map<number, number>;
  /** Number of the next proposal or read that is passed on to a leader. */
  nextQuestion: number;
  /** Leader: reads that wait for a majority; oldest first. */
  reads: PendingRead[];
  /** Reads passed on to a leader: id → token of this process. */
  askedReads: Map<number, number>;
  /** Reads whose index is not applied here yet. */
  readyReads: { readonly token: number; readonly index: number }[];
  removal: Removal | undefined;
  transfer: Transfer | undefined;
  /** It saw itself removed, for ever. */
  removed: boolean;
  /** The entry through which the state machine was asked for its newest snapshot. */
  snapshotAsked: number;
  /** Newest wall clock in the log. */
  lastAt: number;
}

/** The other members of the group that holds now. */
export function others({ id, durable }: RaftState): readonly GroupMember[] {
  return currentGroup(durable).group.members.filter((m) => m.id !== id);
}

/** Has this member heard a leader so lately that it helps nobody to become one (thesis §4.2.3)? */
export function inLease(state: RaftState, now: number): boolean {
  if (state.role === 'leader') return true;
  return state.leader !== undefined && now - state.heardLeaderAt < state.limits.electionMs;
}

/** Has this leader committed an entry of its own term, so that it knows all that is committed (§5.4.2, §8)? */
export function knowsCommits({ durable, commit }: RaftState): boolean {
  return durable.log.termAt(commit) === durable.term;
}

/** What waits for an answer that may never come; the oldest are given up, their askers have their deadlines. */
export function keep(map: Map<number, number>, id: number, token: number, max: number): void {
  map.set(id, token);
  const oldest = map.keys().next();
  if (map.size > max && !oldest.done) map.delete(oldest.value);
}

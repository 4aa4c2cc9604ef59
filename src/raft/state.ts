import type { LogBlock } from '../log/event-log.js';
import { RaftLog } from './raft-log.js';

/** What survives a restart; the fold of the events, and nothing else (Raft §5, figure 2: persistent state). */
export interface DurableState {
  term: number;
  /** Who got this member's vote in `term`; '' for nobody. */
  vote: string;
  readonly log: RaftLog;
}

/** A stored fact. On the disk before any effect that depends on it. */
export type RaftEvent =
  | { readonly type: 'TermVoted'; readonly term: number; readonly vote: string }
  | { readonly type: 'EntriesAppended'; readonly blocks: readonly LogBlock[] }
  | { readonly type: 'SuffixCut'; readonly after: number };

export function emptyDurable(): DurableState {
  return { term: 0, vote: '', log: new RaftLog() };
}

/** The only way the durable state changes; replay runs this alone. */
export function evolve(state: DurableState, event: RaftEvent): void {
  switch (event.type) {
    case 'TermVoted':
      state.term = event.term;
      state.vote = event.vote;
      return;
    case 'EntriesAppended':
      for (const block of event.blocks) state.log.append(block);
      return;
    case 'SuffixCut':
      state.log.cutAfter(event.after);
      return;
  }
}

/** What a leader knows of one follower. */
export interface Progress {
  /** Highest index known to be synced there. */
  match: number;
  /** The next entry to send. */
  next: number;
  /** Append messages with entries that wait for their answer; while `probing` at most one. */
  inFlight: number;
  /** The follower's log is not known to match at `next - 1`. */
  probing: boolean;
  /** Monotonic milliseconds of its last answer. */
  heardAt: number;
}

/** Who waits for an entry of this leader: a caller of this process, or a follower that passed it on. */
export type Proposer =
  | { readonly type: 'local'; readonly token: number }
  | { readonly type: 'remote'; readonly from: string; readonly id: number };

export type Role = 'follower' | 'pre-candidate' | 'candidate' | 'leader';

/** One member of the group. Everything but `durable` is volatile. Only the core changes it. */
export interface RaftState {
  readonly id: string;
  /** The other members. */
  readonly peers: readonly string[];
  readonly electionMs: number;
  readonly heartbeatMs: number;
  readonly durable: DurableState;
  role: Role;
  leader: string | undefined;
  /** Highest index known to be committed, and handed to the state machine. */
  commit: number;
  applied: number;
  /** Highest index of the own log that is on the disk. */
  synced: number;
  /** Who answered this candidate's request, and how. */
  votes: Map<string, boolean>;
  /** Leader only. */
  progress: Map<string, Progress>;
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
  nextProposal: number;
  /** Newest wall clock in the log. */
  lastAt: number;
}

export function majority(state: RaftState): number {
  return Math.floor((state.peers.length + 1) / 2) + 1;
}

/** Has this member heard a leader so lately that it helps nobody to become one (thesis §4.2.3)? */
export function inLease(state: RaftState, now: number): boolean {
  if (state.role === 'leader') return true;
  return state.leader !== undefined && now - state.heardLeaderAt < state.electionMs;
}

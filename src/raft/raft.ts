import type { Observable } from 'rxjs';
import type { EntryId, RaftGroup, RequestId } from '../gen/keychaindb/v1/log.js';
import type { GroupChange } from '../gen/keychaindb/v1/raft.js';
import type { Refusal } from './inputs.js';
import type { Role } from './state.js';

/** What a proposal came to. */
export type ProposeOutcome =
  | { readonly type: 'applied'; readonly index: number; readonly result: Uint8Array }
  /** Nothing was appended anywhere. */
  | {
      readonly type: 'refused';
      readonly reason: Exclude<Refusal, 'OUTCOME_UNKNOWN'> | 'SHUTTING_DOWN';
    }
  /** It may be applied yet: leadership lost, or the deadline passed. */
  | { readonly type: 'unknown' };

export type ReadOutcome =
  /** What is applied here is at least as new as the call. */
  | { readonly type: 'current'; readonly index: number }
  | { readonly type: 'refused'; readonly reason: 'NO_LEADER' | 'OVERLOADED' | 'SHUTTING_DOWN' };

export interface RaftStatus {
  readonly id: string;
  readonly role: Role;
  readonly term: number;
  /** Undefined where none is known. */
  readonly leader: string | undefined;
  readonly commit: number;
  readonly applied: number;
  readonly last: EntryId;
  /** The first entry that is kept, and the one that the snapshot ends with; 0: there is none. */
  readonly first: number;
  readonly snapshot: number;
  /** The group that holds now, committed or not. */
  readonly group: RaftGroup;
  /** A leader that has applied an entry of its own term: its state machine lacks nothing committed. */
  readonly isCurrent: boolean;
}

/** What a leader knows of another member. */
export interface MemberProgress {
  readonly id: string;
  /** The newest entry that is known to be on its disk. */
  readonly match: number;
  readonly mode: 'probe' | 'replicate' | 'snapshot';
  /** Milliseconds since its last answer. */
  readonly silentMs: number;
}

/** A committed entry; a leader's no-op has an empty payload and isn't handed on, nor is a change of the group. */
export interface CommittedEntry {
  readonly id: EntryId;
  /** Milliseconds, the proposer leader's wall clock, never going back in a log. */
  readonly at: number;
  readonly request: RequestId | undefined;
  readonly payload: Uint8Array;
}

/** What consensus is about; `apply` is called in log order, once per start and entry, synchronously. */
export interface ReplicatedStateMachine {
  apply(entry: CommittedEntry): Uint8Array;
  /** All that it has made of the entries so far. */
  snapshot(): Uint8Array;
  /** Becomes what a snapshot says. */
  restore(snapshot: Uint8Array): void;
}

/** The face of the room: one member of the group. */
export interface RaftMember {
  readonly id: string;
  /** Starts with the present one. */
  readonly status$: Observable<RaftStatus>;
  readonly status: RaftStatus;
  /** The newest entry that is applied here: its place, its wall clock in milliseconds, and the group then. */
  readonly appliedEntry: {
    readonly at: EntryId;
    readonly time: number;
    readonly group: RaftGroup;
  };
  /** Ids of members that have written to this process. */
  readonly heard: readonly string[];
  /** Of the other members, at the leader; else empty. */
  readonly progress: readonly MemberProgress[];
  /** Resolves when the entry is applied here (leader) or at the leader (follower: forwarded once). */
  propose(payload: Uint8Array, options: { readonly timeoutMs: number }): Promise<ProposeOutcome>;
  /** Adds or removes a member, or hands leadership over. */
  change(
    change: NonNullable<GroupChange['change']>,
    options: { readonly timeoutMs: number },
  ): Promise<ProposeOutcome>;
  /** ReadIndex: resolves when the state machine here is as new as this call; no entry is written. */
  read(options: { readonly timeoutMs: number }): Promise<ReadOutcome>;
  /** Resolves when this member sees that it was removed from the group, for ever. */
  readonly removed: Promise<void>;
  close(): Promise<void>;
}

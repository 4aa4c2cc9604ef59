import type { Observable } from 'rxjs';
import type { EntryId, RequestId } from '../gen/keychaindb/v1/log.js';

/** What a proposal came to. */
export type ProposeOutcome =
  | { readonly type: 'applied'; readonly index: number; readonly result: Uint8Array }
  /** Nothing was appended anywhere. */
  | { readonly type: 'refused'; readonly reason: 'NO_LEADER' | 'OVERLOADED' | 'SHUTTING_DOWN' }
  /** It may be applied yet: leadership lost, or the deadline passed. */
  | { readonly type: 'unknown' };

export interface RaftStatus {
  readonly id: string;
  readonly role: 'follower' | 'pre-candidate' | 'candidate' | 'leader';
  readonly term: number;
  /** Undefined where none is known. */
  readonly leader: string | undefined;
  readonly commit: number;
  readonly applied: number;
  readonly last: EntryId;
  /** A leader that has applied an entry of its own term: its state machine lacks nothing committed. */
  readonly isCurrent: boolean;
}

/** A committed entry; a leader's no-op has an empty payload and isn't handed on. */
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
}

/** The face of the room: one member of the group. */
export interface RaftMember {
  readonly id: string;
  /** host:port of every member of the group, this one included. */
  readonly peers: ReadonlyMap<string, string>;
  /** Starts with the present one. */
  readonly status$: Observable<RaftStatus>;
  readonly status: RaftStatus;
  /** Resolves when the entry is applied here (leader) or at the leader (follower: forwarded once). */
  propose(payload: Uint8Array, options: { readonly timeoutMs: number }): Promise<ProposeOutcome>;
  close(): Promise<void>;
}

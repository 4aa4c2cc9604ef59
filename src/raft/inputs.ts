import type { RaftGroup, RaftSnapshot } from '../gen/keychaindb/v1/log.js';
import type { GroupChange, RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { LogBlock } from '../log/event-log.js';

/** `now`: monotonic milliseconds; `chance` in [0, 1): draws the next election timeout. */
export interface Moment {
  readonly now: number;
  readonly chance: number;
  /** Wall clock in milliseconds. */
  readonly wall: number;
}

/** The group that a member founds, empty where it joins one, and the newest term of the others; 0: nobody has led. */
export interface Admission {
  readonly group: RaftGroup;
  readonly term: number;
}

export type RaftInput =
  /** Whose folder was empty takes part. */
  | ({ readonly type: 'Admitted' } & Admission & Moment)
  | ({ readonly type: 'Ticked' } & Moment)
  | ({
      readonly type: 'MessageReceived';
      readonly message: RaftMessage;
      /** The blocks of an append request, decoded and checked. */
      readonly blocks: readonly LogBlock[];
    } & Moment)
  | ({
      readonly type: 'Proposed';
      readonly token: number;
      readonly payload: Uint8Array;
    } & Moment)
  | ({
      readonly type: 'ChangeProposed';
      readonly token: number;
      readonly change: GroupChange;
    } & Moment)
  | ({ readonly type: 'ReadAsked'; readonly token: number } & Moment)
  /** A write is on the disk, and all before it. */
  | ({ readonly type: 'Stored'; readonly id: number } & Moment)
  /** What the state machine has made of the log through an applied entry. */
  | ({
      readonly type: 'SnapshotMade';
      readonly index: number;
      readonly state: Uint8Array;
    } & Moment);

/** Nothing was done, but for OUTCOME_UNKNOWN. */
export type Refusal =
  | 'NO_LEADER'
  | 'OVERLOADED'
  | 'OUTCOME_UNKNOWN'
  /** Another change of the group, or the leader's first entry, is not committed yet. */
  | 'CHANGE_PENDING'
  | 'MEMBER_EXISTS'
  | 'ADDRESS_IN_USE'
  | 'MEMBER_NOT_FOUND'
  /** The id was a member's once. */
  | 'MEMBER_REMOVED'
  /** Without it those that are heard are no majority. */
  | 'LAST_MAJORITY'
  /** A member has to catch up first. */
  | 'MEMBER_BEHIND'
  /** Nobody took over in time. */
  | 'TRANSFER_FAILED';

export type RaftEffect =
  | { readonly type: 'send'; readonly message: RaftMessage }
  /** Entries through this index are committed: apply the ones that were not. */
  | { readonly type: 'apply'; readonly through: number }
  /** The state machine becomes what this says; it is committed. */
  | { readonly type: 'restore'; readonly snapshot: RaftSnapshot }
  /** The log has grown: say what the state machine is now (`SnapshotMade`). */
  | { readonly type: 'takeSnapshot' }
  /** A request of this process that will have no result here. */
  | { readonly type: 'refuse'; readonly token: number; readonly reason: Refusal }
  /** A proposal that the leader applied. */
  | {
      readonly type: 'resolve';
      readonly token: number;
      readonly index: number;
      readonly result: Uint8Array;
    }
  /** A read: the state here is as new as its request. */
  | { readonly type: 'read'; readonly token: number; readonly index: number }
  /** This member was removed from the group, for ever. */
  | { readonly type: 'removed' };

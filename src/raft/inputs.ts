import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { LogBlock } from '../log/event-log.js';

/** `now`: monotonic milliseconds; `chance` in [0, 1): draws the next election timeout. */
export type RaftInput =
  | {
      readonly type: 'Ticked';
      readonly now: number;
      readonly wall: number;
      readonly chance: number;
    }
  | {
      readonly type: 'MessageReceived';
      readonly message: RaftMessage;
      /** The blocks of an append request, decoded and checked. */
      readonly blocks: readonly LogBlock[];
      readonly now: number;
      readonly wall: number;
      readonly chance: number;
    }
  | {
      readonly type: 'Proposed';
      readonly token: number;
      readonly payload: Uint8Array;
      readonly now: number;
      readonly wall: number;
    }
  /** The own log is on the disk through this entry. */
  | { readonly type: 'LogSynced'; readonly through: EntryId };

export type Refusal = 'NO_LEADER' | 'OVERLOADED' | 'OUTCOME_UNKNOWN';

export type RaftEffect =
  | {
      readonly type: 'send';
      readonly message: RaftMessage;
      /** It depends on what this step stored. */
      readonly afterSync: boolean;
    }
  /** Entries through this index are committed: apply the ones that were not. */
  | { readonly type: 'apply'; readonly through: number }
  /** A proposal of this process that will have no result here. */
  | { readonly type: 'refuse'; readonly token: number; readonly reason: Refusal }
  /** A proposal that the leader applied. */
  | {
      readonly type: 'resolve';
      readonly token: number;
      readonly index: number;
      readonly result: Uint8Array;
    };

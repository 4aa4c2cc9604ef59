import type { FollowDown, FollowUp, PeerMessage } from '../gen/keychaindb/v1/chain.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { EntryId, SnapshotChunk } from '../gen/keychaindb/v1/log.js';
import type { LogBlock } from '../log/event-log.js';
import type { AskedRange } from './compare.js';
import type { RangeHash, StateRange } from './comparison.js';
import type { LogMark } from './kept.js';
import type {
  ReadAnswer,
  ReadRequest,
  Refusal,
  Token,
  WriteAnswer,
  WriteRequest,
} from './messages.js';
import type { Ledger } from './state.js';
import type { Name } from './views.js';

/** What arrives. `now`: monotonic milliseconds, read when the shell hands the input over. */
export type ChainInput =
  | { readonly type: 'Ticked'; readonly now: number; readonly wall: number }
  /** Already on the disk. */
  | { readonly type: 'ViewPersisted'; readonly view: View; readonly now: number }
  | {
      readonly type: 'WritesReceived';
      readonly writes: readonly WriteRequest[];
      readonly now: number;
      readonly wall: number;
    }
  | { readonly type: 'ReadsReceived'; readonly reads: readonly ReadRequest[]; readonly now: number }
  | { readonly type: 'PeerSaid'; readonly message: PeerMessage; readonly now: number }
  /** From the predecessor, on the stream that this node dialed. */
  | {
      readonly type: 'PredecessorSaid';
      readonly message: FollowDown;
      readonly blocks: readonly LogBlock[];
      /** Of a snapshot, checked. */
      readonly chunks: readonly SnapshotChunk[];
      readonly now: number;
    }
  | { readonly type: 'UpLinkClosed'; readonly session: number; readonly now: number }
  /** From a successor, on the accepted stream `link`. */
  | {
      readonly type: 'SuccessorSaid';
      readonly link: number;
      readonly message: FollowUp;
      readonly now: number;
    }
  | { readonly type: 'DownLinkClosed'; readonly link: number; readonly now: number }
  /** The write log made a batch durable. Blocks that the state doesn't know are taken as they are. */
  | {
      readonly type: 'LogSynced';
      readonly through: EntryId;
      readonly blocks: readonly LogBlock[];
      readonly now: number;
    }
  /** A base of this node is on the disk. */
  | { readonly type: 'BaseWritten'; readonly base: LogMark; readonly now: number }
  /** So many chunks of the snapshot that comes on this session are in the store. */
  | {
      readonly type: 'ChunksStored';
      readonly session: number;
      readonly chunks: number;
      readonly now: number;
    }
  /** It is whole, and on the disk; `ledger`: what a start would find there. */
  | {
      readonly type: 'SnapshotInstalled';
      readonly session: number;
      readonly ledger: Ledger;
      readonly now: number;
    }
  /** The part of the own state that a round is about; undefined: it could not be read (R18). */
  | {
      readonly type: 'RangeRead';
      readonly nonce: number;
      readonly range: StateRange | undefined;
      readonly now: number;
    }
  /** The part that a neighbour asked about. */
  | {
      readonly type: 'RangeHashed';
      readonly asked: AskedRange;
      readonly hash: RangeHash | undefined;
      readonly now: number;
    }
  /** The own part, at the entry that the neighbour's answer names. */
  | {
      readonly type: 'RangeRolled';
      readonly nonce: number;
      readonly theirs: RangeHash;
      readonly own: RangeHash | undefined;
      readonly now: number;
    }
  /** A record of the own store is damaged. */
  | { readonly type: 'DamageFound'; readonly what: string; readonly now: number };

/** Things to do, after the events of the same step are as durable as they have to be. */
export type ChainEffect =
  | {
      readonly type: 'say';
      readonly to: Name & { readonly address: string };
      readonly message: PeerMessage;
    }
  | {
      readonly type: 'dialPredecessor';
      readonly address: string;
      readonly session: number;
      readonly hello: FollowUp;
    }
  | { readonly type: 'hangUpPredecessor'; readonly session: number; readonly why: string }
  /** What this node acknowledges has changed: send it up, the newest state once the link is free. */
  | { readonly type: 'acknowledge'; readonly session: number }
  /** Answers a hello, then streams the log after `common` on that link. */
  | {
      readonly type: 'feed';
      readonly link: number;
      readonly session: number;
      readonly common: EntryId;
      readonly first: FollowDown;
    }
  /** Answers a hello with the newest base, then streams the log after it, once the follower has stored it. */
  | {
      readonly type: 'feedSnapshot';
      readonly link: number;
      readonly session: number;
      readonly first: FollowDown;
    }
  /** The follower has stored so many chunks: there is room for more. */
  | { readonly type: 'snapshotAcked'; readonly link: number; readonly chunks: number }
  /** Put a chunk of a snapshot into the store, after those before it. */
  | { readonly type: 'storeChunk'; readonly session: number; readonly chunk: SnapshotChunk }
  /** All chunks have been given: check them, and make the store whole. */
  | { readonly type: 'completeInstall'; readonly session: number }
  /** Tell the follower that the link lives while its hello waits. */
  | { readonly type: 'keepWaiting'; readonly link: number; readonly message: FollowDown }
  /** What the header says has changed without a block: send it when the link is free. */
  | { readonly type: 'refreshFollower'; readonly link: number }
  | { readonly type: 'hangUpFollower'; readonly link: number; readonly why: string }
  | { readonly type: 'answerRead'; readonly token: Token; readonly answer: ReadAnswer }
  | { readonly type: 'answerWrite'; readonly token: Token; readonly answer: WriteAnswer }
  /** Load the object again and come back with it. */
  | { readonly type: 'readAgain'; readonly read: ReadRequest }
  /** Read the next part of the state for a round. */
  | { readonly type: 'readRange'; readonly nonce: number; readonly from: Uint8Array }
  /** Hash a part of the state for a neighbour. */
  | { readonly type: 'hashRange'; readonly asked: AskedRange }
  /** Hash what was read as it was at the entry that the neighbour's answer names. */
  | { readonly type: 'rollRange'; readonly nonce: number; readonly theirs: RangeHash }
  /** Something that a heartbeat says has changed in a way that coordinators wait for. */
  | { readonly type: 'beat' }
  /** This incarnation is over; `wipe`: its store can't be reconciled and starts from nothing. */
  | { readonly type: 'stop'; readonly wipe: boolean; readonly why: string };

export type { Refusal };

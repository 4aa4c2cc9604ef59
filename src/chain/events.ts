import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { EntryId, SnapshotBase } from '../gen/keychaindb/v1/log.js';
import type { LogBlock } from '../log/event-log.js';
import type { ComparisonEvent, StoreDamage } from './comparison.js';
import type { LogMark } from './kept.js';
import type { Ledger } from './state.js';
import type { Name } from './views.js';

/**
 * Facts about a node, past tense; the only way its state changes (what waits for an answer aside).
 * The first four are in the log and replayable; the rest dies with the process.
 */
export type ChainEvent =
  /** In the log. `stored`: it was read from the log, so the shell doesn't append it. */
  | { readonly type: 'BlockAppended'; readonly block: LogBlock; readonly stored: boolean }
  /** In the log: everything after `after` was removed, with its staged versions and outcomes. */
  | { readonly type: 'SuffixCut'; readonly after: EntryId }
  | { readonly type: 'Synced'; readonly through: EntryId }
  /** Written with the next batch: what is lost of it in a crash is committed again. */
  | { readonly type: 'Committed'; readonly through: EntryId }
  /** On the disk: the state at this revision, which stands for the log through it. */
  | { readonly type: 'BaseMade'; readonly base: LogMark }
  /** The log begins after it. */
  | { readonly type: 'LogDropped'; readonly through: LogMark }
  /** R17: everything in this store goes, with a record that says so; it counts for nothing until it is whole. */
  | { readonly type: 'SnapshotBegun'; readonly base: SnapshotBase; readonly at: EntryId }
  | { readonly type: 'ChunkTaken' }
  /** So many chunks of it are in the store. */
  | { readonly type: 'ChunksStored'; readonly chunks: number }
  /** On the disk, whole: what a start would find there. */
  | { readonly type: 'SnapshotInstalled'; readonly ledger: Ledger }
  /** Persisted and synced before it is decided on (R1). */
  | { readonly type: 'ViewSeen'; readonly view: View; readonly now: number }
  | { readonly type: 'Activated'; readonly view: View; readonly now: number }
  | { readonly type: 'Removed' }
  /** Synced before the grant leaves (R5). */
  | { readonly type: 'LeaseLimitRaised'; readonly leaseMs: number }
  | { readonly type: 'PromiseGiven'; readonly name: Name; readonly until: number }
  | {
      readonly type: 'PromiseHeld';
      readonly name: Name;
      readonly until: number;
      readonly now: number;
    }
  | { readonly type: 'PromisesAsked'; readonly now: number }
  | { readonly type: 'LeasesDropped'; readonly now: number }
  | { readonly type: 'PeerStopped'; readonly name: Name }
  | { readonly type: 'UpDialed'; readonly session: number; readonly to: Name }
  | { readonly type: 'UpHeard'; readonly now: number }
  | { readonly type: 'UpReconciled'; readonly syncedThrough: EntryId }
  | { readonly type: 'UpSynced'; readonly through: EntryId }
  | { readonly type: 'UpClosed' }
  | {
      readonly type: 'DownReconciled';
      readonly link: number;
      readonly session: number;
      readonly from: Name;
      /** What it gets comes after this entry: of the log, or of a base that ends here. */
      readonly after: EntryId;
    }
  | { readonly type: 'DownAcked'; readonly synced: EntryId }
  | { readonly type: 'DownClosed' }
  /** The tail has the token of its epoch; authority comes when it has committed through `through` (R7). */
  | { readonly type: 'TokenReceived'; readonly through: number }
  | { readonly type: 'AuthorityTaken' }
  /** Something is wrong with a store (R18). */
  | { readonly type: 'DamageFound'; readonly damage: StoreDamage }
  | ComparisonEvent;

import type { Observable } from 'rxjs';
import { KeychainError } from '../base/errors.js';
import type { EntryId, Envelope } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from './engine.js';

/** The end of the block before the first one. */
export const origin: EntryId = { generation: 0, index: 0 };

export function sameEntry(a: EntryId, b: EntryId): boolean {
  return a.index === b.index && a.generation === b.generation;
}

/** A block as it is stored and sent, with what decoding it gave. `entries` hold views into `bytes`. */
export interface LogBlock {
  readonly bytes: Uint8Array;
  readonly chainId: number;
  /** End of the block before it. */
  readonly previous: EntryId;
  /** Its last entry. */
  readonly end: EntryId;
  readonly entries: readonly Envelope[];
}

/** What one synced batch made durable, in log order. */
export interface DurableBatch {
  /** Blocks that became durable with this batch; none where it carried only a cut or records. */
  readonly blocks: readonly LogBlock[];
  /** Everything up to here is on the disk. */
  readonly synced: EntryId;
}

/** Is this a record that can't be read? One that was dropped is none. */
export function isDamage(error: unknown): boolean {
  return KeychainError.from(error).reason === 'CORRUPT' && !(error instanceof BlocksDropped);
}

/** A reader wants what the log doesn't keep any more. */
export class BlocksDropped extends Error {
  override readonly name = 'BlocksDropped';

  constructor(after: EntryId, start: EntryId) {
    super(
      `the log begins after entry ${start.index}: what follows entry ${after.index} was dropped`,
    );
  }
}

export interface LogMeter {
  /** Synced batches written since the start, and the entries that they carried. */
  readonly batches: number;
  readonly entries: number;
}

/**
 * The event log of one process, on a StorageEngine: blocks under prefix `l`, any other record beside
 * them in the same atomic batches. One synced batch is in flight, the next one collects; no timers.
 */
export interface EventLog {
  /** The end of the newest block that was dropped; `origin` where none was. Every block that is kept follows it. */
  readonly start: EntryId;
  /** Newest block's end, durable or not. Moves: up on append and reset, down on cut and reset. */
  readonly last: EntryId;
  /** Everything up to here is on the disk. Invariant: synced.index <= last.index. */
  readonly synced: EntryId;
  readonly meter: LogMeter;
  /** Every durable batch, in order, after its sync. Errors never: a failed sync ends the process. */
  readonly durable$: Observable<DurableBatch>;
  /**
   * Adds blocks to the collecting batch. Each must follow the one before: asserted by `previous`.
   * Records in `ops` go out atomically with them.
   */
  append(blocks: readonly LogBlock[], ops?: readonly WriteOp[]): void;
  /** Removes every block after `after`, which must be a block's end, in order with the appends. */
  cut(after: EntryId): void;
  /**
   * Forgets the blocks through that one's end, which is on the disk. What is at or before `start` is forgotten already.
   * The same batch deletes at most `deleteMax` of them: what stays is never read, and may be deleted at leisure.
   */
  drop(through: EntryId, deleteMax?: number): void;
  /**
   * Forgets every block: the log goes on after `to`, atomically with the records of the same batch. For a state that
   * came from elsewhere.
   */
  reset(to: EntryId): void;
  /** Adds records to the collecting batch. Without `sync` they go with the next synced batch, or unsynced when the disk is idle. */
  record(ops: readonly WriteOp[], options: { readonly sync: boolean }): void;
  /** Resolves when everything handed over before the call has been written, synced where it asked for it. */
  settled(): Promise<void>;
  /**
   * Durable blocks after `after` (a block's end), oldest first, checked; ends at `synced`. Throws KeychainError CORRUPT,
   * and BlocksDropped where what comes next was dropped.
   */
  read(after: EntryId): AsyncIterable<LogBlock>;
  /** The durable block whose last entry has this index; undefined where none ends there. */
  blockEndingAt(index: number): Promise<LogBlock | undefined>;
  /**
   * History after `after`, then live: durable blocks, and of the others those through the index that `ahead` gives. Ends
   * when the signal aborts, the log closes, or `after` is cut away; throws as `read`.
   */
  follow(after: EntryId, signal: AbortSignal, ahead?: () => number): AsyncIterable<LogBlock>;
  /** A checked record: undefined where absent, throws KeychainError CORRUPT where damaged. Sees what was written, not what collects. */
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** Checked records under a prefix, or from one prefix through another, as they were when it began. */
  scan(
    prefix: Uint8Array,
    through?: Uint8Array,
  ): AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]>;
  /** Writes what was handed over and ends; the engine stays open for whoever uses it next. */
  release(): Promise<void>;
  /** As `release`, marks the end as clean, and closes the engine. */
  close(): Promise<void>;
}

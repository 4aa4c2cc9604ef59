import { Subject } from 'rxjs';
import { assert } from '../base/assert.js';
import { KeychainError } from '../base/errors.js';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import { decodeBlock } from './block.js';
import type { StorageEngine, WriteOp } from './engine.js';
import {
  BlocksDropped,
  type DurableBatch,
  type EventLog,
  type LogBlock,
  sameEntry,
} from './event-log.js';
import type { HighWater } from './high-water.js';
import {
  blockIndexOf,
  blockKey,
  blockPrefix,
  encodeMarker,
  endOfPrefix,
  markerKey,
  metaKey,
} from './keys.js';
import { dropBlocksMax, markersMax, readBlocksMax, recentBytesMax } from './limits.js';
import { seal, unseal } from './record.js';

export const cleanCloseKey = metaKey('clean-close');
/** The end of the newest block that was dropped. */
export const logStartKey = metaKey('log-start');

/** What of the log's tail was found at opening. */
export interface LogStart {
  /** The end of the newest block that was dropped. */
  readonly start: EntryId;
  readonly last: EntryId;
  /** Number of the newest marker (a batch without a block, or with a cut). */
  readonly marker: number;
}

/** One atomic write in the making. */
class Batch {
  readonly ops: WriteOp[] = [];
  blocks: LogBlock[] = [];
  /** Blocks on the disk after this entry go; expanded to deletes when the batch is written. */
  cutAfter: EntryId | undefined;
  /** Blocks on the disk through this entry go, so many of them with this batch. */
  dropThrough: EntryId | undefined;
  deleteMax = dropBlocksMax;
  /** Nothing of what was before stays; the log goes on after `cutAfter`. */
  isReset = false;
  sync = false;
  end: EntryId;
  readonly done: Promise<void>;
  finish: () => void = () => undefined;

  constructor(end: EntryId) {
    this.end = end;
    this.done = new Promise((resolve) => {
      this.finish = resolve;
    });
  }
}

/** EventLog on a StorageEngine. Opened by `openLog`, which looks for damage first. */
export class DurableLog implements EventLog {
  readonly durable$ = new Subject<DurableBatch>();
  readonly meter = { batches: 0, entries: 0 };
  readonly #engine: StorageEngine;
  readonly #highWater: HighWater;
  readonly #fatal: (error: unknown) => void;
  #start: EntryId;
  #last: EntryId;
  #synced: EntryId;
  #collecting: Batch | undefined;
  #inFlight: Batch | undefined;
  #scheduled = false;
  #marker: number;
  /** Newest blocks, durable or not, oldest first, without gaps. */
  #recent: LogBlock[] = [];
  #recentBytes = 0;
  /** Cuts since the start: what was read of the log before one may be gone. */
  #cuts = 0;
  readonly #cursors = new Set<Cursor>();
  #closed = false;

  constructor(
    engine: StorageEngine,
    highWater: HighWater,
    start: LogStart,
    fatal: (error: unknown) => void,
  ) {
    this.#engine = engine;
    this.#highWater = highWater;
    this.#start = start.start;
    this.#last = start.last;
    this.#synced = start.last;
    this.#marker = start.marker;
    this.#fatal = fatal;
  }

  get start(): EntryId {
    return this.#start;
  }

  get last(): EntryId {
    return this.#last;
  }

  get synced(): EntryId {
    return this.#synced;
  }

  append(blocks: readonly LogBlock[], ops: readonly WriteOp[] = []): void {
    const batch = this.#batch();
    for (const block of blocks) {
      assert(sameEntry(block.previous, this.#last), 'a block follows the end of the one before', {
        previous: block.previous,
        last: this.#last,
      });
      const key = blockKey(block.end.index);
      batch.ops.push({ type: 'put', key, value: seal(key, block.bytes) });
      batch.blocks.push(block);
      this.#last = block.end;
      this.#remember(block);
    }
    batch.end = this.#last;
    batch.sync = true;
    this.#add(batch, ops);
    for (const cursor of this.#cursors) if (cursor.ahead !== undefined) cursor.move();
  }

  cut(after: EntryId): void {
    if (sameEntry(after, this.#last)) return;
    assert(after.index < this.#last.index, 'a cut makes the log shorter', {
      after,
      last: this.#last,
    });
    assert(after.index >= this.#start.index, 'what was dropped is not cut', {
      after,
      start: this.#start,
    });
    const batch = this.#batch();
    batch.blocks = batch.blocks.filter((block) => block.end.index <= after.index);
    batch.cutAfter =
      batch.cutAfter === undefined || batch.cutAfter.index > after.index ? after : batch.cutAfter;
    const keep = new Set(batch.blocks.map((block) => blockKey(block.end.index).join()));
    const ops = batch.ops.filter(({ key }) => key[0] !== blockPrefix[0] || keep.has(key.join()));
    batch.ops.splice(0, batch.ops.length, ...ops);
    batch.sync = true;
    batch.end = after;
    this.#last = after;
    this.#cuts += 1;
    if (this.#synced.index > after.index) this.#synced = after;
    while ((this.#recent.at(-1)?.end.index ?? 0) > after.index) {
      this.#recentBytes -= this.#recent.pop()?.bytes.byteLength ?? 0;
    }
    for (const cursor of this.#cursors) {
      if (cursor.position.index > after.index) cursor.end();
    }
    this.#schedule();
  }

  drop(through: EntryId, deleteMax = dropBlocksMax): void {
    if (through.index <= this.#start.index) return;
    assert(through.index <= this.#synced.index, 'what is dropped is on the disk', {
      through,
      synced: this.#synced,
    });
    const batch = this.#batch();
    batch.dropThrough = through;
    batch.deleteMax = deleteMax;
    batch.sync = true;
    this.#start = through;
    while ((this.#recent[0]?.end.index ?? Number.POSITIVE_INFINITY) <= through.index) {
      this.#recentBytes -= this.#recent.shift()?.bytes.byteLength ?? 0;
    }
    this.#schedule();
  }

  reset(to: EntryId): void {
    const batch = this.#batch();
    const ops = batch.ops.filter(({ key }) => key[0] !== blockPrefix[0]);
    batch.ops.splice(0, batch.ops.length, ...ops);
    batch.blocks = [];
    batch.cutAfter = to;
    batch.dropThrough = to;
    batch.isReset = true;
    batch.sync = true;
    batch.end = to;
    this.#start = to;
    this.#last = to;
    this.#synced = to;
    this.#cuts += 1;
    this.#recent = [];
    this.#recentBytes = 0;
    for (const cursor of this.#cursors) cursor.end();
    this.#schedule();
  }

  record(ops: readonly WriteOp[], { sync }: { readonly sync: boolean }): void {
    const batch = this.#batch();
    batch.sync = batch.sync || sync;
    this.#add(batch, ops);
  }

  settled(): Promise<void> {
    return this.#collecting?.done ?? this.#inFlight?.done ?? Promise.resolve();
  }

  async *read(after: EntryId): AsyncIterable<LogBlock> {
    const cursor = new Cursor(after);
    const end = this.#synced;
    this.#cursors.add(cursor);
    try {
      while (cursor.position.index < Math.min(end.index, this.#synced.index)) {
        for await (const block of this.#some(cursor)) {
          if (block.end.index > end.index) return;
          yield block;
        }
        if (cursor.ended) return;
      }
    } finally {
      this.#cursors.delete(cursor);
    }
  }

  async blockEndingAt(index: number): Promise<LogBlock | undefined> {
    const key = blockKey(index);
    const sealed = await this.#engine.get(key);
    return sealed === undefined ? undefined : decodeBlock(unseal(key, sealed));
  }

  async *follow(
    after: EntryId,
    signal: AbortSignal,
    ahead?: () => number,
  ): AsyncIterable<LogBlock> {
    const cursor = new Cursor(after, ahead);
    const stop = (): void => cursor.end();
    signal.addEventListener('abort', stop);
    this.#cursors.add(cursor);
    try {
      while (!cursor.ended && !signal.aborted && !this.#closed) {
        if (cursor.position.index >= this.#endFor(cursor)) {
          await cursor.moved();
          continue;
        }
        yield* this.#some(cursor);
      }
    } finally {
      signal.removeEventListener('abort', stop);
      this.#cursors.delete(cursor);
    }
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const sealed = await this.#engine.get(key);
    return sealed === undefined ? undefined : unseal(key, sealed);
  }

  async *scan(
    prefix: Uint8Array,
    through = prefix,
  ): AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]> {
    const range = { gte: prefix, lt: endOfPrefix(through) };
    for await (const [key, sealed] of this.#engine.scan(range)) yield [key, unseal(key, sealed)];
  }

  async release(): Promise<void> {
    if (this.#closed) return;
    await this.settled();
    this.#closed = true;
    for (const cursor of this.#cursors) cursor.end();
    this.durable$.complete();
    await this.#highWater.settled();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.record([{ type: 'put', key: cleanCloseKey, value: EntryId.encode(this.#last).finish() }], {
      sync: true,
    });
    await this.release();
    await this.#engine.close();
  }

  #batch(): Batch {
    assert(!this.#closed, 'a closed log takes nothing');
    this.#collecting ??= new Batch(this.#last);
    return this.#collecting;
  }

  #add(batch: Batch, ops: readonly WriteOp[]): void {
    for (const op of ops) {
      batch.ops.push(op.type === 'put' ? { ...op, value: seal(op.key, op.value) } : op);
    }
    this.#schedule();
  }

  #remember(block: LogBlock): void {
    this.#recent.push(block);
    this.#recentBytes += block.bytes.byteLength;
    let drop = 0;
    for (const old of this.#recent) {
      if (this.#recentBytes <= recentBytesMax || old.end.index > this.#synced.index) break;
      this.#recentBytes -= old.bytes.byteLength;
      drop += 1;
    }
    if (drop > 0) this.#recent.splice(0, drop);
  }

  /** What comes in one turn goes in one batch; while a batch is in flight the next one collects. */
  #schedule(): void {
    if (this.#scheduled || this.#inFlight !== undefined) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    const batch = this.#collecting;
    if (batch === undefined || this.#inFlight !== undefined) return;
    this.#collecting = undefined;
    this.#inFlight = batch;
    try {
      const ops = await this.#written(batch);
      await this.#engine.write(ops, { sync: batch.sync });
    } catch (error) {
      // Nothing after this is ever acknowledged: `done` stays pending.
      this.#fatal(error);
      return;
    }
    this.#inFlight = undefined;
    this.#schedule();
    this.#finished(batch);
  }

  async #written(batch: Batch): Promise<readonly WriteOp[]> {
    const { cutAfter, ops } = batch;
    const dropped = await this.#dropped(batch);
    if (cutAfter === undefined) {
      // Without a block a lost batch would leave no gap: its marker does.
      const marker = batch.blocks.length > 0 ? [] : this.#nextMarker(undefined);
      return [...dropped, ...ops, ...marker];
    }
    const range = { gte: blockKey(cutAfter.index + 1), lt: endOfPrefix(blockPrefix) };
    const dels: WriteOp[] = [];
    for await (const [key] of this.#engine.scan(range)) dels.push({ type: 'del', key });
    // The marker says how far down: a store that was cut on purpose is not behind.
    return [...dropped, ...dels, ...ops, ...this.#nextMarker(cutAfter)];
  }

  /** What isn't deleted now lies before the log's start, is never read, and goes with a later drop. */
  async #dropped({ dropThrough, deleteMax }: Batch): Promise<readonly WriteOp[]> {
    if (dropThrough === undefined) return [];
    const value = seal(logStartKey, EntryId.encode(dropThrough).finish());
    const ops: WriteOp[] = [{ type: 'put', key: logStartKey, value }];
    if (deleteMax === 0) return ops;
    const range = { gte: blockKey(0), lt: blockKey(dropThrough.index + 1), limit: deleteMax };
    for await (const [key] of this.#engine.scan(range)) ops.push({ type: 'del', key });
    return ops;
  }

  #nextMarker(cutAfter: EntryId | undefined): readonly WriteOp[] {
    this.#marker += 1;
    const key = markerKey(this.#marker);
    const put: WriteOp = { type: 'put', key, value: seal(key, encodeMarker(cutAfter)) };
    if (this.#marker <= markersMax) return [put];
    return [put, { type: 'del', key: markerKey(this.#marker - markersMax) }];
  }

  #finished(batch: Batch): void {
    // A reset that came since replaces all that this one carried.
    const isReplaced = this.#collecting?.isReset === true;
    if (batch.sync && !isReplaced) {
      // A cut that came since has made the log shorter than this batch.
      const shorter = this.#collecting?.cutAfter;
      this.#synced = shorter !== undefined && shorter.index < batch.end.index ? shorter : batch.end;
      this.meter.batches += 1;
      for (const block of batch.blocks) this.meter.entries += block.entries.length;
      this.#highWater.write({ entry: batch.end, marker: this.#marker });
    }
    batch.finish();
    if (batch.sync && !isReplaced) {
      const synced = this.#synced;
      const blocks = batch.blocks.filter(({ end }) => end.index <= synced.index);
      this.durable$.next({ blocks, synced });
    }
    for (const cursor of this.#cursors) cursor.move();
  }

  /** The next blocks of a cursor: from memory where they are there, else from the disk; none after a cut. */
  async *#some(cursor: Cursor): AsyncIterable<LogBlock> {
    this.#refuseDropped(cursor);
    const cuts = this.#cuts;
    const recent = this.#recentAfter(cursor.position, this.#endFor(cursor));
    const blocks = recent.length > 0 ? recent : await this.#readSome(cursor.position);
    for (const block of blocks) {
      if (cursor.ended || cuts !== this.#cuts) return;
      this.#refuseDropped(cursor);
      if (!sameEntry(block.previous, cursor.position)) {
        throw new KeychainError(
          'CORRUPT',
          `the log has a gap: block ${block.end.index} follows ${block.previous.index}, not ${cursor.position.index}`,
        );
      }
      cursor.position = block.end;
      yield block;
    }
  }

  #refuseDropped({ position }: Cursor): void {
    if (position.index < this.#start.index) throw new BlocksDropped(position, this.#start);
  }

  /** The index through which this cursor may read now. */
  #endFor({ ahead }: Cursor): number {
    const through = Math.max(this.#synced.index, ahead?.() ?? 0);
    return Math.min(this.#last.index, through);
  }

  #recentAfter(after: EntryId, end: number): readonly LogBlock[] {
    const [oldest] = this.#recent;
    if (oldest === undefined || oldest.previous.index > after.index) return [];
    let low = 0;
    let high = this.#recent.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#recent[middle]?.end.index ?? 0) <= after.index) low = middle + 1;
      else high = middle;
    }
    const blocks = this.#recent.slice(low, low + readBlocksMax);
    return blocks.filter((block) => block.end.index <= end);
  }

  async #readSome(after: EntryId): Promise<readonly LogBlock[]> {
    const range = {
      gte: blockKey(after.index + 1),
      lt: blockKey(this.#synced.index + 1),
      limit: readBlocksMax,
    };
    const blocks: LogBlock[] = [];
    for await (const [key, sealed] of this.#engine.scan(range)) {
      const block = decodeBlock(unseal(key, sealed));
      assert(block.end.index === blockIndexOf(key), 'a block is stored under its last index', {
        end: block.end,
      });
      blocks.push(block);
    }
    if (after.index < this.#start.index) throw new BlocksDropped(after, this.#start);
    if (blocks.length === 0) {
      throw new KeychainError('CORRUPT', `the log has a gap: nothing follows entry ${after.index}`);
    }
    return blocks;
  }
}

/** A reader's place in the log. */
class Cursor {
  position: EntryId;
  /** Through where it reads what isn't on the disk yet, too. */
  readonly ahead: (() => number) | undefined;
  ended = false;
  #wake: (() => void) | undefined;

  constructor(position: EntryId, ahead?: () => number) {
    this.position = position;
    this.ahead = ahead;
  }

  /** Resolves when there is something more, or the cursor ended. */
  moved(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (this.ended) this.move();
    });
  }

  move(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  end(): void {
    this.ended = true;
    this.move();
  }
}

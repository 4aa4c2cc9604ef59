import type { Clock } from '../base/clock.js';
import { EntryId, type SnapshotBase, type SnapshotRecord } from '../gen/keychaindb/v1/log.js';
import { type EventLog, isDamage, origin } from '../log/event-log.js';
import {
  blockKey,
  chunkKey,
  chunkPrefix,
  chunksOf,
  metaPrefix,
  sessionPrefix,
} from '../log/keys.js';
import {
  checksumOf,
  deleteRecords,
  forgetChunks,
  readBase,
  recordBase,
  recordChunk,
  revisionOf,
} from './base.js';
import { BaseTally } from './base-tally.js';
import type { ChainInput } from './inputs.js';
import { isBaseDue, type LogBounds, markOfWatermark } from './kept.js';
import { chunkBytesMax, compactionShareDefault, logBoundsDefault } from './limits.js';
import { watermarkKey } from './node-store.js';
import { Pace } from './pace.js';
import { cutAfter } from './spans.js';
import type { Ledger, NodeState } from './state.js';

export interface CompactionOptions {
  readonly bounds: LogBounds;
  /** Of the time that making a base, feeding a snapshot and deleting what was dropped may take. */
  readonly share: number;
  /** Of the records of one chunk; one record may be larger. */
  readonly chunkBytes: number;
  /** Called before the store holds what older programs don't know; what it writes comes before all that follows. */
  readonly raiseFormat?: () => void;
}

export const compactionDefault: CompactionOptions = {
  bounds: logBoundsDefault,
  share: compactionShareDefault,
  chunkBytes: chunkBytesMax,
};

/** Records that one batch deletes. */
const deleteMax = 512;
/** Milliseconds after a run that failed, e.g. for want of a file handle, before the next one. */
const retryMs = 60_000;

/** Makes bases, one at a time, and deletes what they stand for; slowly, beside the writes of the chain (R17). */
export class Compaction {
  readonly #state: NodeState;
  readonly #log: EventLog;
  readonly #options: CompactionOptions;
  readonly #give: (input: ChainInput) => void;
  readonly #failed: (error: unknown) => void;
  readonly #clock: Clock;
  readonly #pace: Pace;
  #running: Promise<void> | undefined;
  /** It met damage. */
  #hasFailed = false;
  /** Monotonic milliseconds before which nothing is tried. */
  #notBefore = 0;
  /** Of the state that the run began with: another one stands there after a snapshot. */
  #ledger: Ledger | undefined;
  #hasDropped = true;
  /** What an earlier process left: chunks of no base, blocks before the log's start. */
  #isClear = false;

  constructor(
    state: NodeState,
    log: EventLog,
    clock: Clock,
    options: CompactionOptions,
    give: (input: ChainInput) => void,
    failed: (error: unknown) => void,
  ) {
    this.#state = state;
    this.#log = log;
    this.#options = options;
    this.#give = give;
    this.#failed = failed;
    this.#clock = clock;
    this.#pace = new Pace(clock, options.share);
  }

  /** A base is being made. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Is there something to do? */
  look(): void {
    if (this.isRunning || this.#hasFailed || this.#pace.isStopped) return;
    const isDue = isBaseDue(this.#state);
    if (!isDue && !this.#hasDropped) return;
    if (this.#clock.monotonic() < this.#notBefore) return;
    this.#running = this.#run(isDue)
      .catch((error: unknown) => {
        // A record that is damaged stays so: the log grows, and a person is told.
        this.#hasFailed = isDamage(error);
        this.#hasDropped = true;
        this.#notBefore = this.#clock.monotonic() + retryMs;
        this.#failed(error);
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  /** The log begins later: its blocks are deleted at leisure. */
  dropped(): void {
    this.#hasDropped = true;
  }

  /** This store's content is being replaced: what is under way isn't made valid any more. */
  async close(): Promise<void> {
    this.#pace.stop();
    await this.#running;
  }

  async #run(isDue: boolean): Promise<void> {
    this.#pace.begin();
    this.#ledger = this.#state.ledger;
    if (this.#hasDropped) {
      this.#hasDropped = false;
      await this.#deleteBlocks();
    }
    const old = await readBase(this.#log);
    if (!this.#isClear && !this.#isOver) await this.#deleteStray(revisionOf(old).index);
    this.#isClear = true;
    if (isDue && !this.#isOver) await this.#write(old);
  }

  /** Nothing of it may be written: the incarnation ends, or a snapshot replaces what is here. */
  get #isOver(): boolean {
    const { ledger, incomplete } = this.#state;
    return this.#pace.isStopped || incomplete || ledger !== this.#ledger;
  }

  /** Reads the store as it is at this moment, whatever is committed meanwhile. */
  async #write(old: SnapshotBase | undefined): Promise<void> {
    const { chunkBytes, raiseFormat } = this.#options;
    const mark = markOfWatermark(this.#state);
    const tally = new BaseTally();
    let at = origin;
    let records: SnapshotRecord[] = [];
    let [bytes, chunks] = [0, 0];
    const flush = async (last: boolean): Promise<void> => {
      if (chunks === 0) raiseFormat?.();
      const checksum = checksumOf(records);
      const chunk = { at, sequence: chunks, last, records, checksum };
      this.#log.record([recordChunk(at, chunk)], { sync: false });
      records = [];
      bytes = 0;
      chunks += 1;
      await this.#log.settled();
      await this.#pace.rest();
    };
    for await (const [key, value] of this.#log.scan(metaPrefix, sessionPrefix)) {
      if (this.#isOver) return;
      if (key[0] === metaPrefix[0]) {
        if (Buffer.compare(key, watermarkKey) === 0) at = EntryId.decode(value);
        continue;
      }
      // Nothing new is committed in the store yet: the next look finds it.
      if (at.index <= revisionOf(old).index) return;
      const record = { key, value };
      if (!tally.take(record)) continue;
      this.#isClear = false;
      records.push(record);
      bytes += key.byteLength + value.byteLength;
      if (bytes >= chunkBytes) await flush(false);
    }
    if (this.#isOver || at.index <= revisionOf(old).index) return;
    await flush(true);
    const newest = await this.#log.blockEndingAt(at.index);
    if (this.#isOver) return;
    const base: SnapshotBase = {
      at,
      chunks,
      objects: tally.objects,
      sessions: tally.sessions,
      time: newest?.entries.at(-1)?.at ?? this.#state.ledger.lastAt,
      stateHash: tally.hashAt(at),
      spans: [...cutAfter(this.#state.ledger.spans, at.index)],
    };
    this.#log.record([recordBase(base), ...(old === undefined ? [] : forgetChunks(old))], {
      sync: true,
    });
    await this.#log.settled();
    this.#isClear = true;
    if (this.#isOver) return;
    const now = this.#clock.monotonic();
    this.#give({ type: 'BaseWritten', base: { id: at, bytes: mark.bytes }, now });
  }

  /** Blocks before the log's start: nobody reads them. */
  async #deleteBlocks(): Promise<void> {
    const { start } = this.#log;
    if (start.index === 0) return;
    await this.#delete(blockKey(0), blockKey(start.index), () => {
      return this.#log.start.index >= start.index;
    });
  }

  /** Chunks of a base that never became valid. */
  async #deleteStray(valid: number): Promise<void> {
    const isStill = (): boolean => !this.#isOver;
    if (valid > 0) await this.#delete(chunkPrefix, chunksOf(valid - 1), isStill);
    await this.#delete(chunkKey(valid + 1, 0), chunkPrefix, isStill);
  }

  #delete(from: Uint8Array, through: Uint8Array, isStill: () => boolean): Promise<void> {
    return deleteRecords(this.#log, [from, through], {
      atOnce: deleteMax,
      isStill: () => !this.#pace.isStopped && isStill(),
      deleted: () => this.#pace.rest(),
    });
  }
}

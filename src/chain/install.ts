import { KeychainError } from '../base/errors.js';
import {
  EntryId,
  LogSpans,
  type SnapshotBase,
  type SnapshotChunk,
} from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import { type EventLog, origin } from '../log/event-log.js';
import { chunkPrefix, objectPrefix, sessionPrefix } from '../log/keys.js';
import {
  baseKey,
  deleteRecords,
  faultOf,
  incompleteKey,
  recordBase,
  recordChunk,
  revisionOf,
} from './base.js';
import { BaseTally } from './base-tally.js';
import type { ChainInput } from './inputs.js';
import { rememberLedger, spansKey, watermarkKey } from './node-store.js';

/** Records that one batch deletes while a store is emptied. */
const deleteMax = 1_024;

/**
 * Puts a snapshot into this store, in the place of what was there (R17). First, synced, the record that says so; then
 * the store is emptied, then come the chunks; the record goes in the batch that makes the store whole.
 */
export class Installer {
  readonly #log: EventLog;
  readonly #forget: () => void;
  readonly #give: (input: ChainInput) => void;
  readonly #now: () => number;
  readonly #raiseFormat: () => void;
  readonly #failed: (why: string) => void;
  #present: { readonly session: number; readonly base: SnapshotBase; tally: BaseTally } | undefined;
  /** One thing after the other. */
  #work: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly log: EventLog;
    /** What was committed of the content before, and what is in memory of it, doesn't count any more. */
    readonly forget: () => void;
    readonly give: (input: ChainInput) => void;
    readonly now: () => number;
    readonly raiseFormat: () => void;
    /** What came is no snapshot of a chain: this store can't be made whole. */
    readonly failed: (why: string) => void;
  }) {
    const { log, forget, give, now, raiseFormat, failed } = options;
    this.#log = log;
    this.#forget = forget;
    this.#give = give;
    this.#now = now;
    this.#raiseFormat = raiseFormat;
    this.#failed = failed;
  }

  /** From here on nothing in this store counts. What an earlier one still does is stopped. */
  begin(session: number, base: SnapshotBase): void {
    this.#present = { session, base, tally: new BaseTally() };
    this.#raiseFormat();
    // One batch: a store that says that it is incomplete has no log, and none that doesn't has lost it.
    const gone = [watermarkKey, spansKey, baseKey];
    this.#log.record(
      [
        { type: 'put', key: incompleteKey, value: EntryId.encode(revisionOf(base)).finish() },
        ...gone.map((key): WriteOp => ({ type: 'del', key })),
      ],
      { sync: true },
    );
    this.#log.reset(origin);
    this.#forget();
    this.#then(session, () => this.#empty(session));
  }

  store(session: number, chunk: SnapshotChunk): void {
    this.#then(session, async ({ base, tally }) => {
      const at = revisionOf(base);
      const wrong = faultOf(chunk, at, chunk.sequence);
      if (wrong !== undefined) throw new KeychainError('CORRUPT', wrong);
      const ops: WriteOp[] = [recordChunk(at, chunk)];
      for (const record of chunk.records) {
        if (!tally.take(record)) throw new KeychainError('CORRUPT', 'no record of a base');
        ops.push({ type: 'put', ...record });
      }
      this.#log.record(ops, { sync: false });
      await this.#log.settled();
      const chunks = chunk.sequence + 1;
      if (this.#isNow(session)) {
        this.#give({ type: 'ChunksStored', session, chunks, now: this.#now() });
      }
    });
  }

  /** The last step: the store is whole, and its log goes on after the snapshot. */
  complete(session: number): void {
    this.#then(session, async ({ base, tally }) => {
      const at = revisionOf(base);
      const hash = tally.hashAt(at);
      if (hash !== base.stateHash) {
        const what = `the snapshot at revision ${at.index} has hash ${hash}, not ${base.stateHash}`;
        throw new KeychainError('CORRUPT', what);
      }
      this.#log.record(
        [
          recordBase(base),
          { type: 'put', key: watermarkKey, value: EntryId.encode(at).finish() },
          { type: 'put', key: spansKey, value: LogSpans.encode({ spans: base.spans }).finish() },
          { type: 'del', key: incompleteKey },
        ],
        { sync: true },
      );
      this.#log.reset(at);
      await this.#log.settled();
      if (!this.#isNow(session)) return;
      // What a start would find.
      const ledger = await rememberLedger(this.#log);
      if (!this.#isNow(session)) return;
      this.#give({ type: 'SnapshotInstalled', session, ledger, now: this.#now() });
    });
  }

  /** What is under way ends. */
  async close(): Promise<void> {
    this.#present = undefined;
    await this.#work;
  }

  #isNow(session: number): boolean {
    return this.#present?.session === session;
  }

  /** Does it after what was begun before, unless that was for nothing. */
  #then(
    session: number,
    work: (present: { readonly base: SnapshotBase; readonly tally: BaseTally }) => Promise<void>,
  ): void {
    this.#work = this.#work
      .then(async () => {
        const present = this.#present;
        if (present?.session === session) await work(present);
      })
      .catch((error: unknown) => {
        if (!this.#isNow(session)) return;
        this.#present = undefined;
        this.#failed(KeychainError.from(error).message);
      });
  }

  async #empty(session: number): Promise<void> {
    await this.#log.settled();
    const isStill = (): boolean => this.#isNow(session);
    for (const range of [
      [objectPrefix, sessionPrefix],
      [chunkPrefix, chunkPrefix],
    ] as const) {
      await deleteRecords(this.#log, range, { atOnce: deleteMax, isStill });
      if (!isStill()) return;
    }
  }
}

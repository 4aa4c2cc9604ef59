import { constants, type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import rocksdb, { type RocksDatabase, type RocksIterator } from 'rocksdb';
import { asBuffer, fromHex, noBytes, toHex } from '../base/bytes.js';
import type { ScanRange, StorageEngine, WriteOp } from './engine.js';
import { isNotFound, openError, readError } from './rocks-status.js';

/** Bytes: blocks cached, and the memtable. */
const cacheBytes = 64 << 20;
const writeBufferBytes = 64 << 20;
/**
 * Beside the process that writes a store, its tables are opened at once and stay open: the writer removes
 * those that it has merged, and an open one can be read on. The binding takes -1, all, as an unsigned number.
 */
const allFiles = 0xff_ff_ff_ff;

/** StorageEngine on RocksDB, in `dir`; the high-water file stands beside the database. */
export class RocksEngine implements StorageEngine {
  readonly #db: RocksDatabase;
  readonly #highWaterFile: string;
  #open = 0;
  #closed = false;
  #idle: (() => void) | undefined;
  #highWater: Promise<FileHandle> | undefined;
  /** Of the file; undefined before this process has written it. */
  #highWaterBytes: number | undefined;
  /** An iterator has failed: the binding never ends such a one, and never closes a store that has one. */
  #stuck = false;

  private constructor(db: RocksDatabase, dir: string) {
    this.#db = db;
    this.#highWaterFile = join(dir, 'high-water');
  }

  /** `readOnly`: beside the process that writes it, as it was at this moment. Rejects as `openError` says. */
  static async open(
    dir: string,
    { readOnly = false }: { readonly readOnly?: boolean } = {},
  ): Promise<RocksEngine> {
    const location = join(dir, 'store');
    const kept = readOnly ? undefined : await emptyIfMarked(dir);
    const db = rocksdb(location);
    const options = {
      createIfMissing: !readOnly,
      readOnly,
      compression: true,
      cacheSize: cacheBytes,
      writeBufferSize: writeBufferBytes,
      ...(readOnly ? { maxOpenFiles: allFiles } : {}),
    };
    await new Promise<void>((resolve, reject) => {
      db.open(options, (error) => (error ? reject(openError(dir, error)) : resolve()));
    });
    const engine = new RocksEngine(db, dir);
    if (kept !== undefined) {
      await engine.write(kept, { sync: true });
      await rm(join(dir, marker));
    }
    return engine;
  }

  /**
   * A store that is too damaged to be scanned, or closed, is removed when it is opened next. The records in
   * `keep`, as they are stored, are written to the new one.
   */
  static async emptyAtNextOpen(dir: string, keep: readonly WriteOp[]): Promise<void> {
    const lines = keep.flatMap((op) =>
      op.type === 'put' ? [`${toHex(op.key)} ${toHex(op.value)}\n`] : [],
    );
    const file = await open(join(dir, marker), 'w');
    await file.writeFile(lines.join(''));
    await file.sync();
    await file.close();
  }

  /** A number that RocksDB knows of itself, e.g. `rocksdb.estimate-num-keys`; NaN where it doesn't. */
  property(name: string): number {
    if (this.#closed) return Number.NaN;
    const text = this.#db.getProperty(name);
    return text === '' ? Number.NaN : Number(text);
  }

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return;
      this.#db.get(asBuffer(key), { asBuffer: true }, (error, value) => {
        if (!error) resolve(value);
        else if (isNotFound(error.message)) resolve(undefined);
        else reject(readError(error));
      });
    });
  }

  write(ops: readonly WriteOp[], options: { readonly sync: boolean }): Promise<void> {
    return new Promise((resolve, reject) => {
      const batch = this.#db.batch();
      for (const op of ops) {
        if (op.type === 'put') batch.put(asBuffer(op.key), asBuffer(op.value));
        else batch.del(asBuffer(op.key));
      }
      this.#open += 1;
      batch.write({ sync: options.sync }, (error) => {
        this.#release();
        if (error) reject(error);
        else resolve();
      });
    });
  }

  async *scan(range: ScanRange): AsyncIterable<readonly [Uint8Array, Uint8Array]> {
    const iterator = this.#db.iterator({
      gte: asBuffer(range.gte),
      lt: asBuffer(range.lt),
      reverse: range.reverse ?? false,
      limit: range.limit ?? -1,
      keyAsBuffer: true,
      valueAsBuffer: true,
    });
    this.#open += 1;
    let stuck = false;
    try {
      for (;;) {
        stuck = true;
        const entry = await next(iterator);
        stuck = false;
        if (entry === undefined) return;
        yield entry;
      }
    } finally {
      const ended = new Promise<void>((resolve) => iterator.end(() => resolve()));
      if (stuck) this.#stuck = true;
      else await ended;
      this.#release();
    }
  }

  async readHighWater(): Promise<Uint8Array | undefined> {
    try {
      return await readFile(this.#highWaterFile);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** In place: a file that is opened anew for each sync costs more than what is written. */
  async writeHighWater(value: Uint8Array): Promise<void> {
    if (this.#closed) return;
    this.#highWater ??= open(this.#highWaterFile, constants.O_WRONLY | constants.O_CREAT);
    const file = await this.#highWater.catch((error: unknown) => {
      // E.g. too many open files: the next sync tries again.
      this.#highWater = undefined;
      throw error;
    });
    await file.write(value, 0, value.byteLength, 0);
    if (value.byteLength === this.#highWaterBytes) return;
    await file.truncate(value.byteLength);
    this.#highWaterBytes = value.byteLength;
  }

  /**
   * Waits for writes and iterators that are under way: closing before them can end the process. After an
   * iterator has failed the folder stays locked until the process ends, by `process.exit`.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#open > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await (await this.#highWater)?.close();
    if (this.#stuck) return;
    await new Promise<void>((resolve, reject) => {
      this.#db.close((error) => (error ? reject(error) : resolve()));
    });
  }

  #release(): void {
    this.#open -= 1;
    if (this.#open === 0) this.#idle?.();
  }
}

/** Names the records that a store which is to be emptied keeps. */
const marker = 'empty-at-open';

/** Removes a store that was marked; the records that it keeps, or undefined where it isn't marked. */
async function emptyIfMarked(dir: string): Promise<readonly WriteOp[] | undefined> {
  let text: string;
  try {
    text = await readFile(join(dir, marker), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  await rm(join(dir, 'store'), { recursive: true, force: true });
  await rm(join(dir, 'high-water'), { force: true });
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const [key = '', value = ''] = line.split(' ');
    return { type: 'put', key: fromHex(key) ?? noBytes, value: fromHex(value) ?? noBytes };
  });
}

function next(iterator: RocksIterator): Promise<readonly [Uint8Array, Uint8Array] | undefined> {
  return new Promise((resolve, reject) => {
    iterator.next((error, key, value) => {
      if (error) reject(readError(error));
      else resolve(key === undefined || value === undefined ? undefined : [key, value]);
    });
  });
}

import { fromMapKey, toMapKey } from '../base/bytes.js';
import { type Clock, pause } from '../base/clock.js';
import type { ScanRange, StorageEngine, WriteOp } from './engine.js';

export interface MemoryEngineOptions {
  /** With a clock, single reads and writes take the given milliseconds of its time. */
  readonly clock?: Clock;
  readonly readMs?: () => number;
  readonly writeMs?: () => number;
  readonly syncMs?: () => number;
  /** A disk that says yes and doesn't sync: what it holds is lost in a crash. */
  readonly ignoreSync?: boolean;
  /**
   * Of this many batches that no sync covered, how many the power cut leaves: the first ones, each whole,
   * as a write-ahead log that is read up to its first torn record. Without it, none.
   */
  readonly survivors?: (batches: number) => number;
}

interface Change {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/**
 * A StorageEngine in memory, for tests and the simulator. A write is visible at once and durable when a
 * later sync (or its own) ends; `crash` gives what a power cut would leave.
 */
export class MemoryEngine implements StorageEngine {
  readonly #options: MemoryEngineOptions;
  #keys: string[] = [];
  readonly #values = new Map<string, Uint8Array>();
  #durable = new Map<string, Uint8Array>();
  /** Batches that are visible and not yet durable, in order. */
  #unsynced: (readonly Change[])[] = [];
  #madeDurable = 0;
  #highWater: Uint8Array | undefined;
  #durableHighWater: Uint8Array | undefined;
  #crashed = false;
  #failure: Error | undefined;
  #failsAll = false;
  #lies: boolean;
  #last: Promise<void> = Promise.resolve();

  constructor(options: MemoryEngineOptions = {}, content?: ReadonlyMap<string, Uint8Array>) {
    this.#options = options;
    this.#lies = options.ignoreSync ?? false;
    for (const [key, value] of content ?? []) {
      this.#values.set(key, value);
      this.#durable.set(key, value);
    }
    this.#keys = [...this.#values.keys()].sort();
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    // As it was when it was asked for.
    const found = await this.#unlessCrashed(() => this.#values.get(toMapKey(key)));
    const milliseconds = this.#options.readMs?.() ?? 0;
    if (milliseconds > 0) await this.#delay(milliseconds);
    return this.#unlessCrashed(() => found);
  }

  write(ops: readonly WriteOp[], { sync }: { readonly sync: boolean }): Promise<void> {
    if (this.#crashed) return never();
    const changes = ops.map((op) => ({
      key: toMapKey(op.key),
      value: op.type === 'put' ? new Uint8Array(op.value) : undefined,
    }));
    for (const change of changes) this.#apply(change);
    this.#unsynced.push(changes);
    const upTo = this.#madeDurable + this.#unsynced.length;
    const milliseconds = sync ? this.#options.syncMs?.() : this.#options.writeMs?.();
    const before = this.#last;
    const failure = sync || this.#failsAll ? this.#failure : undefined;
    this.#last = (async () => {
      await before;
      await this.#delay(milliseconds ?? 0);
      if (this.#crashed) return never();
      if (failure !== undefined) throw failure;
      if (sync && !this.#lies) this.#makeDurable(upTo);
    })();
    return this.#last;
  }

  async *scan(range: ScanRange): AsyncIterable<readonly [Uint8Array, Uint8Array]> {
    const from = lowerBound(this.#keys, toMapKey(range.gte));
    const to = lowerBound(this.#keys, toMapKey(range.lt));
    const keys = this.#keys.slice(from, to);
    if (range.reverse === true) keys.reverse();
    // As RocksDB's iterators: what stands there when the scan begins.
    const found = keys.slice(0, range.limit).map((key) => [key, this.#values.get(key)] as const);
    for (const [key, value] of found) {
      await this.#unlessCrashed(() => undefined);
      if (value !== undefined) yield [fromMapKey(key), value];
    }
  }

  async close(): Promise<void> {
    await this.#last;
    this.#makeDurable(this.#madeDurable + this.#unsynced.length);
  }

  readHighWater(): Promise<Uint8Array | undefined> {
    return this.#unlessCrashed(() => this.#highWater);
  }

  writeHighWater(value: Uint8Array): Promise<void> {
    return this.#unlessCrashed(() => {
      this.#highWater = new Uint8Array(value);
    });
  }

  /**
   * The process is gone: what is pending never resolves. Without `power` the page cache survives, as
   * after SIGKILL; with it only what was synced does.
   */
  crash(options: { readonly power: boolean }): MemoryEngine {
    this.#crashed = true;
    if (options.power) this.#keepSurvivors();
    const next = new MemoryEngine(this.#options, options.power ? this.#durable : this.#values);
    next.#highWater = options.power ? this.#durableHighWater : this.#highWater;
    next.#durableHighWater = next.#highWater;
    return next;
  }

  /** Unsynced batches that got to the disk before the power went; the high-water file did not. */
  #keepSurvivors(): void {
    const left = this.#options.survivors?.(this.#unsynced.length) ?? 0;
    for (const batch of this.#unsynced.slice(0, left)) this.#store(batch);
  }

  /** A disk with the same content, synced or not. */
  copy(): MemoryEngine {
    const copy = new MemoryEngine({}, this.#values);
    copy.#highWater = this.#highWater;
    copy.#durableHighWater = this.#highWater;
    return copy;
  }

  /** From now on every synced write rejects. */
  failSyncs(error: Error): void {
    this.#failure = error;
  }

  /** From now on every write rejects, as on a full disk. */
  failWrites(error: Error): void {
    this.#failure = error;
    this.#failsAll = true;
  }

  /** From now on it says yes to a sync and doesn't; or no more, and what it owes is on the disk. */
  ignoreSyncs(lies: boolean): void {
    this.#lies = lies;
    if (!lies) this.#makeDurable(this.#madeDurable + this.#unsynced.length);
  }

  get isLying(): boolean {
    return this.#lies;
  }

  get isFailing(): boolean {
    return this.#failure !== undefined;
  }

  /** Keys that a crash would leave, in order. */
  get durableKeys(): readonly Uint8Array[] {
    return [...this.#durable.keys()].sort().map(fromMapKey);
  }

  /** Damage: changes one byte of a stored value; false where there is none. */
  flipByte(key: Uint8Array, at: number): boolean {
    const value = this.#values.get(toMapKey(key));
    if (value === undefined) return false;
    const damaged = new Uint8Array(value);
    damaged[at] = (damaged[at] ?? 0) ^ 0xff;
    this.#values.set(toMapKey(key), damaged);
    this.#durable.set(toMapKey(key), damaged);
    return true;
  }

  /** Damage that no checksum sees: another value, synced. */
  replace(key: Uint8Array, value: Uint8Array): void {
    this.#apply({ key: toMapKey(key), value });
    this.#durable.set(toMapKey(key), value);
  }

  /** What stands there now, synced or not. */
  peek(key: Uint8Array): Uint8Array | undefined {
    return this.#values.get(toMapKey(key));
  }

  /** Damage: a hole in synced data. */
  lose(key: Uint8Array): void {
    this.#apply({ key: toMapKey(key), value: undefined });
    this.#durable.delete(toMapKey(key));
  }

  #apply({ key, value }: Change): void {
    if (value === undefined) {
      if (!this.#values.delete(key)) return;
      this.#keys.splice(lowerBound(this.#keys, key), 1);
    } else {
      if (!this.#values.has(key)) this.#insert(key);
      this.#values.set(key, value);
    }
  }

  #insert(key: string): void {
    const last = this.#keys.at(-1);
    if (last === undefined || last < key) this.#keys.push(key);
    else this.#keys.splice(lowerBound(this.#keys, key), 0, key);
  }

  #store(batch: readonly Change[]): void {
    for (const { key, value } of batch) {
      if (value === undefined) this.#durable.delete(key);
      else this.#durable.set(key, value);
    }
  }

  /** Everything through batch number `upTo`, counted from the start. */
  #makeDurable(upTo: number): void {
    const count = upTo - this.#madeDurable;
    if (count <= 0) return;
    this.#madeDurable = upTo;
    for (const batch of this.#unsynced.splice(0, count)) this.#store(batch);
    this.#durableHighWater = this.#highWater;
  }

  #delay(milliseconds: number): Promise<void> {
    const { clock } = this.#options;
    return clock === undefined ? Promise.resolve() : pause(clock, milliseconds);
  }

  #unlessCrashed<T>(answer: () => T): Promise<T> {
    return this.#crashed ? never() : Promise.resolve(answer());
  }
}

function never<T>(): Promise<T> {
  return new Promise(() => undefined);
}

function lowerBound(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] ?? '') < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

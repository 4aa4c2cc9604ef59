/** One change to the keyspace. */
export type WriteOp =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: Uint8Array };

export interface ScanRange {
  /** First key, inclusive. */
  readonly gte: Uint8Array;
  /** Last key, exclusive. */
  readonly lt: Uint8Array;
  readonly reverse?: boolean;
  readonly limit?: number;
}

/**
 * An ordered keyspace of bytes on a disk (RocksDB) or in memory (tests, simulator): the port below the
 * log. Both pass one contract suite (test/log/engine-contract.ts). A failed call rejects; a failed
 * synced write ends the process (the caller's duty): nobody may go on after it.
 */
export interface StorageEngine {
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** Atomic. With `sync` it resolves when the batch is on the disk. Calls take effect in call order. */
  write(ops: readonly WriteOp[], options: { readonly sync: boolean }): Promise<void>;
  scan(range: ScanRange): AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]>;
  /** A number that the engine knows of itself, by its own name for it; NaN where it doesn't. */
  property?(name: string): number;
  close(): Promise<void>;
  /** Beside the store: a small file, rewritten whole after a sync, itself not synced (src/log/README.md). */
  readHighWater(): Promise<Uint8Array | undefined>;
  writeHighWater(value: Uint8Array): Promise<void>;
}

import { crc32 } from 'node:zlib';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import type { StorageEngine } from './engine.js';

/**
 * The small file beside the store that says how far it was synced; rewritten after each sync, itself
 * not synced. A store that is behind it has lost synced data.
 */
export class HighWater {
  readonly #engine: StorageEngine;
  #next: EntryId | undefined;
  #writing: Promise<void> | undefined;

  constructor(engine: StorageEngine) {
    this.#engine = engine;
  }

  /** Undefined where there is none, or it is torn: it proves nothing then. */
  static async read(engine: StorageEngine): Promise<EntryId | undefined> {
    const bytes = await engine.readHighWater();
    if (bytes === undefined || bytes.byteLength < 4) return undefined;
    const value = bytes.subarray(4);
    const stored = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0);
    return stored === crc32(value) ? EntryId.decode(value) : undefined;
  }

  /** The newest wins; one write at a time. */
  write(synced: EntryId): void {
    this.#next = synced;
    this.#writing ??= this.#run();
  }

  settled(): Promise<void> {
    return this.#writing ?? Promise.resolve();
  }

  async #run(): Promise<void> {
    while (this.#next !== undefined) {
      const value = EntryId.encode(this.#next).finish();
      this.#next = undefined;
      const bytes = new Uint8Array(4 + value.byteLength);
      new DataView(bytes.buffer).setUint32(0, crc32(value));
      bytes.set(value, 4);
      // A lost rewrite only makes the file prove less.
      await this.#engine.writeHighWater(bytes).catch(() => undefined);
    }
    this.#writing = undefined;
  }
}

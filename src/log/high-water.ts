import { crc32 } from 'node:zlib';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import type { StorageEngine } from './engine.js';

/** How far a store was synced: everything through this entry and through this marker. */
export interface SyncedThrough {
  readonly entry: EntryId;
  /** Number of the newest marker; every marker after it may be lost in a power cut. */
  readonly marker: number;
}

/** Checksum of the rest, 4 bytes; number of the marker, 8 bytes; the entry. */
const checksumBytes = 4;
const headBytes = checksumBytes + 8;

/**
 * The small file beside the store that says how far it was synced; rewritten after each sync, itself
 * not synced, so it may be old but never ahead. A store that is behind it has lost synced data.
 */
export class HighWater {
  readonly #engine: StorageEngine;
  #next: SyncedThrough | undefined;
  #writing: Promise<void> | undefined;

  constructor(engine: StorageEngine) {
    this.#engine = engine;
  }

  /** Undefined where there is none, or it is torn: it proves nothing then. */
  static async read(
    engine: Pick<StorageEngine, 'readHighWater'>,
  ): Promise<SyncedThrough | undefined> {
    const bytes = await engine.readHighWater();
    if (bytes === undefined || bytes.byteLength < headBytes) return undefined;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (view.getUint32(0) !== crc32(bytes.subarray(checksumBytes))) return undefined;
    const marker = Number(view.getBigUint64(checksumBytes));
    return { entry: EntryId.decode(bytes.subarray(headBytes)), marker };
  }

  /** The newest wins; one write at a time. */
  write(through: SyncedThrough): void {
    this.#next = through;
    this.#writing ??= this.#run();
  }

  settled(): Promise<void> {
    return this.#writing ?? Promise.resolve();
  }

  async #run(): Promise<void> {
    while (this.#next !== undefined) {
      const bytes = encode(this.#next);
      this.#next = undefined;
      // A lost rewrite only makes the file prove less.
      await this.#engine.writeHighWater(bytes).catch(() => undefined);
    }
    this.#writing = undefined;
  }
}

function encode({ entry, marker }: SyncedThrough): Uint8Array {
  const id = EntryId.encode(entry).finish();
  const bytes = new Uint8Array(headBytes + id.byteLength);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(checksumBytes, BigInt(marker));
  bytes.set(id, headBytes);
  view.setUint32(0, crc32(bytes.subarray(checksumBytes)));
  return bytes;
}

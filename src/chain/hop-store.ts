import { HopRecord } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import type { EventLog } from '../log/event-log.js';
import { hopIndexOf, hopKey, hopPrefix } from '../log/keys.js';

/** Hop records that a node keeps on its disk. */
export const hopRecordsMax = 16_384;

/**
 * Hop records of traced blocks, beside the log and never synced for their own sake: what is lost of them in
 * a crash is a trace, not data.
 */
export class HopStore {
  readonly #log: EventLog;
  /** Indices of what is stored, oldest first; undefined until the disk was looked at. */
  #stored: number[] | undefined;
  #looking: Promise<void> | undefined;

  constructor(log: EventLog) {
    this.#log = log;
  }

  /** @param isOpen asked before anything is handed to the log */
  async keep(records: readonly HopRecord[], isOpen: () => boolean): Promise<void> {
    this.#looking ??= this.#look();
    await this.#looking;
    if (!isOpen()) return;
    const stored = this.#stored ?? [];
    const ops: WriteOp[] = [];
    for (const record of records) {
      const index = record.end?.index ?? 0;
      ops.push({ type: 'put', key: hopKey(index), value: HopRecord.encode(record).finish() });
      stored.push(index);
    }
    const fresh = new Set(records.map((record) => record.end?.index));
    while (stored.length > hopRecordsMax) {
      const oldest = stored.shift();
      if (oldest !== undefined && !fresh.has(oldest))
        ops.push({ type: 'del', key: hopKey(oldest) });
    }
    this.#log.record(ops, { sync: false });
  }

  async #look(): Promise<void> {
    const stored: number[] = [];
    for await (const [key] of this.#log.scan(hopPrefix)) stored.push(hopIndexOf(key));
    this.#stored = stored;
  }
}

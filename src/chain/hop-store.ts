import type { Cancel, Clock } from '../base/clock.js';
import { HopRecord } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import type { EventLog } from '../log/event-log.js';
import { hopIndexOf, hopKey, hopPrefix } from '../log/keys.js';

/** Hop records that a node keeps on its disk. */
export const hopRecordsMax = 16_384;
/** Milliseconds that a record may wait in memory: many of them are one write beside the data's. */
const gatherMs = 1_000;

/**
 * Hop records of traced blocks, beside the log and never synced for their own sake: what is lost of them in
 * a crash is a trace, not data.
 */
export class HopStore {
  readonly #log: EventLog;
  /** Indices of what is stored, oldest first; undefined until the disk was looked at. */
  #stored: number[] | undefined;
  #looking = false;
  #waiting: HopRecord[] = [];
  #cancel: Cancel | undefined;
  readonly #clock: Clock;

  constructor(log: EventLog, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  keep(record: HopRecord): void {
    this.#waiting.push(record);
    if (!this.#looking) {
      this.#looking = true;
      // One that can't be read costs traces, not the node: what stands there is not counted then.
      this.#look().catch(() => undefined);
    }
    this.#cancel ??= this.#clock.after(gatherMs, () => this.flush());
  }

  /** Hands over what waits; before the log is released for the last time. */
  flush(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const records = this.#waiting.splice(0);
    if (records.length === 0) return;
    this.#stored ??= [];
    const stored = this.#stored;
    const ops: WriteOp[] = [];
    for (const record of records) {
      const index = record.end?.index ?? 0;
      ops.push({ type: 'put', key: hopKey(index), value: HopRecord.encode(record).finish() });
      stored.push(index);
    }
    for (const oldest of stored.splice(0, Math.max(0, stored.length - hopRecordsMax))) {
      ops.push({ type: 'del', key: hopKey(oldest) });
    }
    this.#log.record(ops, { sync: false });
  }

  async #look(): Promise<void> {
    const stored: number[] = [];
    for await (const [key] of this.#log.scan(hopPrefix)) stored.push(hopIndexOf(key));
    this.#stored = [...stored, ...(this.#stored ?? [])];
  }
}

import type { EntryId } from '../gen/keychaindb/v1/log.js';

/** What is handed to the disk, and how much of it is there. */
interface Progress {
  readonly last: EntryId;
  readonly synced: EntryId;
}

/** For how long the oldest write has waited for the disk, as seen from tick to tick: a node beats on while its disk is stuck. */
export class DiskWait {
  #synced = 0;
  #since: number | undefined;

  /** `now`: monotonic milliseconds. */
  look({ last, synced }: Progress, now: number): void {
    if (last.index <= synced.index) this.#since = undefined;
    else if (this.#since === undefined || synced.index !== this.#synced) this.#since = now;
    this.#synced = synced.index;
  }

  /** Milliseconds; 0 where nothing waits. */
  waitedMs(progress: Progress, now: number): number {
    this.look(progress, now);
    return this.#since === undefined ? 0 : now - this.#since;
  }
}

/** Milliseconds after which a fault is over that has not come again: a follower that is not fed asks again. */
const againMs = 3_000;

/**
 * For how long this node has failed to read what a follower needs that the chain waits for, for another reason than damage,
 * e.g. too many open files. It beats on, and the chain stands still, as with a disk that hangs.
 */
export class FeedFaults {
  #since: number | undefined;
  #newest = 0;

  /** Such a feed has failed. `now`: monotonic milliseconds. */
  failed(now: number): void {
    if (this.#since === undefined || now - this.#newest > againMs) this.#since = now;
    this.#newest = now;
  }

  /** A feed goes well. */
  over(): void {
    this.#since = undefined;
  }

  /** Milliseconds from the first failure to the newest one; 0: feeds go well. */
  lastedMs(now: number): number {
    if (this.#since === undefined || now - this.#newest > againMs) return 0;
    return this.#newest - this.#since;
  }
}

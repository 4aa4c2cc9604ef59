/** Milliseconds between two failures of one fault: a follower that is not fed asks again. */
const againMs = 3_000;

/**
 * For how long this node has failed to read what its follower needs, for another reason than damage, e.g. too many open
 * files. It beats on, and the chain stands still behind it, as with a disk that hangs.
 */
export class FeedFaults {
  #since = 0;
  #newest = Number.NEGATIVE_INFINITY;

  /** A feed has failed. True: a person should hear of it. `now`: monotonic milliseconds. */
  failed(now: number): boolean {
    const isNew = now - this.#newest > againMs;
    if (isNew) this.#since = now;
    this.#newest = now;
    return isNew;
  }

  /** Milliseconds; 0 where the newest feed goes well. */
  lastedMs(now: number): number {
    return now - this.#newest > againMs ? 0 : now - this.#since;
  }
}

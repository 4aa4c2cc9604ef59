/** Milliseconds between two notices. */
const noticeMs = 60_000;
/** Milliseconds after which a fault is over that has not come again: a follower that is not fed asks again. */
const againMs = 3_000;

/**
 * For how long this node has failed to read what its follower needs, for another reason than damage, e.g. too many open
 * files. It beats on, and where the chain waits for that follower it stands still, as with a disk that hangs.
 */
export class FeedFaults {
  #since: number | undefined;
  #newest = 0;
  #noticedAt = Number.NEGATIVE_INFINITY;

  /** A feed has failed, of a follower that the chain waits for or not. `now`: monotonic milliseconds. */
  failed(now: number, isAwaited: boolean): void {
    if (!isAwaited) return;
    if (this.#since === undefined || now - this.#newest > againMs) this.#since = now;
    this.#newest = now;
  }

  /** A feed goes well. */
  over(): void {
    this.#since = undefined;
  }

  /** Should a person hear of it, now? */
  isNews(now: number): boolean {
    if (now - this.#noticedAt < noticeMs) return false;
    this.#noticedAt = now;
    return true;
  }

  /** Milliseconds from the first failure to the newest one; 0: feeds go well. */
  lastedMs(now: number): number {
    if (this.#since === undefined || now - this.#newest > againMs) return 0;
    return this.#newest - this.#since;
  }
}

/** Bytes of an answer that is too small to be counted: connections have a bound of streams. */
export const smallBytes = 4 << 10;
/** Bytes of answers of one connection that wait to be fetched. */
export const unfetchedBytesMax = 64 << 20;

/**
 * Room for answers that their reader hasn't fetched yet. An answer that finds none isn't kept: what it answers is asked
 * again when there is room, as a read may be, so that many large reads at once are all answered, and hold little.
 */
export class Unfetched {
  readonly #bytesMax: number;
  readonly #waiting = new Set<() => void>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Takes room; false: there is none. One answer may be larger than all that there is. */
  take(bytes: number): boolean {
    if (this.#bytes > 0 && this.#bytes + bytes > this.#bytesMax) return false;
    this.#bytes += bytes;
    return true;
  }

  /** Taken now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** An answer was fetched, or nobody fetches it any more. */
  give(bytes: number): void {
    this.#bytes -= bytes;
    this.next();
  }

  /** Calls `again` once, when there may be room: it takes some, waits anew, or calls `next`. */
  wait(again: () => void): void {
    this.#waiting.add(again);
  }

  /** It isn't wanted any more. */
  leave(again: () => void): void {
    this.#waiting.delete(again);
  }

  /** Somebody's turn. */
  next(): void {
    for (const again of this.#waiting) {
      this.#waiting.delete(again);
      again();
      return;
    }
  }
}

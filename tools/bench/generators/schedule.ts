/**
 * When the operations of an open loop are due: evenly, whatever the answers do. Latency counts from then, so that one
 * that could not be sent in time is as late as its client would have found it.
 */
export class Schedule {
  readonly #began: number;
  readonly #intervalMs: number;
  readonly #end: number;
  #issued = 0;

  /** @param began milliseconds of a monotonic clock @param perSecond above 0 */
  constructor(began: number, perSecond: number, seconds: number) {
    this.#began = began;
    this.#intervalMs = 1_000 / perSecond;
    this.#end = Math.floor(perSecond * seconds);
  }

  /** When the next one is due; undefined after the last one. */
  get next(): number | undefined {
    return this.#issued < this.#end ? this.#began + this.#issued * this.#intervalMs : undefined;
  }

  /** Takes one that is due by now: when it was. */
  take(now: number): number | undefined {
    const { next } = this;
    if (next === undefined || next > now) return undefined;
    this.#issued += 1;
    return next;
  }
}

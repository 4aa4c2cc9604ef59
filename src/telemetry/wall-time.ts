import type { Clock } from '../base/clock.js';

/** Milliseconds that the two clocks may part before the wall clock is followed. */
const slackMs = 5;

/**
 * Where the monotonic clock's zero stands on the wall clock, with the fraction of a millisecond that the wall
 * clock lacks: hops of one machine are shorter than that. Follows the wall clock when it is set.
 */
export class WallTime {
  readonly #clock: Clock;
  #originMs: number;

  /** @param originMs of the clock, e.g. `performance.timeOrigin` */
  constructor(clock: Clock, originMs: number) {
    this.#clock = clock;
    this.#originMs = originMs;
  }

  /** Milliseconds since 1970 where `monotonic()` is 0. */
  origin(): number {
    const shown = this.#clock.wall() - this.#clock.monotonic();
    if (Math.abs(shown - this.#originMs) > slackMs) this.#originMs = shown;
    return this.#originMs;
  }

  /** Microseconds since 1970 of a monotonic time. */
  micros(monotonicMs: number): number {
    return (monotonicMs + this.origin()) * 1_000;
  }
}

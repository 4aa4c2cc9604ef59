import type { Clock } from '../base/clock.js';

/**
 * Time in which this process was there to hear. Who stood still has heard nobody, and a whole machine that did wakes up in
 * any order: what it slept through is nobody's silence. Whoever is always late still sees its time go on, more slowly.
 */
export class AwakeClock {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #lookMs: number;
  #lookedAt: number;
  #sleptMs = 0;
  #naps = 0;

  /** @param lookMs it is asked at least so often, unless the process stands still */
  constructor(clock: Pick<Clock, 'monotonic'>, lookMs: number) {
    this.#clock = clock;
    this.#lookMs = lookMs;
    this.#lookedAt = clock.monotonic();
  }

  /** How often it stood still. */
  get naps(): number {
    return this.#naps;
  }

  /** Milliseconds; goes on by at most `lookMs` between two questions. */
  monotonic(): number {
    const now = this.#clock.monotonic();
    const overslept = now - this.#lookedAt - this.#lookMs;
    this.#lookedAt = now;
    if (overslept > 0) {
      this.#sleptMs += overslept;
      this.#naps += 1;
    }
    return now - this.#sleptMs;
  }
}

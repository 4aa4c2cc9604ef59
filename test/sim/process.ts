import type { Cancel, Clock } from '../../src/base/clock.js';
import type { Schedule, SeededRandom } from './schedule.js';

/** Milliseconds since 1970 at the start of every simulation. */
export const wallStart = 1_790_000_000_000;

/**
 * One start of one simulated process: its clock, and whether it still runs. What a dead process would do is
 * never done; what a paused one would do waits.
 */
export class SimProcess {
  readonly name: string;
  readonly random: SeededRandom;
  readonly clock: Clock;
  readonly #schedule: Schedule;
  isDead = false;
  #paused: (() => void)[] | undefined;
  readonly #rate: number;
  readonly #offset: number;
  #wallOffset: number;

  constructor(name: string, schedule: Schedule, random: SeededRandom, driftMax: number) {
    this.name = name;
    this.#schedule = schedule;
    this.random = random;
    const rate = 1 + random.between(-driftMax, driftMax);
    const offset = random.between(0, 1e6);
    this.#rate = rate;
    this.#offset = offset;
    this.#wallOffset = Math.floor(random.between(-2_000, 2_000));
    this.clock = {
      monotonic: () => offset + schedule.now * rate,
      wall: () => wallStart + this.#wallOffset + Math.floor(schedule.now * rate),
      after: (milliseconds, then) => this.after(milliseconds / rate, then),
      soon: (then) => schedule.after(0, () => this.run(then)),
    };
  }

  /** Simulated time at which the monotonic clock shows this. */
  simulatedTimeOf(monotonic: number): number {
    return (monotonic - this.#offset) / this.#rate;
  }

  /** Somebody sets the wall clock. */
  jumpWall(milliseconds: number): void {
    this.#wallOffset += Math.floor(milliseconds);
  }

  /** In milliseconds of simulated time. */
  after(milliseconds: number, then: () => void): Cancel {
    // Timers of real processes are late, never early.
    const late =
      this.random.float() < 0.05 ? this.random.between(0, 15) : this.random.between(0, 1);
    let cancelled = false;
    this.#schedule.after(milliseconds + late, () => this.run(() => cancelled || then()));
    return () => {
      cancelled = true;
    };
  }

  /** Does it now, later (paused) or never (dead). */
  run(work: () => void): void {
    if (this.isDead) return;
    if (this.#paused !== undefined) this.#paused.push(work);
    else work();
  }

  pause(): void {
    this.#paused ??= [];
  }

  resume(): void {
    const held = this.#paused ?? [];
    this.#paused = undefined;
    for (const work of held) this.#schedule.after(0, () => this.run(work));
  }

  get isPaused(): boolean {
    return this.#paused !== undefined;
  }
}

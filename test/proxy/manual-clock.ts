import type { Clock } from '../../src/base/clock.js';

interface Timer {
  readonly at: number;
  readonly then: () => void;
}

/** Time that passes when it is told to. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<Timer>();

  monotonic(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now;
  }

  after(milliseconds: number, then: () => void): () => void {
    const timer = { at: this.#now + milliseconds, then };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  soon(then: () => void): void {
    queueMicrotask(then);
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Time passes in which the process stands still: what is due fires at the next `pass`. */
  stall(milliseconds: number): void {
    this.#now += milliseconds;
  }

  /** Fires what is due in order of time; promises settle in between. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    await settled();
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.then();
      await settled();
    }
    this.#now = end;
  }
}

/** Every promise that can go on by itself has gone on. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn += 1) await Promise.resolve();
}

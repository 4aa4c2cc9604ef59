import type { Cancel, Clock } from '../base/clock.js';

/** Milliseconds of one rest at most. */
const restMsMax = 1_000;

/** Keeps work that nobody waits for to a share of the time: after each piece of it there is a rest. */
export class Pace {
  readonly #clock: Clock;
  readonly #share: number;
  #stopped = false;
  #wake: (() => void) | undefined;
  #began: number;

  /** @param share of the time, above 0, at most 1 */
  constructor(clock: Clock, share: number) {
    this.#clock = clock;
    this.#share = share;
    this.#began = clock.monotonic();
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  /** A piece begins now. */
  begin(): void {
    this.#began = this.#clock.monotonic();
  }

  /** After a piece: rests, and the next one begins. */
  async rest(): Promise<void> {
    const worked = this.#clock.monotonic() - this.#began;
    const milliseconds = Math.min(restMsMax, (worked * (1 - this.#share)) / this.#share);
    if (milliseconds > 0 && !this.#stopped) {
      let cancel: Cancel = () => undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        cancel = this.#clock.after(milliseconds, resolve);
      });
      this.#wake = undefined;
      cancel();
    }
    this.begin();
  }

  /** Nothing rests any more. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }
}

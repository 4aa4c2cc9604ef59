import { type Cancel, type Clock, every } from '../base/clock.js';
import { activationDue } from './activation.js';
import type { NodeState } from './state.js';

/** Milliseconds between ticks, as a part of the heartbeat interval. */
const ticksPerHeartbeat = 4;

/** Ticks of a node: regular ones, and one at the moment at which time alone lets it activate the newest view. */
export class Ticks {
  readonly #state: NodeState;
  readonly #clock: Clock;
  readonly #tick: () => void;
  readonly #stop: Cancel;
  #due: number | undefined;
  #cancel: Cancel = () => undefined;

  constructor(state: NodeState, clock: Clock, tick: () => void) {
    this.#state = state;
    this.#clock = clock;
    this.#tick = tick;
    this.#stop = every(clock, state.timing.heartbeatMs / ticksPerHeartbeat, tick);
  }

  /** After every step: when is the activation due now? Writes wait for it, and reads of keys that are dirty. */
  stepped(): void {
    const due = activationDue(this.#state);
    if (due === this.#due) return;
    this.#cancel();
    this.#due = due;
    const left = due === undefined ? 0 : due - this.#clock.monotonic();
    // What is due by now waits for something else than time, or was tried in this step. Timers may be early by 1 ms.
    this.#cancel = left > 0 ? this.#clock.after(Math.ceil(left) + 1, this.#tick) : () => undefined;
  }

  close(): void {
    this.#stop();
    this.#cancel();
  }
}

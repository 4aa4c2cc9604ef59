import type { Worker } from 'node:cluster';
import type { Clock } from '../base/clock.js';

/** Milliseconds for which connections that wait for a worker are waited for. */
const settleMs = 1_000;

/** What node:cluster says between its processes; of it only that is read. Not public: where it changes nothing is counted. */
interface ClusterMessage {
  readonly cmd?: unknown;
  readonly act?: unknown;
  readonly key?: unknown;
  readonly accepted?: unknown;
}

/**
 * Connections on their way to workers. node:cluster gives a worker the next one of an address when it has taken the one
 * before; what waits meanwhile is cut off when the last worker leaves the address. So that nobody is, workers leave
 * when nothing waits.
 */
export class Handoffs {
  readonly #clock: Clock;
  /** Addresses of connections that each worker has been given and hasn't taken yet. */
  readonly #given = new Map<Worker, string[]>();
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** To be called before it is given any. */
  watch(worker: Worker): void {
    const given: string[] = [];
    this.#given.set(worker, given);
    const { process } = worker;
    // One that couldn't be started has no channel.
    if (typeof process.send !== 'function') return;
    const send = process.send.bind(process) as (...args: readonly unknown[]) => boolean;
    process.send = (...args: readonly unknown[]) => {
      const { act, key } = args[0] as ClusterMessage;
      if (act === 'newconn' && typeof key === 'string') given.push(key);
      return send(...args);
    };
    // One at a time of an address; which of two addresses it was makes no difference to who waits in the end.
    process.on('internalMessage', ({ cmd, accepted }: ClusterMessage) => {
      if (cmd !== 'NODE_CLUSTER' || accepted === undefined) return;
      given.shift();
      this.#changed();
    });
    worker.once('exit', () => {
      this.#given.delete(worker);
      this.#changed();
    });
  }

  /** Resolves when no connection waits, or some time is over. What is to be done then must be done at once. */
  async settled(): Promise<void> {
    // What has connected by now is accepted first.
    await new Promise<void>((resolve) => this.#clock.soon(resolve));
    let isOver = false;
    const cancel = this.#clock.after(settleMs, () => {
      isOver = true;
      this.#changed();
    });
    while (!isOver && [...this.#given.values()].some(({ length }) => length > 0)) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
    cancel();
  }

  #changed(): void {
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }
}

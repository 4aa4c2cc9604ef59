import type { Worker } from 'node:cluster';
import type { Clock } from '../base/clock.js';

/** Milliseconds for which connections that wait for a worker are waited for. */
const settleMs = 1_000;

/** What node:cluster says between its processes; of it only that is read. Not public: where it changes nothing is counted. */
interface ClusterMessage {
  readonly cmd?: unknown;
  readonly act?: unknown;
  readonly seq?: unknown;
  readonly ack?: unknown;
  readonly accepted?: unknown;
}

/** A connection, as it is sent. */
interface Handle {
  close(): void;
}

/**
 * Connections on their way to workers. node:cluster gives a worker the next one of an address when it has taken the one
 * before; what waits meanwhile is cut off when the last worker leaves the address. So that nobody is, workers leave
 * when nothing waits.
 */
export class Handoffs {
  readonly #clock: Clock;
  /** Connections that each worker has been given and hasn't taken yet, by the number of the message. */
  readonly #given = new Map<Worker, Map<number, Handle | undefined>>();
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** To be called before it is given any. */
  watch(worker: Worker): void {
    const given = new Map<number, Handle | undefined>();
    this.#given.set(worker, given);
    const { process } = worker;
    // One that couldn't be started has no channel.
    if (typeof process.send !== 'function') return;
    const send = process.send.bind(process) as (...args: readonly unknown[]) => boolean;
    process.send = (...args: readonly unknown[]) => {
      const { act, seq } = args[0] as ClusterMessage;
      if (act === 'newconn' && typeof seq === 'number')
        given.set(seq, args[1] as Handle | undefined);
      return send(...args);
    };
    process.on('internalMessage', ({ cmd, ack, accepted }: ClusterMessage) => {
      if (cmd !== 'NODE_CLUSTER' || accepted === undefined) return;
      given.delete(Number(ack));
      this.#changed();
    });
    let isGone = false;
    const over = (): void => {
      if (!isGone || process.connected) return;
      // Nobody else ends what it was given and hasn't taken: its clients would wait for ever.
      for (const handle of given.values()) handle?.close();
      this.#given.delete(worker);
      this.#changed();
    };
    worker.once('exit', () => {
      isGone = true;
      over();
    });
    process.once('disconnect', over);
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
    while (!isOver && [...this.#given.values()].some(({ size }) => size > 0)) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
    cancel();
  }

  #changed(): void {
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }
}

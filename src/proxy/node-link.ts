import type { Cancel, Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Operation, SessionRequest, SessionResponse } from '../gen/keychaindb/v1/kv.js';
import type { Channel, Dialer } from '../wire/channel.js';
import {
  connectedAfterMs,
  messageBytesCut,
  messageOperationsMax,
  redialMsFirst,
  redialMsLongest,
} from './limits.js';

export interface NodeLinkOptions {
  readonly address: string;
  readonly dialer: Dialer<SessionRequest, SessionResponse>;
  readonly clock: Clock;
  readonly random: Random;
  /** The node said something, or the link has been open for a while. */
  connected(): void;
  message(response: SessionResponse): void;
  /** `unsent`: operations that no channel has taken. */
  lost(unsent: ReadonlySet<number>): void;
}

interface Waiting {
  readonly operation: Operation;
  readonly bytes: number;
}

/**
 * The stream of operations to one node, dialed again whenever it is lost. Operations of one turn travel in
 * one message; while a message is on its way the next one collects (no timers).
 */
export class NodeLink {
  readonly #options: NodeLinkOptions;
  #channel: Channel<SessionRequest> | undefined;
  #isConnected = false;
  #isClosed = false;
  #flushing = false;
  #redialMs = redialMsFirst;
  #cancelTimer: Cancel = () => undefined;
  /** Bound: the proxy's operations that wait (`operationsMax`), and their attempts. */
  #waiting: Waiting[] = [];

  constructor(options: NodeLinkOptions) {
    this.#options = options;
    this.#dial();
  }

  send(operation: Operation, bytes: number): void {
    this.#waiting.push({ operation, bytes });
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      void this.#flush();
    });
  }

  /** For good. What waits is dropped: whoever calls this has given its operations up. */
  close(reason: string): void {
    this.#isClosed = true;
    this.#cancelTimer();
    this.#waiting = [];
    this.#channel?.close(reason);
    this.#channel = undefined;
  }

  #dial(): void {
    const { dialer, address, clock } = this.#options;
    const channel: Channel<SessionRequest> = dialer.dial(address, {
      message: (response) => {
        if (this.#channel !== channel) return;
        this.#connected();
        this.#options.message(response);
      },
      closed: () => {
        // A channel may close before `dial` has returned it.
        queueMicrotask(() => this.#lost(channel));
      },
    });
    this.#channel = channel;
    this.#cancelTimer = clock.after(connectedAfterMs, () => {
      if (!channel.isClosed) this.#connected();
    });
    // Nothing in it: a node that answers it shows that the link works, and its view.
    channel.send({ operations: [] });
  }

  #connected(): void {
    if (this.#isConnected || this.#isClosed) return;
    this.#isConnected = true;
    this.#cancelTimer();
    this.#redialMs = redialMsFirst;
    this.#options.connected();
  }

  #lost(channel: Channel<SessionRequest>): void {
    if (this.#channel !== channel || this.#isClosed) return;
    this.#channel = undefined;
    this.#isConnected = false;
    this.#cancelTimer();
    const unsent = new Set(this.#waiting.map((waiting) => waiting.operation.id));
    this.#waiting = [];
    const { clock, random } = this.#options;
    const pause = this.#redialMs * (0.5 + random.float() / 2);
    this.#redialMs = Math.min(this.#redialMs * 2, redialMsLongest);
    this.#cancelTimer = clock.after(pause, () => this.#dial());
    this.#options.lost(unsent);
  }

  async #flush(): Promise<void> {
    while (this.#waiting.length > 0) {
      const channel = this.#channel;
      if (channel === undefined || channel.isClosed) break;
      if (channel.queued > 0) {
        await channel.drained();
        continue;
      }
      const count = cut(this.#waiting);
      const operations = this.#waiting.slice(0, count).map((waiting) => waiting.operation);
      if (!channel.send({ operations })) {
        await channel.drained();
        continue;
      }
      this.#waiting = this.#waiting.slice(count);
    }
    this.#flushing = false;
  }
}

/** How many of them fit in one message; at least one. */
function cut(waiting: readonly Waiting[]): number {
  let bytes = 0;
  let count = 0;
  for (const next of waiting) {
    if (count === messageOperationsMax) break;
    bytes += next.bytes;
    if (count > 0 && bytes > messageBytesCut) break;
    count += 1;
  }
  return count;
}

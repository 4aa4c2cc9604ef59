import type { Cancel, Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { Operation, SessionRequest, SessionResponse } from '../gen/keychaindb/v1/kv.js';
import { BatchSender } from '../wire/batch-sender.js';
import type { Channel, Dialer } from '../wire/channel.js';
import {
  connectedAfterMs,
  messageLimits,
  messagePace,
  redialMsFirst,
  redialMsLongest,
} from './limits.js';

export interface NodeLinkOptions {
  readonly address: string;
  readonly dialer: Dialer<SessionRequest, SessionResponse>;
  readonly clock: Clock;
  readonly random: Random;
  /** Is this a view of our cluster? An address may have passed to a process of another one. */
  isOurs(view: View): boolean;
  /** The node said something, or the link has been open for a while. */
  connected(): void;
  message(response: SessionResponse): void;
  /** `unsent`: ids of operations that no channel has taken. */
  lost(unsent: ReadonlySet<number>): void;
}

interface OpenLink {
  readonly channel: Channel<SessionRequest>;
  /** Apart, so that reads don't wait for the answers to writes. */
  readonly reads: BatchSender<Operation, SessionRequest>;
  readonly writes: BatchSender<Operation, SessionRequest>;
}

/** The stream of operations to one node, dialed again whenever it is lost. */
export class NodeLink {
  readonly #options: NodeLinkOptions;
  #open: OpenLink | undefined;
  #isConnected = false;
  #isClosed = false;
  #redialMs = redialMsFirst;
  #cancelTimer: Cancel = () => undefined;

  constructor(options: NodeLinkOptions) {
    this.#options = options;
    this.#dial();
  }

  /** Only while connected. What is sent and can't leave is told of by `lost`. */
  send(operation: Operation, bytes: number): void {
    const isRead = operation.operation?.$case === 'get';
    (isRead ? this.#open?.reads : this.#open?.writes)?.add(operation, bytes);
  }

  /** For good; `lost` isn't called. Whoever calls this has given its operations up. */
  close(reason: string): void {
    this.#isClosed = true;
    this.#cancelTimer();
    this.#open?.channel.close(reason);
    this.#open = undefined;
  }

  #dial(): void {
    const { dialer, address, clock } = this.#options;
    const channel: Channel<SessionRequest> = dialer.dial(address, {
      message: (response) => {
        if (this.#open?.channel !== channel) return;
        if (response.view !== undefined && !this.#options.isOurs(response.view)) {
          channel.close('it belongs to another cluster');
          return;
        }
        this.#connected();
        this.#open.reads.answered();
        this.#open.writes.answered();
        this.#options.message(response);
      },
      closed: () => {
        // A channel may close before `dial` has returned it.
        queueMicrotask(() => this.#lost(channel));
      },
    });
    const sender = (): BatchSender<Operation, SessionRequest> =>
      new BatchSender(channel, messageLimits, (operations) => ({ operations }), clock, messagePace);
    this.#open = { channel, reads: sender(), writes: sender() };
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
    if (this.#open?.channel !== channel || this.#isClosed) return;
    const { reads, writes } = this.#open;
    const unsent = new Set([...reads.waiting, ...writes.waiting].map(({ id }) => id));
    this.#open = undefined;
    this.#isConnected = false;
    this.#cancelTimer();
    const { clock, random } = this.#options;
    const pause = this.#redialMs * (0.5 + random.float() / 2);
    this.#redialMs = Math.min(this.#redialMs * 2, redialMsLongest);
    this.#cancelTimer = clock.after(pause, () => this.#dial());
    this.#options.lost(unsent);
  }
}

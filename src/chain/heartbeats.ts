import { type Cancel, type Clock, every } from '../base/clock.js';
import type { CoordinatorPush, NodeHeartbeat } from '../gen/keychaindb/v1/coordinator.js';
import type { Channel, Dialer } from '../wire/channel.js';

/**
 * Beats to every coordinator (R13), each on a stream of its own, so that a hung one delays nobody. A beat
 * is skipped where the one before hasn't left. Views come back on the same streams.
 */
export class Heartbeats {
  readonly #named: readonly string[];
  /** Those that were named at the start, and those that the group says it has. */
  #addresses: readonly string[];
  readonly #dialer: Dialer<NodeHeartbeat, CoordinatorPush>;
  readonly #beat: () => NodeHeartbeat;
  readonly #onPush: (push: CoordinatorPush) => void;
  readonly #channels = new Map<string, Channel<NodeHeartbeat>>();
  readonly #cancel: Cancel;
  #closed = false;

  constructor(
    addresses: readonly string[],
    dialer: Dialer<NodeHeartbeat, CoordinatorPush>,
    clock: Clock,
    intervalMs: number,
    beat: () => NodeHeartbeat,
    onPush: (push: CoordinatorPush) => void,
  ) {
    this.#named = addresses;
    this.#addresses = addresses;
    this.#dialer = dialer;
    this.#beat = beat;
    this.#onPush = onPush;
    this.#cancel = every(clock, intervalMs, () => this.now());
    this.now();
  }

  /** Beats at once. */
  now(): void {
    if (this.#closed) return;
    const beat = this.#beat();
    for (const address of this.#addresses) {
      const channel = this.#channelTo(address);
      if (channel.queued < 2) channel.send(beat);
    }
  }

  #follow(coordinators: readonly string[]): void {
    this.#addresses = [...new Set([...this.#named, ...coordinators])];
    for (const [address, channel] of this.#channels) {
      if (!this.#addresses.includes(address)) channel.close('no coordinator any more');
    }
  }

  #channelTo(address: string): Channel<NodeHeartbeat> {
    const open = this.#channels.get(address);
    if (open !== undefined && !open.isClosed) return open;
    const channel: Channel<NodeHeartbeat> = this.#dialer.dial(address, {
      message: (push) => {
        if (this.#closed) return;
        if (push.coordinators.length > 0) this.#follow(push.coordinators);
        this.#onPush(push);
      },
      closed: () => {
        if (this.#channels.get(address) === channel) this.#channels.delete(address);
      },
    });
    this.#channels.set(address, channel);
    return channel;
  }

  close(): void {
    this.#closed = true;
    this.#cancel();
    for (const channel of this.#channels.values()) channel.close('shutting down');
    this.#channels.clear();
  }
}

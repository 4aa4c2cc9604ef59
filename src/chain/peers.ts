import type { PeerMessage } from '../gen/keychaindb/v1/chain.js';
import type { Channel, Dialer } from '../wire/channel.js';

/**
 * One outgoing stream per peer address. What can't be sent is dropped: promises are asked for again,
 * queries are repeated, views are shown again.
 */
export class Peers {
  readonly #dialer: Dialer<PeerMessage, PeerMessage>;
  readonly #channels = new Map<string, Channel<PeerMessage>>();
  #closed = false;

  constructor(dialer: Dialer<PeerMessage, PeerMessage>) {
    this.#dialer = dialer;
  }

  say(address: string, message: PeerMessage): void {
    if (this.#closed) return;
    let channel = this.#channels.get(address);
    if (channel === undefined || channel.isClosed) {
      const dialed: Channel<PeerMessage> = this.#dialer.dial(address, {
        message: () => undefined,
        closed: () => {
          if (this.#channels.get(address) === dialed) this.#channels.delete(address);
        },
      });
      channel = dialed;
      this.#channels.set(address, channel);
    }
    channel.send(message);
  }

  /** Closes streams to addresses that no view names any more. */
  keepOnly(addresses: ReadonlySet<string>): void {
    for (const [address, channel] of this.#channels) {
      if (addresses.has(address)) continue;
      this.#channels.delete(address);
      channel.close('not in the view');
    }
  }

  close(): void {
    this.#closed = true;
    for (const channel of this.#channels.values()) channel.close('shutting down');
    this.#channels.clear();
  }
}

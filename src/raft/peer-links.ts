import type { Cancel, Clock } from '../base/clock.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { Channel, Dialer } from '../wire/channel.js';
import { redialMs } from './limits.js';

interface Link {
  readonly address: string;
  channel: Channel<RaftMessage> | undefined;
  cancel: Cancel;
}

/** One channel to every other member, dialed again when it is lost. What can't be sent is dropped. */
export class PeerLinks {
  readonly #links = new Map<string, Link>();
  readonly #dialer: Dialer<RaftMessage, RaftMessage>;
  readonly #clock: Clock;
  #closed = false;

  constructor(
    id: string,
    peers: ReadonlyMap<string, string>,
    dialer: Dialer<RaftMessage, RaftMessage>,
    clock: Clock,
  ) {
    this.#dialer = dialer;
    this.#clock = clock;
    for (const [peer, address] of peers) {
      if (peer === id) continue;
      const link: Link = { address, channel: undefined, cancel: () => undefined };
      this.#links.set(peer, link);
      this.#dial(link);
    }
  }

  send(message: RaftMessage): void {
    this.#links.get(message.to)?.channel?.send(message);
  }

  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) {
      link.cancel();
      link.channel?.close('the member is shutting down');
    }
  }

  #dial(link: Link): void {
    link.channel = this.#dialer.dial(link.address, {
      message: () => undefined,
      closed: () => {
        link.channel = undefined;
        if (this.#closed) return;
        link.cancel = this.#clock.after(redialMs, () => this.#dial(link));
      },
    });
  }
}

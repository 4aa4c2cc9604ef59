import type { Cancel, Clock } from '../base/clock.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { Channel, Dialer } from '../wire/channel.js';
import { redialMs, strangersMax } from './limits.js';

interface Link {
  readonly address: string;
  channel: Channel<RaftMessage> | undefined;
  cancel: Cancel;
}

/**
 * One channel to every other member, dialed again when it is lost. Whoever else is spoken to (a leader that this
 * member doesn't know yet, one that was removed) is reached where its messages said. What can't be sent is dropped.
 */
export class PeerLinks {
  readonly #links = new Map<string, Link>();
  /** Where those are that wrote and are no members, oldest first. */
  readonly #strangers = new Map<string, string>();
  readonly #dialer: Dialer<RaftMessage, RaftMessage>;
  readonly #clock: Clock;
  #members: ReadonlyMap<string, string> = new Map();
  #closed = false;

  constructor(dialer: Dialer<RaftMessage, RaftMessage>, clock: Clock) {
    this.#dialer = dialer;
    this.#clock = clock;
  }

  /** The other members now, by id. */
  follow(members: ReadonlyMap<string, string>): void {
    if (this.#closed) return;
    for (const [id, address] of this.#members) {
      if (!members.has(id)) this.#stranger(id, address);
    }
    this.#members = members;
    for (const [id, address] of members) {
      this.#strangers.delete(id);
      if (this.#links.get(id)?.address !== address) this.#open(id, address);
    }
  }

  /** Where a message came from. */
  heard(id: string, address: string): void {
    if (this.#closed || address === '' || this.#members.has(id)) return;
    if (this.#strangers.get(id) !== address) this.#stranger(id, address);
  }

  send(message: RaftMessage): void {
    const link = this.#links.get(message.to);
    const address = this.#strangers.get(message.to);
    if (link === undefined && address !== undefined) this.#open(message.to, address);
    this.#links.get(message.to)?.channel?.send(message);
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#links.keys()]) this.#drop(id);
  }

  #stranger(id: string, address: string): void {
    this.#drop(id);
    this.#strangers.set(id, address);
    const [oldest] = this.#strangers.keys();
    if (this.#strangers.size <= strangersMax || oldest === undefined) return;
    this.#strangers.delete(oldest);
    this.#drop(oldest);
  }

  #open(id: string, address: string): void {
    this.#drop(id);
    const link: Link = { address, channel: undefined, cancel: () => undefined };
    this.#links.set(id, link);
    this.#dial(id, link);
  }

  #drop(id: string): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    link.cancel();
    link.channel?.close('not needed any more');
  }

  #dial(id: string, link: Link): void {
    link.channel = this.#dialer.dial(link.address, {
      message: () => undefined,
      closed: () => {
        link.channel = undefined;
        if (this.#closed || this.#links.get(id) !== link) return;
        // A stranger is dialed when there is something to say.
        if (this.#strangers.has(id)) this.#links.delete(id);
        else link.cancel = this.#clock.after(redialMs, () => this.#dial(id, link));
      },
    });
  }
}

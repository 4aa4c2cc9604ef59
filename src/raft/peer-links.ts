import type { Cancel, Clock } from '../base/clock.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { Channel, Dialer } from '../wire/channel.js';
import { redialMs, strangersMax } from './limits.js';

interface Link {
  /** Where it may be; tried in turns until it answers. */
  addresses: readonly string[];
  tries: number;
  channel: Channel<RaftMessage> | undefined;
  cancel: Cancel;
}

/**
 * One channel to every other member, dialed again when it is lost. Whoever else is spoken to (a leader that this
 * member doesn't know yet, one that was removed) is reached where its messages said. What can't be sent is dropped.
 */
export class PeerLinks {
  readonly #links = new Map<string, Link>();
  /** Where those are that wrote, by their own words; of those that are no members the newest. */
  readonly #told = new Map<string, string>();
  readonly #dialer: Dialer<RaftMessage, RaftMessage>;
  readonly #clock: Clock;
  #members: ReadonlyMap<string, readonly string[]> = new Map();
  #closed = false;

  constructor(dialer: Dialer<RaftMessage, RaftMessage>, clock: Clock) {
    this.#dialer = dialer;
    this.#clock = clock;
  }

  /** Whose messages said where they are. */
  get told(): readonly string[] {
    return [...this.#told.keys()];
  }

  /** The other members now, by id, and where each may be. */
  follow(members: ReadonlyMap<string, readonly string[]>): void {
    if (this.#closed) return;
    for (const [id, [address = '']] of this.#members) {
      // It may have to be told that it was removed.
      if (!members.has(id) && !this.#told.has(id)) this.#told.set(id, address);
    }
    this.#members = members;
    for (const id of [...this.#links.keys()]) if (!members.has(id)) this.#drop(id);
    for (const id of members.keys()) this.#reach(id);
  }

  /** Where a message came from. */
  heard(id: string, address: string): void {
    if (this.#closed || address === '' || this.#told.get(id) === address) return;
    this.#told.delete(id);
    this.#told.set(id, address);
    const strangers = [...this.#told.keys()].filter((other) => !this.#members.has(other));
    for (const old of strangers.slice(0, Math.max(0, strangers.length - strangersMax))) {
      this.#told.delete(old);
      this.#drop(old);
    }
    if (this.#members.has(id)) this.#reach(id);
    else this.#drop(id);
  }

  send(message: RaftMessage): void {
    const { to } = message;
    // Who is no member is dialed when there is something to say.
    if (!this.#links.has(to) && this.#told.has(to)) this.#reach(to);
    this.#links.get(to)?.channel?.send(message);
  }

  close(): void {
    this.#closed = true;
    for (const id of [...this.#links.keys()]) this.#drop(id);
  }

  #reach(id: string): void {
    const told = this.#told.get(id);
    const addresses = [...(told === undefined ? [] : [told]), ...(this.#members.get(id) ?? [])];
    const link = this.#links.get(id);
    const unique = [...new Set(addresses)];
    if (link !== undefined && link.addresses.join() === unique.join()) return;
    this.#drop(id);
    const fresh = { addresses: unique, tries: 0, channel: undefined, cancel: () => undefined };
    this.#links.set(id, fresh);
    this.#dial(id, fresh);
  }

  #drop(id: string): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    link.cancel();
    link.channel?.close('not needed any more');
  }

  #dial(id: string, link: Link): void {
    const address = link.addresses[link.tries % link.addresses.length] ?? '';
    link.tries += 1;
    link.channel = this.#dialer.dial(address, {
      message: () => undefined,
      closed: () => {
        link.channel = undefined;
        if (this.#closed || this.#links.get(id) !== link) return;
        if (this.#members.has(id)) {
          link.cancel = this.#clock.after(redialMs, () => this.#dial(id, link));
        } else this.#links.delete(id);
      },
    });
  }
}

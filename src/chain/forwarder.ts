import type { FollowDown } from '../gen/keychaindb/v1/chain.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { EventLog, LogBlock } from '../log/event-log.js';
import type { Channel } from '../wire/channel.js';
import { linkMessageBytesMax, linkWindowBytesMax } from './limits.js';

export interface ForwardMeter {
  messages: number;
  entries: number;
}

/**
 * Streams the write log to one follower: a cursor that reads history and then follows live, so that a
 * new successor, a reconnect and steady state are the same path. While one message is on its way the
 * next one collects; at most `linkWindowBytesMax` are unacknowledged.
 */
export class Forwarder {
  readonly #channel: Channel<FollowDown>;
  readonly #header: () => FollowDown;
  readonly #meter: ForwardMeter;
  readonly #sent: (through: number) => void;
  readonly #stop = new AbortController();
  readonly #unacked: { readonly index: number; readonly bytes: number }[] = [];
  #unackedBytes = 0;
  #ready: LogBlock[] = [];
  #readyBytes = 0;
  #stale = false;
  #sending = false;
  #roomCame: (() => void) | undefined;

  /** @param sent told of the last entry of each message that went out */
  constructor(
    channel: Channel<FollowDown>,
    header: () => FollowDown,
    meter: ForwardMeter,
    sent: (through: number) => void,
  ) {
    this.#sent = sent;
    this.#channel = channel;
    this.#header = header;
    this.#meter = meter;
  }

  get windowBytes(): number {
    return this.#unackedBytes + this.#readyBytes;
  }

  /** Sends the answer to the hello, then everything after `common`. Ends with the channel. */
  async run(log: EventLog, first: FollowDown, common: EntryId): Promise<void> {
    this.#channel.send(first);
    for await (const block of log.follow(common, this.#stop.signal)) {
      this.#ready.push(block);
      this.#readyBytes += block.bytes.byteLength;
      this.#pump();
      if (this.#unackedBytes + this.#readyBytes > linkWindowBytesMax) await this.#room();
    }
  }

  /** The header has changed: it goes with the next message, or alone when the link is free. */
  refresh(): void {
    this.#stale = true;
    this.#pump();
  }

  acked(index: number): void {
    let count = 0;
    for (const sent of this.#unacked) {
      if (sent.index > index) break;
      this.#unackedBytes -= sent.bytes;
      count += 1;
    }
    this.#unacked.splice(0, count);
    this.#offerRoom();
  }

  stop(): void {
    this.#stop.abort();
    this.#unackedBytes = 0;
    this.#readyBytes = 0;
    this.#roomCame?.();
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#roomCame = resolve;
      this.#offerRoom();
    });
  }

  #offerRoom(): void {
    if (this.#unackedBytes + this.#readyBytes > linkWindowBytesMax) return;
    this.#roomCame?.();
    this.#roomCame = undefined;
  }

  #pump(): void {
    if (this.#sending || this.#stop.signal.aborted || this.#channel.isClosed) return;
    if (this.#ready.length === 0 && !this.#stale) return;
    const blocks = this.#take();
    this.#stale = false;
    this.#sending = true;
    const items = blocks.map((b) => ({ item: { $case: 'block' as const, value: b.bytes } }));
    this.#meter.messages += 1;
    this.#channel.send({ ...this.#header(), items });
    const last = blocks.at(-1);
    if (last !== undefined) this.#sent(last.end.index);
    void this.#channel.drained().then(() => {
      this.#sending = false;
      this.#pump();
    });
  }

  #take(): readonly LogBlock[] {
    const blocks: LogBlock[] = [];
    let bytes = 0;
    for (const block of this.#ready) {
      if (bytes > 0 && bytes + block.bytes.byteLength > linkMessageBytesMax) break;
      bytes += block.bytes.byteLength;
      blocks.push(block);
      this.#meter.entries += block.entries.length;
      this.#unacked.push({ index: block.end.index, bytes: block.bytes.byteLength });
    }
    this.#ready = this.#ready.slice(blocks.length);
    this.#readyBytes -= bytes;
    this.#unackedBytes += bytes;
    return blocks;
  }
}

import type { Clock } from '../base/clock.js';
import type { Channel } from './channel.js';

/** Bounds of one message. */
export interface BatchLimits {
  readonly itemsMax: number;
  /** One item may be larger. */
  readonly bytesMax: number;
}

/**
 * Gathers items into messages of one channel: what is added while the process handles what has arrived travels
 * together, and while a message is on its way the next one collects. No timers. Whoever adds bounds what waits.
 */
export class BatchSender<Item, Message> {
  readonly #channel: Channel<Message>;
  readonly #limits: BatchLimits;
  readonly #wrap: (items: readonly Item[]) => Message;
  readonly #clock: Pick<Clock, 'soon'>;
  #items: Item[] = [];
  #bytes: number[] = [];
  #flushing = false;

  constructor(
    channel: Channel<Message>,
    limits: BatchLimits,
    wrap: (items: readonly Item[]) => Message,
    clock: Pick<Clock, 'soon'>,
  ) {
    this.#clock = clock;
    this.#channel = channel;
    this.#limits = limits;
    this.#wrap = wrap;
  }

  /** What the channel has not taken. */
  get waiting(): readonly Item[] {
    return this.#items;
  }

  /** @param bytes about what the item adds to a message */
  add(item: Item, bytes: number): void {
    this.#items.push(item);
    this.#bytes.push(bytes);
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.soon(() => {
      void this.#flush();
    });
  }

  /** Bytes of what the channel has not taken, about. */
  get waitingBytes(): number {
    return this.#bytes.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Takes an item back; false where it isn't waiting: the channel has it. */
  remove(item: Item): boolean {
    const index = this.#items.indexOf(item);
    if (index < 0) return false;
    this.#items.splice(index, 1);
    this.#bytes.splice(index, 1);
    return true;
  }

  async #flush(): Promise<void> {
    const channel = this.#channel;
    while (this.#items.length > 0 && !channel.isClosed) {
      if (channel.queued > 0) {
        await channel.drained();
        continue;
      }
      const count = this.#cut();
      const whole = count === this.#items.length;
      if (!channel.send(this.#wrap(whole ? this.#items : this.#items.slice(0, count)))) {
        await channel.drained();
        continue;
      }
      this.#items = whole ? [] : this.#items.slice(count);
      this.#bytes = whole ? [] : this.#bytes.slice(count);
    }
    this.#flushing = false;
  }

  /** How many of them fit in one message; at least one. */
  #cut(): number {
    let bytes = 0;
    let count = 0;
    for (const next of this.#bytes) {
      bytes += next;
      if (count === this.#limits.itemsMax || (count > 0 && bytes > this.#limits.bytesMax)) break;
      count += 1;
    }
    return count;
  }
}

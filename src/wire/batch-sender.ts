import type { Clock } from '../base/clock.js';
import type { Channel } from './channel.js';

/** Bounds of one message. */
export interface BatchLimits {
  readonly itemsMax: number;
  /** One item may be larger. */
  readonly bytesMax: number;
}

/**
 * When few items wait for the answer to the message before them (Nagle, RFC 896): the fewer messages, the less each
 * item costs. What is alone is never held.
 */
export interface Pace {
  /** So many items are never held. */
  readonly itemsMin: number;
  /** Nor is anything for longer, in milliseconds: an answer may have to wait for something else. */
  readonly holdMs: number;
}

/**
 * Gathers items into messages of one channel: what is added while the process handles what has arrived travels
 * together, and while a message is on its way the next one collects. No timers without a pace. Whoever adds bounds what waits.
 */
export class BatchSender<Item, Message> {
  readonly #channel: Channel<Message>;
  readonly #limits: BatchLimits;
  readonly #wrap: (items: readonly Item[]) => Message;
  readonly #clock: Pick<Clock, 'soon' | 'after'>;
  readonly #pace: Pace | undefined;
  readonly #sent: ((items: readonly Item[]) => void) | undefined;
  #isUnanswered = false;
  #release: (() => void) | undefined;
  #items: Item[] = [];
  #bytes: number[] = [];
  #waitingBytes = 0;
  #flushing = false;

  constructor(
    channel: Channel<Message>,
    limits: BatchLimits,
    wrap: (items: readonly Item[]) => Message,
    clock: Pick<Clock, 'soon' | 'after'>,
    pace?: Pace,
    /** Told when the channel has taken a message. */
    sent?: (items: readonly Item[]) => void,
  ) {
    this.#sent = sent;
    this.#clock = clock;
    this.#pace = pace;
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
    this.#waitingBytes += bytes;
    if (this.#pace !== undefined && this.#items.length >= this.#pace.itemsMin) this.#release?.();
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.soon(() => {
      void this.#flush();
    });
  }

  /** Something came back: what is held goes out. */
  answered(): void {
    this.#isUnanswered = false;
    this.#release?.();
  }

  /** Bytes of what the channel has not taken, about. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Takes an item back; false where it isn't waiting: the channel has it. */
  remove(item: Item): boolean {
    const index = this.#items.indexOf(item);
    if (index < 0) return false;
    this.#items.splice(index, 1);
    const [bytes = 0] = this.#bytes.splice(index, 1);
    this.#waitingBytes -= bytes;
    return true;
  }

  async #flush(): Promise<void> {
    const channel = this.#channel;
    while (this.#items.length > 0 && !channel.isClosed) {
      if (channel.queued > 0) {
        await channel.drained();
        continue;
      }
      if (this.#pace !== undefined && this.#isUnanswered) {
        if (this.#items.length < this.#pace.itemsMin) {
          await this.#hold(this.#pace.holdMs);
          continue;
        }
      }
      const count = this.#cut();
      const whole = count === this.#items.length;
      const items = whole ? this.#items : this.#items.slice(0, count);
      if (!channel.send(this.#wrap(items))) {
        await channel.drained();
        continue;
      }
      this.#isUnanswered = true;
      for (let i = 0; i < count; i += 1) this.#waitingBytes -= this.#bytes[i] ?? 0;
      this.#items = whole ? [] : this.#items.slice(count);
      this.#bytes = whole ? [] : this.#bytes.slice(count);
      this.#sent?.(items);
    }
    this.#flushing = false;
  }

  #hold(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(milliseconds, () => this.answered());
      this.#release = () => {
        cancel();
        this.#release = undefined;
        resolve();
      };
    });
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

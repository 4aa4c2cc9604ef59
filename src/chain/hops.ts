import type { HopRecord } from '../gen/keychaindb/v1/log.js';
import type { LogBlock } from '../log/event-log.js';

/** Blocks whose passage a node remembers. */
export const hopsMax = 4_096;

/** Where a node stands while a block passes; made once for a view. */
export interface Place {
  readonly epoch: number;
  /** 1 is the head. */
  readonly position: number;
  readonly role: 'head' | 'middle' | 'tail' | 'only' | 'joining';
  /** Empty at the head. */
  readonly predecessor: string;
}

/** What became of a block, when it is over: once for every block that came while this process ran. */
export interface Passage {
  readonly slot: number;
  /** Kept where the trace of one of its entries is to be recorded. */
  readonly block: LogBlock | undefined;
  readonly cut: boolean;
}

const columns = 12;
const [generation, first, last, arrived, appended, writing, synced] = [0, 1, 2, 3, 4, 5, 6];
const [forwarded, acked, committed, acknowledged, traced] = [7, 8, 9, 10, 11];

/**
 * When the newest blocks passed this node: a ring of numbers, so that a block costs no allocation. Times are
 * monotonic milliseconds; NaN: it hasn't happened. Blocks pass every stage in log order, which is why one
 * cursor a stage is enough. Written by the runtime of the node alone.
 */
export class Hops {
  readonly #numbers: Float64Array;
  readonly #places: (Place | undefined)[];
  readonly #blocks: (LogBlock | undefined)[];
  readonly #arrivals: (readonly number[] | undefined)[];
  readonly #capacity: number;
  readonly #passed: (passage: Passage) => void;
  /** Blocks ever appended; block n stands in slot n mod capacity. */
  #count = 0;
  #synced = 0;
  #forwarded = 0;
  #acked = 0;
  #committed = 0;
  #acknowledged = 0;
  /** What came before is over. */
  #over = 0;
  #isHead = false;
  #syncedAt = Number.NEGATIVE_INFINITY;

  /** @param passed called when a block has committed, and was acknowledged where there is a predecessor */
  constructor(passed: (passage: Passage) => void, capacity = hopsMax) {
    this.#numbers = new Float64Array(columns * capacity);
    this.#places = new Array<Place | undefined>(capacity).fill(undefined);
    this.#blocks = new Array<LogBlock | undefined>(capacity).fill(undefined);
    this.#arrivals = new Array<readonly number[] | undefined>(capacity).fill(undefined);
    this.#capacity = capacity;
    this.#passed = passed;
  }

  /**
   * A block was handed to the log.
   * @param isTraced does an entry carry a trace that isn't sampled @param isKept is one to be recorded
   * @param arrivals when each entry came, at the head of a block that is to be recorded
   */
  append(
    block: LogBlock,
    place: Place,
    times: { readonly arrived: number; readonly now: number },
    isTraced: boolean,
    isKept: boolean,
    arrivals?: readonly number[],
  ): void {
    const n = this.#count;
    const slot = n % this.#capacity;
    this.#endThrough(n - this.#capacity + 1);
    this.#count += 1;
    const at = slot * columns;
    this.#numbers.fill(Number.NaN, at, at + columns);
    this.#numbers[at + generation] = block.end.generation;
    this.#numbers[at + first] = block.previous.index + 1;
    this.#numbers[at + last] = block.end.index;
    this.#numbers[at + arrived] = times.arrived;
    this.#numbers[at + appended] = times.now;
    this.#numbers[at + traced] = isTraced ? 1 : 0;
    this.#places[slot] = place;
    this.#blocks[slot] = isKept ? block : undefined;
    this.#arrivals[slot] = arrivals;
    // Whoever is so far behind that its block was overwritten goes on with the oldest that is left.
    const oldest = this.#oldest;
    this.#synced = Math.max(this.#synced, oldest);
    this.#forwarded = Math.max(this.#forwarded, oldest);
    this.#acked = Math.max(this.#acked, oldest);
    this.#committed = Math.max(this.#committed, oldest);
    this.#acknowledged = Math.max(this.#acknowledged, oldest);
  }

  /** Everything through the index is on the disk: one batch, begun when the batch before it ended or later. */
  sync(through: number, now: number): void {
    let begun = Number.NaN;
    while (this.#stands(this.#synced, through)) {
      const at = this.#at(this.#synced);
      if (Number.isNaN(begun))
        begun = Math.max(this.#numbers[at + appended] ?? now, this.#syncedAt);
      this.#numbers[at + writing] = Math.max(begun, this.#numbers[at + appended] ?? begun);
      this.#numbers[at + synced] = now;
      this.#synced += 1;
    }
    this.#syncedAt = now;
  }

  /** Sent to the successor: once again after a new link, of which the first time counts. */
  forward(through: number, now: number): void {
    this.#forwarded = this.#pass(this.#forwarded, forwarded, through, now);
  }

  /** Synced at the successor. */
  ack(through: number, now: number): void {
    this.#acked = this.#pass(this.#acked, acked, through, now);
  }

  commit(through: number, now: number): void {
    const before = this.#committed;
    this.#committed = this.#pass(before, committed, through, now);
    for (let n = before; n < this.#committed; n += 1) {
      const role = this.#places[n % this.#capacity]?.role;
      // A later successor catches up; nothing of that is the passage of these blocks.
      if (role === 'tail' || role === 'only') {
        this.#forwarded = Math.max(this.#forwarded, n + 1);
        this.#acked = Math.max(this.#acked, n + 1);
      }
    }
    if (this.#isHead) this.#endThrough(this.#committed);
  }

  /** The commit was told to the predecessor; what isn't committed can't have been. */
  acknowledge(through: number, now: number): void {
    const last = this.#last(this.#committed - 1) ?? 0;
    this.#acknowledged = this.#pass(this.#acknowledged, acknowledged, Math.min(through, last), now);
    this.#endThrough(this.#acknowledged);
  }

  /** A view is active: at the head nobody waits to be told. */
  stand(isHead: boolean): void {
    this.#isHead = isHead;
    if (isHead) this.#endThrough(this.#committed);
  }

  /** What followed the index left the log. */
  cut(after: number): void {
    while (this.#count > this.#oldest && (this.#last(this.#count - 1) ?? 0) > after) {
      this.#count -= 1;
      this.#end(this.#count, true);
      this.#numbers[this.#at(this.#count) + last] = Number.NaN;
    }
    const { length } = this;
    this.#synced = Math.min(this.#synced, length);
    this.#forwarded = Math.min(this.#forwarded, length);
    this.#acked = Math.min(this.#acked, length);
    this.#over = Math.min(this.#over, length);
  }

  /** What is not over is told as it stands: the incarnation ends. */
  close(): void {
    this.#endThrough(this.#count);
  }

  /** Blocks ever appended and not cut. */
  get length(): number {
    return this.#count;
  }

  /** The slot of the block that holds an entry, of any generation for 0; undefined: forgotten, or it never came. */
  find(id: { readonly generation: number; readonly index: number }): number | undefined {
    let low = this.#oldest;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#last(middle) ?? 0) < id.index) low = middle + 1;
      else high = middle;
    }
    if (low >= this.#count) return undefined;
    const at = this.#at(low);
    const isIt =
      (id.generation === 0 || this.#numbers[at + generation] === id.generation) &&
      (this.#numbers[at + first] ?? 0) <= id.index;
    return isIt ? low % this.#capacity : undefined;
  }

  /** The slots of blocks with an entry whose trace isn't sampled, newest first. */
  *tracedSlots(): Iterable<number> {
    for (let n = this.#count - 1; n >= this.#oldest; n -= 1) {
      if (this.#numbers[this.#at(n) + traced] === 1) yield n % this.#capacity;
    }
  }

  /** Milliseconds from hand-over to disk, and from sending to the successor's disk; NaN where there is none. */
  durations(slot: number): {
    readonly sync: number;
    readonly forward: number;
    readonly commit: number;
    readonly entries: number;
  } {
    const at = slot * columns;
    const number = (column: number): number => this.#numbers[at + column] ?? Number.NaN;
    return {
      sync: number(synced) - number(writing),
      forward: number(acked) - number(forwarded),
      commit: number(committed) - number(arrived),
      entries: number(last) - number(first) + 1,
    };
  }

  /** @param originMs milliseconds since 1970 where the monotonic clock is 0 */
  record(slot: number, node: string, originMs: number, cut = false): HopRecord {
    const at = slot * columns;
    const micros = (column: number): number => microsOf(this.#numbers[at + column], originMs);
    const place = this.#places[slot];
    return {
      end: {
        generation: this.#numbers[at + generation] ?? 0,
        index: this.#numbers[at + last] ?? 0,
      },
      first: this.#numbers[at + first] ?? 0,
      node,
      epoch: place?.epoch ?? 0,
      position: place?.position ?? 0,
      role: place?.role ?? '',
      predecessor: place?.predecessor ?? '',
      arrived: micros(arrived),
      appended: micros(appended),
      writing: micros(writing),
      synced: micros(synced),
      forwarded: micros(forwarded),
      acked: micros(acked),
      committed: micros(committed),
      acknowledged: micros(acknowledged),
      arrivals: (this.#arrivals[slot] ?? []).map((ms) => microsOf(ms, originMs)),
      cut,
    };
  }

  get #oldest(): number {
    return Math.max(0, this.#count - this.#capacity);
  }

  #at(n: number): number {
    return (n % this.#capacity) * columns;
  }

  #last(n: number): number | undefined {
    return this.#numbers[this.#at(n) + last];
  }

  #stands(n: number, through: number): boolean {
    return n < this.#count && (this.#last(n) ?? 0) <= through;
  }

  #pass(from: number, column: number, through: number, now: number): number {
    let n = from;
    while (this.#stands(n, through)) {
      this.#numbers[this.#at(n) + column] = now;
      n += 1;
    }
    return n;
  }

  #endThrough(n: number): void {
    for (; this.#over < n; this.#over += 1) this.#end(this.#over, false);
  }

  #end(n: number, cut: boolean): void {
    const slot = n % this.#capacity;
    const block = this.#blocks[slot];
    this.#blocks[slot] = undefined;
    this.#passed({ slot, block, cut });
    this.#arrivals[slot] = undefined;
  }
}

function microsOf(ms: number | undefined, originMs: number): number {
  return ms === undefined || Number.isNaN(ms) ? 0 : (ms + originMs) * 1_000;
}

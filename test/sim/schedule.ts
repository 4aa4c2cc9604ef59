import type { Random } from '../../src/base/random.js';

/** A seeded generator (xoshiro128**): the only source of chance in a simulation. */
export class SeededRandom implements Random {
  readonly #s: Uint32Array;

  constructor(seed: number) {
    // splitmix32 spreads the seed over the state.
    let x = seed >>> 0;
    this.#s = Uint32Array.from({ length: 4 }, () => {
      x = (x + 0x9e3779b9) >>> 0;
      let z = x;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    });
  }

  uint32(): number {
    const s = this.#s;
    const [a = 0, b = 0, c = 0, d = 0] = s;
    const x = Math.imul(b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    s[2] = c ^ a;
    s[3] = d ^ b;
    s[1] = b ^ (s[2] ?? 0);
    s[0] = a ^ (s[3] ?? 0);
    s[2] = (s[2] ?? 0) ^ (b << 9);
    const e = s[3] ?? 0;
    s[3] = (e << 11) | (e >>> 21);
    return result;
  }

  float(): number {
    return this.uint32() / 2 ** 32;
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.uint32() & 0xff);
  }

  /** A float in [from, to). */
  between(from: number, to: number): number {
    return from + this.float() * (to - from);
  }

  int(below: number): number {
    return Math.floor(this.float() * below);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.int(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }

  chance(part: number): boolean {
    return this.float() < part;
  }

  fork(): SeededRandom {
    return new SeededRandom(this.uint32());
  }
}

interface Due {
  readonly at: number;
  readonly sequence: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** The one queue of a simulation, ordered by (time, sequence). Milliseconds of simulated time. */
export class Schedule {
  now = 0;
  events = 0;
  readonly #heap: Due[] = [];
  #sequence = 0;

  at(time: number, run: () => void): () => void {
    const due: Due = {
      at: Math.max(time, this.now),
      sequence: this.#sequence++,
      run,
      cancelled: false,
    };
    this.#push(due);
    return () => {
      due.cancelled = true;
    };
  }

  after(milliseconds: number, run: () => void): () => void {
    return this.at(this.now + milliseconds, run);
  }

  /** Runs everything until then, letting promises settle after each event. */
  async runUntil(time: number, stepped: () => void): Promise<void> {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.at > time) break;
      this.#pop();
      if (next.cancelled) continue;
      this.now = next.at;
      this.events += 1;
      next.run();
      await settled();
      stepped();
    }
    this.now = time;
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(due);
    while (i > 0) {
      const parent = (i - 1) >>> 1;
      const p = heap[parent];
      if (p === undefined || !before(due, p)) break;
      heap[i] = p;
      i = parent;
    }
    heap[i] = due;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      let least = left;
      if (right !== undefined && before(right, left)) {
        child += 1;
        least = right;
      }
      if (!before(least, last)) break;
      heap[i] = least;
      i = child;
    }
    heap[i] = last;
  }
}

function before(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.sequence < b.sequence);
}

/** Every promise that can settle without time passing has settled. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

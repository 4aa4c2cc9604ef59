/** Milliseconds between two lines. */
const everyMs = 2_000;
/** Looking at the clock costs more than an entry: once in so many. */
const lookEvery = 1_024;

/** Says on stderr how far a long run is, and how fast it was. */
export class Progress {
  readonly #say: (text: string) => void;
  readonly #from: number;
  readonly #total: number;
  readonly #start = performance.now();
  #next = this.#start + everyMs;
  #calls = 0;

  /** @param total entries that there are, `from` of them passed over at the start */
  constructor(say: (text: string) => void, total: number, from = 0) {
    this.#say = say;
    this.#total = total;
    this.#from = from;
  }

  at(index: number): void {
    this.#calls += 1;
    if (this.#calls % lookEvery !== 0) return;
    const now = performance.now();
    if (now < this.#next) return;
    this.#next = now + everyMs;
    const done = index - this.#from;
    const percent = Math.floor((100 * index) / Math.max(1, this.#total));
    this.#say(
      `entry ${counted(index)} of ${counted(this.#total)}, ${percent} %, ${this.#rate(done, now)}`,
    );
  }

  end(done: number): void {
    const now = performance.now();
    const seconds = ((now - this.#start) / 1_000).toFixed(1);
    this.#say(`${counted(done)} entries in ${seconds} s, ${this.#rate(done, now)}`);
  }

  #rate(done: number, now: number): string {
    return `${counted(Math.round((1_000 * done) / Math.max(1, now - this.#start)))} a second`;
  }
}

/** `1 key`, `1,234 keys`. */
export function some(count: number, what: string): string {
  return `${counted(count)} ${what}${count === 1 ? '' : 's'}`;
}

/** 1,234,567 */
export function counted(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** Upper bounds of latencies in seconds, from 50 µs to 10 s. */
export const secondsBounds: readonly number[] = [
  0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
  2.5, 5, 10,
];
/** Upper bounds of sizes of batches, in entries. */
export const sizeBounds: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/** Counts by upper bound: plain numbers, so that an observation on the data path costs no allocation. */
export class Histogram {
  readonly bounds: readonly number[];
  /** One count a bound, and one for what is above them all; not cumulative. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[] = secondsBounds) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  /** NaN counts for nothing. */
  observe(value: number): void {
    if (Number.isNaN(value)) return;
    let slot = 0;
    while (slot < this.bounds.length && value > (this.bounds[slot] ?? 0)) slot += 1;
    this.counts[slot] = (this.counts[slot] ?? 0) + 1;
    this.sum += value;
    this.count += 1;
  }
}

import { createHistogram } from 'node:perf_hooks';
import type { Latency } from './generator.js';

/** Latencies by an HDR histogram: three digits, microseconds up to minutes. */
export class Latencies {
  readonly #micros = createHistogram({ lowest: 1, highest: 600_000_000, figures: 3 });

  add(milliseconds: number): void {
    this.#micros.record(Math.max(1, Math.round(milliseconds * 1_000)));
  }

  get latency(): Latency {
    const of = (percentile: number): number => this.#micros.percentile(percentile) / 1_000;
    const { count, mean, max } = this.#micros;
    if (count === 0) return { count: 0, mean: 0, p50: 0, p90: 0, p99: 0, p999: 0, max: 0 };
    return {
      count,
      mean: mean / 1_000,
      p50: of(50),
      p90: of(90),
      p99: of(99),
      p999: of(99.9),
      max: max / 1_000,
    };
  }
}

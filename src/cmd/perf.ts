/** A load of `check perf`. */
export interface PerfLoad {
  readonly perSecond: number;
  readonly clients: number;
  readonly seconds: number;
}

/** The table of `etcdctl check perf`. */
export const perfLoads: Readonly<Record<'s' | 'm' | 'l' | 'xl', PerfLoad>> = {
  s: { perSecond: 150, clients: 50, seconds: 60 },
  m: { perSecond: 1_000, clients: 200, seconds: 60 },
  l: { perSecond: 8_000, clients: 500, seconds: 60 },
  xl: { perSecond: 15_000, clients: 1_000, seconds: 60 },
};

/** Its rules: part of the rate, and milliseconds. */
export const perfRules = { partOfRate: 0.9, slowestMs: 500, deviationMs: 100 } as const;

/** Milliseconds of answered writes, kept as sums. */
export class WriteTimes {
  count = 0;
  failed = 0;
  slowest = 0;
  #sum = 0;
  #squares = 0;

  took(milliseconds: number): void {
    this.count += 1;
    this.#sum += milliseconds;
    this.#squares += milliseconds * milliseconds;
    this.slowest = Math.max(this.slowest, milliseconds);
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.#sum / this.count;
  }

  /** Standard deviation. */
  get deviation(): number {
    if (this.count === 0) return 0;
    return Math.sqrt(Math.max(0, this.#squares / this.count - this.mean ** 2));
  }
}

export interface PerfCheck {
  readonly name: string;
  readonly value: string;
  readonly bound: string;
  readonly isMet: boolean;
}

export interface PerfReport {
  readonly passed: boolean;
  readonly writesPerSecond: number;
  readonly slowestMs: number;
  readonly deviationMs: number;
  readonly failed: number;
  readonly checks: readonly PerfCheck[];
}

/** Holds what was seen against the rules. */
export function judged({ perSecond }: PerfLoad, times: WriteTimes, seconds: number): PerfReport {
  const { partOfRate, slowestMs, deviationMs } = perfRules;
  const rate = times.count / seconds;
  const checks: readonly PerfCheck[] = [
    {
      name: 'writes a second',
      value: rate.toFixed(0),
      bound: `≥ ${Math.ceil(perSecond * partOfRate)}`,
      isMet: rate >= perSecond * partOfRate,
    },
    {
      name: 'slowest',
      value: `${times.slowest.toFixed(1)} ms`,
      bound: `≤ ${slowestMs} ms`,
      isMet: times.slowest <= slowestMs,
    },
    {
      name: 'standard deviation',
      value: `${times.deviation.toFixed(1)} ms`,
      bound: `≤ ${deviationMs} ms`,
      isMet: times.deviation <= deviationMs,
    },
    { name: 'failed', value: `${times.failed}`, bound: '0', isMet: times.failed === 0 },
  ];
  return {
    passed: checks.every(({ isMet }) => isMet),
    writesPerSecond: rate,
    slowestMs: times.slowest,
    deviationMs: times.deviation,
    failed: times.failed,
    checks,
  };
}

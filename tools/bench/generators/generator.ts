/** What a generator saw of its own run. */
export interface Generated {
  /** From its first request to its end. */
  readonly seconds: number;
  /** CPU of the generator itself, milliseconds. */
  readonly cpuMs: number;
  /** Answers that it took for good ones; a gRPC error is one to a generator that knows HTTP alone. */
  readonly answered: number;
  readonly failed: number;
  readonly latency?: Latency;
  /** Apart from each other, where there are both. */
  readonly readLatency?: Latency;
  readonly writeLatency?: Latency;
  /** Of reads for which the tail was asked. */
  readonly dirtyLatency?: Latency;
  /** Of what was refused. */
  readonly failedLatency?: Latency;
  readonly reads?: number;
  readonly writes?: number;
}

/** Milliseconds. */
export interface Latency {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** A time as h2load and wrk print it, in seconds. */
export function secondsOf(number = '', unit = 's'): number {
  const perSecond = { us: 1e6, ms: 1e3, s: 1, m: 1 / 60 }[unit] ?? Number.NaN;
  return Number(number) / perSecond;
}

/** As h2load and wrk take it: they know no parts of a second. */
export function wholeSeconds(seconds: number): string {
  return `${Math.max(1, Math.ceil(seconds))}`;
}

/** So many for each of `parts`, as even as can be, none less than 1. */
export function spread(total: number, parts: number): readonly number[] {
  return Array.from({ length: parts }, (_, i) =>
    Math.max(1, Math.floor(total / parts) + (i < total % parts ? 1 : 0)),
  );
}

/** What several generators at once saw together. */
export function together(all: readonly Generated[]): Generated {
  const sum = (of: (one: Generated) => number): number => all.reduce((s, one) => s + of(one), 0);
  return {
    seconds: Math.max(...all.map(({ seconds }) => seconds)),
    cpuMs: sum(({ cpuMs }) => cpuMs),
    answered: sum(({ answered }) => answered),
    failed: sum(({ failed }) => failed),
  };
}

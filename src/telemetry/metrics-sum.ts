/** How the values of several processes become one. */
export type Aggregator = 'sum' | 'min' | 'max' | 'average' | 'first' | 'omit';

interface MetricValue {
  /** Where it isn't that of the metric: the parts of a histogram. */
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

interface SampledMetric {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly aggregator: Aggregator;
  readonly values: readonly MetricValue[];
}

/** The metrics of one process at one moment, as data that can go to another process. */
export type MetricSamples = readonly SampledMetric[];

/**
 * The metrics of several processes that count as one. What only grows never shrinks when one of them ends and another one
 * takes its place: what it had counted when somebody last asked stays in the sum. (Prometheus takes less for a
 * restart of the whole, and would count all of the others' again.)
 */
export class MetricsSum {
  readonly #latest = new Map<number, MetricSamples>();
  #ended: MetricSamples = [];

  /** @param part of which process; its number is free again when it has ended */
  seen(part: number, samples: MetricSamples): void {
    this.#latest.set(part, samples);
  }

  ended(part: number): void {
    const samples = this.#latest.get(part) ?? [];
    this.#latest.delete(part);
    this.#ended = added([...this.#ended, ...samples.filter(isGrowing)]);
  }

  /** In Prometheus' text format. */
  async text(): Promise<string> {
    const { AggregatorRegistry } = await import('prom-client');
    const all = [...this.#latest.values(), this.#ended].map((samples) => [...samples]);
    return AggregatorRegistry.aggregate(all).metrics();
  }
}

function isGrowing({ type }: SampledMetric): boolean {
  return type === 'counter' || type === 'histogram';
}

/** One metric of each name. */
function added(samples: MetricSamples): MetricSamples {
  const byName = new Map<string, SampledMetric>();
  for (const metric of samples) {
    const values = new Map<string, MetricValue>();
    for (const each of [...(byName.get(metric.name)?.values ?? []), ...metric.values]) {
      const key = keyOf(each);
      values.set(key, { ...each, value: each.value + (values.get(key)?.value ?? 0) });
    }
    byName.set(metric.name, { ...metric, values: [...values.values()] });
  }
  return [...byName.values()];
}

function keyOf({ metricName = '', labels }: MetricValue): string {
  return JSON.stringify([
    metricName,
    ...Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)),
  ]);
}

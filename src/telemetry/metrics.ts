import type { Registry } from 'prom-client';
import { MemberState } from '../gen/keychaindb/v1/coordinator.js';
import type { Histogram } from './histogram.js';
import type { Aggregator, MetricSamples } from './metrics-sum.js';
import type { RequestMeter } from './request-meter.js';
import type { Instance } from './span.js';
import type { Traces } from './traces.js';

type Labels = Readonly<Record<string, string>>;

/** One value of a metric. NaN: not known now, so not shown. */
export interface Sample {
  readonly labels?: Labels;
  readonly value: number;
}

interface Shown {
  readonly metricName?: string;
  readonly labels: Labels;
  readonly value: number;
}

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

/**
 * The metrics of a process. Values are read when somebody asks for them; the data path only counts. Names
 * carry their unit, and all stand in docs/names.md.
 */
export class Metrics {
  readonly #own: Instance;
  readonly #defined: object[] = [];
  #registry: Promise<Registry> | undefined;

  constructor(own: Instance, version: string, traces: Traces) {
    this.#own = own;
    this.gauge('keychaindb_build_info', 'Always 1; the version is a label.', () => [
      { labels: { version }, value: 1 },
    ]);
    this.counter('keychaindb_spans_recorded_total', 'Spans made.', () => traces.recorded);
    this.counter('keychaindb_spans_exported_total', 'Spans that the collector took.', () => {
      return traces.exports.exported;
    });
    this.counter(
      'keychaindb_spans_dropped_total',
      'Spans lost: the queue was full, or the collector refused or did not answer.',
      () => traces.exports.dropped,
    );
    this.queues(() => {
      const { queued, limit } = traces.exports;
      return [{ name: 'spans', length: queued, limit }];
    });
  }

  /** @param aggregator what is shown where several processes count as one */
  gauge(
    name: string,
    help: string,
    read: () => number | readonly Sample[],
    aggregator: Aggregator = 'max',
  ): void {
    this.#add(name, help, 'gauge', () => samples(read()), aggregator);
  }

  counter(name: string, help: string, read: () => number | readonly Sample[]): void {
    this.#add(name, help, 'counter', () => samples(read()), 'sum');
  }

  histogram(
    name: string,
    help: string,
    read: () => Iterable<{ readonly labels?: Labels; readonly histogram: Histogram }>,
  ): void {
    const values = () =>
      [...read()].flatMap(({ labels = {}, histogram }) => buckets(name, labels, histogram));
    this.#add(name, help, 'histogram', values, 'sum');
  }

  /** Requests by verb, code and reason, and their latency by verb. */
  requests(meter: RequestMeter): void {
    this.counter(
      'keychaindb_requests_total',
      'Answered requests by verb, gRPC status and reason.',
      () =>
        meter.counts.map(({ verb, code, reason, count }) => ({
          labels: { verb, code, reason },
          value: count,
        })),
    );
    this.histogram(
      'keychaindb_request_duration_seconds',
      'Time from the arrival of a request to its answer, by verb.',
      () => [...meter.durations].map(([verb, histogram]) => ({ labels: { verb }, histogram })),
    );
  }

  /** What waits, and how much of it may; may be called more than once. */
  queues(
    read: () => readonly {
      readonly name: string;
      readonly length: number;
      readonly limit: number;
    }[],
  ): void {
    this.#queues.push(read);
    if (this.#queues.length > 1) return;
    const all = () => this.#queues.flatMap((each) => each());
    this.gauge(
      'keychaindb_queue_length',
      'What waits in a queue, in its unit.',
      () => all().map(({ name, length }) => ({ labels: { queue: name }, value: length })),
      'sum',
    );
    this.gauge(
      'keychaindb_queue_limit',
      'The bound of a queue: what comes beyond is refused.',
      () => all().map(({ name, limit }) => ({ labels: { queue: name }, value: limit })),
      'sum',
    );
  }

  readonly #queues: (() => readonly {
    readonly name: string;
    readonly length: number;
    readonly limit: number;
  }[])[] = [];

  /** In Prometheus' text format. */
  async text(): Promise<string> {
    this.#registry ??= this.#load();
    return (await this.#registry).metrics();
  }

  /** The same as data, to be added to those of other processes. */
  async samples(): Promise<MetricSamples> {
    this.#registry ??= this.#load();
    // Its declarations name the types by number; what it gives are words.
    return (await (await this.#registry).getMetricsAsJSON()) as unknown as MetricSamples;
  }

  /** When the first one asks: a process that is starting has other things to load. */
  async #load(): Promise<Registry> {
    const { collectDefaultMetrics, Counter, Registry } = await import('prom-client');
    const registry = new Registry();
    const { service, instance } = this.#own;
    registry.setDefaultLabels({ role: service.replace(/^keychaindb-/, ''), id: instance });
    collectDefaultMetrics({ register: registry });
    // It counts from when it was loaded; the process has used this before.
    const { user, system } = process.cpuUsage();
    const before = { user_: user, system_: system, '': user + system };
    for (const [kind, micros] of Object.entries(before)) {
      const counter = registry.getSingleMetric(`process_cpu_${kind}seconds_total`);
      if (counter instanceof Counter) counter.inc(micros / 1e6);
    }
    // Gauges under names of counters, which promtool refuses; the ones without `_total` say it by type.
    for (const name of ['handles', 'requests', 'resources']) {
      registry.removeSingleMetric(`nodejs_active_${name}_total`);
    }
    for (const metric of this.#defined) {
      // The registry asks for its own class and uses what stands here.
      registry.registerMetric(metric as unknown as Parameters<Registry['registerMetric']>[0]);
    }
    return registry;
  }

  #add(
    name: string,
    help: string,
    type: string,
    values: () => readonly Shown[],
    aggregator: Aggregator,
  ): void {
    const get = async () => ({ name, help, type, aggregator, values: values() });
    this.#defined.push({ name, help, type, get });
  }
}

/** How many members are in each state; every state is shown. */
export function membersByState(
  ...lists: readonly (readonly { readonly state: MemberState }[])[]
): readonly { readonly labels: { readonly state: string }; readonly value: number }[] {
  const all = lists.flat();
  return Object.entries(MemberState)
    .filter(([, value]) => value !== MemberState.UNSPECIFIED)
    .map(([name, value]) => ({
      labels: { state: name },
      value: all.filter(({ state }) => state === value).length,
    }));
}

function samples(read: number | readonly Sample[]): readonly Shown[] {
  const all = typeof read === 'number' ? [{ value: read }] : read;
  return all
    .filter(({ value }) => !Number.isNaN(value))
    .map(({ value, ...rest }) => ({ value, labels: ('labels' in rest && rest.labels) || {} }));
}

function buckets(name: string, labels: Labels, histogram: Histogram): readonly Shown[] {
  const shown: Shown[] = [];
  let below = 0;
  histogram.counts.forEach((count, slot) => {
    below += count;
    const bound = histogram.bounds[slot];
    const le = bound === undefined ? '+Inf' : String(bound);
    shown.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: below });
  });
  shown.push({ metricName: `${name}_sum`, labels, value: histogram.sum });
  shown.push({ metricName: `${name}_count`, labels, value: histogram.count });
  return shown;
}

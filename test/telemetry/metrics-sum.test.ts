import t from 'tap';
import {
  type Aggregator,
  type MetricSamples,
  MetricsSum,
} from '../../src/telemetry/metrics-sum.js';

function counter(value: number): MetricSamples[number] {
  return {
    ...{ name: 'requests_total', help: 'Requests.', type: 'counter', aggregator: 'sum' },
    values: [{ labels: { code: 'OK' }, value }],
  };
}

function gauge(aggregator: Aggregator, value: number): MetricSamples[number] {
  const labels = { node: 'n1' };
  return {
    name: `of_${aggregator}`,
    help: '',
    type: 'gauge',
    aggregator,
    values: [{ labels, value }],
  };
}

function histogram(counts: readonly [number, number]): MetricSamples[number] {
  const [below, all] = counts;
  return {
    ...{ name: 'seconds', help: 'Time.', type: 'histogram', aggregator: 'sum' },
    values: [
      { metricName: 'seconds_bucket', labels: { le: '1' }, value: below },
      { metricName: 'seconds_bucket', labels: { le: '+Inf' }, value: all },
      { metricName: 'seconds_count', labels: {}, value: all },
    ],
  };
}

async function shown(sum: MetricsSum): Promise<readonly string[]> {
  return (await sum.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

t.test('each metric is brought together in its own way', async (t) => {
  const sum = new MetricsSum();
  for (const [part, value] of [
    [1, 3],
    [2, 5],
  ] as const) {
    const gauges = (['sum', 'min', 'max', 'first', 'omit'] as const).map((how) =>
      gauge(how, value),
    );
    sum.seen(part, [counter(value), ...gauges, histogram([value, value * 2])]);
  }
  t.strictSame(await shown(sum), [
    'requests_total{code="OK"} 8',
    'of_sum{node="n1"} 8',
    'of_min{node="n1"} 3',
    'of_max{node="n1"} 5',
    'of_first{node="n1"} 3',
    'seconds_bucket{le="1"} 8',
    'seconds_bucket{le="+Inf"} 16',
    'seconds_count 16',
  ]);
});

t.test('of one process the newest values count', async (t) => {
  const sum = new MetricsSum();
  sum.seen(1, [counter(3)]);
  sum.seen(1, [counter(4)]);
  t.strictSame(await shown(sum), ['requests_total{code="OK"} 4']);
});

t.test('what grows does not shrink when processes end; their gauges are gone', async (t) => {
  const sum = new MetricsSum();
  sum.seen(1, [counter(10), gauge('sum', 7), histogram([1, 2])]);
  sum.seen(2, [counter(1), gauge('sum', 1), histogram([1, 1])]);
  sum.ended(1);
  sum.seen(1, [counter(100), gauge('sum', 1), histogram([0, 1])]);
  sum.ended(1);
  sum.ended(3);
  t.strictSame(await shown(sum), [
    'requests_total{code="OK"} 111',
    'of_sum{node="n1"} 1',
    'seconds_bucket{le="1"} 2',
    'seconds_bucket{le="+Inf"} 4',
    'seconds_count 4',
  ]);
});

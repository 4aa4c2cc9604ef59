import t from 'tap';
import type { Operation, OperationResult } from '../../src/gen/keychaindb/v1/kv.js';
import { step } from '../../src/proxy/core.js';
import { initialState, type ProxyInput } from '../../src/proxy/state.js';
import {
  type Caller,
  type NotedWrite,
  type ProxyTelemetry,
  ProxyTracing,
} from '../../src/proxy/tracing.js';
import { RequestMeter } from '../../src/telemetry/request-meter.js';
import { type Span, SpanKind, spanOf } from '../../src/telemetry/span.js';
import { contextOf, isSampled, parentIdOf, traceIdOf } from '../../src/telemetry/trace-context.js';
import { getOf, putOf, putResult, refusedResult, viewOf } from './views.js';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const spanId = 'b7ad6b7169203331';

type Unclocked<Input> = Input extends ProxyInput ? Omit<Input, 'now'> : never;

/** A proxy's core with what watches it. */
class Bench {
  readonly spans: Span[] = [];
  readonly noted: NotedWrite[] = [];
  readonly meter = new RequestMeter();
  readonly state = initialState(new Uint8Array(16).fill(1));
  readonly tracing: ProxyTracing;
  readonly callers = new Map<number, Caller>();
  readonly sent: Operation[] = [];
  now = 1_000;
  chance = 0.5;
  #token = 0;

  constructor(options: Partial<ProxyTelemetry> = {}) {
    this.tracing = new ProxyTracing(
      {
        meter: this.meter,
        own: { service: 'keychaindb-proxy', instance: 'proxy-1' },
        sink: { record: (span) => this.spans.push(span) },
        ratio: 1,
        slowMs: 500,
        contentBytes: 0,
        micros: (ms) => ms * 1_000,
        keep: () => Promise.resolve([]),
        answered: () => undefined,
        noted: (write) => this.noted.push(write),
        ...options,
      },
      { bytes: (n) => new Uint8Array(n).fill(3), float: () => this.chance },
    );
    this.do({ type: 'ViewReceived', view: viewOf(1, ['a', 'b']) });
    this.do({ type: 'NodeConnected', node: 'a' });
    this.do({ type: 'NodeConnected', node: 'b' });
  }

  do(input: Unclocked<ProxyInput>): void {
    const { events, effects } = step(this.state, { ...input, now: this.now } as ProxyInput);
    this.tracing.observe(events, this.callers, this.now);
    for (const effect of effects) {
      if (effect.type === 'send') this.sent.push(effect.operation);
      if (effect.type !== 'answer') continue;
      const caller = this.callers.get(effect.token);
      this.callers.delete(effect.token);
      if (caller !== undefined) this.tracing.answered(caller, effect.result.result, this.now);
    }
  }

  /** Gives the operation as it went on. */
  receive(asked: Operation, trace: Uint8Array = new Uint8Array(0)): Operation {
    const operation = this.tracing.begin({ ...asked, trace });
    this.#token += 1;
    this.callers.set(this.#token, {
      answer: () => undefined,
      operation,
      edge: 'grpc',
      beganAt: this.now,
      parent: trace,
      request: undefined,
      attempts: 0,
    });
    const token = this.#token;
    this.do({ type: 'OperationReceived', token, operation, timeoutMs: 5_000 });
    return operation;
  }

  answer(result: (id: number) => OperationResult, node = 'a'): void {
    const results = [result(this.sent.at(-1)?.id ?? 0)];
    this.do({ type: 'ResultsReceived', node, results, view: undefined });
  }

  named(name: string): readonly Span[] {
    return this.spans.filter((span) => span.name === name);
  }
}

t.test("the caller's trace goes on: request, attempt, and what the node is told", async (t) => {
  const bench = new Bench();
  bench.receive(putOf('k', 'v'), contextOf(traceId, spanId, true));
  bench.now += 3;
  bench.answer((id) => putResult(id));
  const [request] = bench.named('keychaindb.v1.KV/Put');
  const [attempt] = bench.named('chain.route');
  t.match(request, { traceId, parentId: spanId, startUs: 1_000_000, endUs: 1_003_000, error: '' });
  t.match(attempt, { traceId, parentId: request?.spanId, attributes: { 'keychaindb.node': 'a' } });
  const sent = bench.sent[0]?.trace ?? new Uint8Array(0);
  t.equal(traceIdOf(sent), traceId);
  t.equal(parentIdOf(sent), attempt?.spanId, "the node's work belongs to the attempt");
});

t.test(
  'without a caller the ratio decides; a caller that said no is not asked again',
  async (t) => {
    for (const [ratio, chance, sampled] of [
      [1, 0.99, true],
      [0.5, 0.49, true],
      [0.5, 0.5, false],
      [0, 0, false],
    ] as const) {
      const bench = new Bench({ ratio });
      bench.chance = chance;
      t.equal(isSampled(bench.receive(putOf('k', 'v')).trace), sampled, `${ratio} ${chance}`);
    }
    const quiet = contextOf(traceId, spanId, false);
    t.equal(new Bench().receive(putOf('k', 'v'), quiet).trace, quiet, 'passed on as it came');
  },
);

t.test('no two operations share an id', async (t) => {
  const bench = new Bench();
  const traces = Array.from({ length: 1_000 }, () => bench.tracing.begin(getOf('k')).trace);
  t.equal(new Set(traces.map(traceIdOf)).size, 1_000);
  t.equal(new Set(traces.map(parentIdOf)).size, 1_000);
});

t.test('every attempt has a span, the one that nobody answered too', async (t) => {
  const bench = new Bench();
  bench.receive(putOf('k', 'v'));
  bench.answer((id) => refusedResult(id, 'NOT_HEAD'));
  bench.now += 100;
  bench.do({ type: 'Ticked' });
  t.equal(bench.sent.length, 2);
  bench.now += 10_000;
  bench.do({ type: 'Ticked' });
  t.strictSame(
    bench.named('chain.route').map(({ error }) => error),
    ['NOT_HEAD', 'no answer in time'],
  );
  const [request] = bench.named('keychaindb.v1.KV/Put');
  t.match(request?.error, /^OUTCOME_UNKNOWN: /);
  t.equal(request?.attributes?.['keychaindb.attempts'], 2);
  bench.answer((id) => putResult(id));
  t.equal(bench.named('chain.route').length, 2, 'a late answer has its span already');
});

t.test('a slow write that was not sampled is kept in the trace that the nodes know', async (t) => {
  const asked: string[] = [];
  const node = { service: 'keychaindb-node', instance: 'a' };
  const kept = spanOf(node, {
    traceId,
    spanId,
    parentId: '',
    name: 'chain.write',
    kind: SpanKind.SERVER,
    startUs: 0,
    endUs: 1,
    attributes: {},
  });
  const bench = new Bench({
    ratio: 0,
    keep: ({ seq }, trace) => {
      asked.push(`${seq} ${trace}`);
      return Promise.resolve([kept]);
    },
  });
  bench.receive(putOf('k', 'v'));
  bench.now += 499;
  bench.answer((id) => putResult(id));
  t.strictSame(asked, [], 'fast enough');
  bench.receive(putOf('k', 'v'));
  bench.now += 500;
  bench.answer((id) => putResult(id));
  await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(asked, ['2 ']);
  t.match(bench.named('keychaindb.v1.KV/Put'), [{ traceId }]);
  t.match(bench.noted, [{ traceId, verb: 'put', milliseconds: 500, reason: '', unsaid: 0 }]);
});

t.test('when everything is slow a few say it, with the count of the others', async (t) => {
  const bench = new Bench();
  const slow = (): void => {
    bench.receive(putOf('k', 'v'));
    bench.now += 500;
    bench.answer((id) => putResult(id));
    bench.now -= 500;
  };
  for (let n = 0; n < 25; n += 1) slow();
  t.equal(bench.noted.length, 10);
  bench.now += 1_500;
  slow();
  t.equal(bench.noted.at(-1)?.unsaid, 15);
});

t.test('requests are counted by verb, status and reason, whatever is traced', async (t) => {
  const bench = new Bench({ ratio: 0 });
  bench.receive(putOf('k', 'v'));
  bench.answer((id) => putResult(id));
  bench.receive(getOf('k'));
  bench.now += 10_000;
  bench.do({ type: 'Ticked' });
  t.match(bench.meter.counts, [
    { verb: 'put', code: 'OK', reason: '', count: 1 },
    { verb: 'get', code: 'DEADLINE_EXCEEDED', count: 1 },
  ]);
  t.equal(bench.meter.durations.get('get')?.sum, 10);
});

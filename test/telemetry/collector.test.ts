import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api';
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { OTLPTraceExporter as HttpExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resources, tracing } from '@opentelemetry/sdk-node';
import t from 'tap';
import { type Collector, startCollector } from './collector.js';

type Outcome = Parameters<Parameters<tracing.SpanExporter['export']>[1]>[0];

const protocols = ['HTTP', 'gzipped HTTP', 'gRPC', 'gzipped gRPC'] as const;
type Protocol = (typeof protocols)[number];

const provider = new tracing.BasicTracerProvider({
  resource: resources.resourceFromAttributes({
    'service.name': 'keychaindb-node',
    'service.instance.id': 'node-1',
  }),
});
const tracer = provider.getTracer('keychaindb', '1.2.3');
const linked = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' };

function exporterTo(
  collector: Collector,
  protocol: Protocol,
  timeoutMillis = 10_000,
): tracing.SpanExporter {
  const compression = (protocol.startsWith('gzipped') ? 'gzip' : 'none') as never;
  return protocol.endsWith('gRPC')
    ? new GrpcExporter({ url: collector.grpcUrl, timeoutMillis, compression })
    : new HttpExporter({ url: `${collector.httpUrl}/v1/traces`, timeoutMillis, compression });
}

function send(
  exporter: tracing.SpanExporter,
  spans: readonly tracing.ReadableSpan[],
): Promise<Outcome> {
  return new Promise((resolve) => exporter.export([...spans], resolve));
}

/** Of the SDK, which reads them as its exporters do. */
function ended(span: ReturnType<typeof tracer.startSpan>, time: [number, number]) {
  span.end(time);
  return span as unknown as tracing.ReadableSpan;
}

function oneSpan(name = 'one'): tracing.ReadableSpan {
  return ended(tracer.startSpan(name, { startTime: [1, 0] }), [2, 0]);
}

for (const protocol of protocols) {
  t.test(`what the exporter over ${protocol} sends comes out as it was`, async (t) => {
    const collector = await startCollector();
    t.teardown(() => collector.close());
    const exporter = exporterTo(collector, protocol);
    t.teardown(() => exporter.shutdown());

    const parent = tracer.startSpan('Put', {
      kind: SpanKind.SERVER,
      startTime: [1_700_000_000, 123_456_789],
      attributes: {
        text: 'a text',
        whole: 42,
        negative: -7,
        large: 2 ** 40,
        broken: 0.5,
        yes: true,
        no: false,
        empty: '',
        zero: 0,
        list: ['a', 'b'],
        numbers: [1, 2.5],
      },
      links: [{ context: { ...linked, traceFlags: TraceFlags.SAMPLED } }],
    });
    const context = trace.setSpan(ROOT_CONTEXT, parent);
    const child = tracer.startSpan(
      'forward',
      { kind: SpanKind.CLIENT, startTime: [1_700_000_000, 200_000_001] },
      context,
    );
    child.setStatus({ code: SpanStatusCode.ERROR, message: 'the successor is gone' });
    const inner = tracer.startSpan('apply', { startTime: [1_700_000_000, 0] }, context);
    inner.setStatus({ code: SpanStatusCode.OK, message: 'not an error' });
    const spans = [
      ended(child, [1_700_000_000, 300_000_003]),
      ended(inner, [1_700_000_001, 999_999_999]),
      ended(parent, [1_700_000_002, 1]),
    ];
    t.equal((await send(exporter, spans)).code, 0);

    await collector.until((spans) => spans.length >= 3);
    t.equal(collector.requests, 1);
    const { traceId, spanId } = parent.spanContext();
    const whose = {
      traceId,
      service: 'keychaindb-node',
      instance: 'node-1',
      scope: 'keychaindb',
    };
    t.strictSame(collector.spans, [
      {
        ...whose,
        spanId: child.spanContext().spanId,
        parentId: spanId,
        name: 'forward',
        kind: 'CLIENT',
        startNs: 1_700_000_000_200_000_001n,
        endNs: 1_700_000_000_300_000_003n,
        attributes: {},
        links: [],
        error: 'the successor is gone',
      },
      {
        ...whose,
        spanId: inner.spanContext().spanId,
        parentId: spanId,
        name: 'apply',
        kind: 'INTERNAL',
        startNs: 1_700_000_000_000_000_000n,
        endNs: 1_700_000_001_999_999_999n,
        attributes: {},
        links: [],
        error: '',
      },
      {
        ...whose,
        spanId,
        parentId: '',
        name: 'Put',
        kind: 'SERVER',
        startNs: 1_700_000_000_123_456_789n,
        endNs: 1_700_000_002_000_000_001n,
        attributes: {
          text: 'a text',
          whole: 42,
          negative: -7,
          large: 2 ** 40,
          broken: 0.5,
          yes: true,
          no: false,
          empty: '',
          zero: 0,
          list: ['a', 'b'],
          numbers: [1, 2.5],
        },
        links: [linked],
        error: '',
      },
    ]);
  });
}

for (const protocol of ['HTTP', 'gRPC'] as const) {
  t.test(`over ${protocol}, calls that hang are answered when it resumes`, async (t) => {
    const collector = await startCollector();
    t.teardown(() => collector.close());
    const exporter = exporterTo(collector, protocol);
    t.teardown(() => exporter.shutdown());
    collector.hang();
    const outcomes = Promise.all([send(exporter, [oneSpan()]), send(exporter, [oneSpan()])]);
    await collector.until(() => collector.requests === 2);
    t.equal(collector.spans.length, 0);
    t.equal(collector.hanging, 2);
    collector.resume();
    t.strictSame(
      (await outcomes).map(({ code }) => code),
      [0, 0],
    );
    t.equal(collector.spans.length, 2);
  });

  t.test(`over ${protocol}, spans that an exporter gave up are never taken`, async (t) => {
    const collector = await startCollector();
    t.teardown(() => collector.close());
    const exporter = exporterTo(collector, protocol, 200);
    t.teardown(() => exporter.shutdown());
    collector.hang();
    t.equal((await send(exporter, [oneSpan('given up')])).code, 1);
    await collector.until(() => collector.hanging === 0);
    collector.resume();
    t.equal((await send(exporter, [oneSpan('kept')])).code, 0);
    t.same(
      collector.spans.map(({ name }) => name),
      ['kept'],
    );
    t.equal(collector.requests, 2);
  });

  t.test(`over ${protocol}, it refuses until it resumes`, async (t) => {
    const collector = await startCollector();
    t.teardown(() => collector.close());
    // Too short for a second attempt.
    const exporter = exporterTo(collector, protocol, 500);
    t.teardown(() => exporter.shutdown());
    for (const status of [503, 400]) {
      collector.refuse(status);
      t.equal((await send(exporter, [oneSpan()])).code, 1);
    }
    t.equal(collector.requests, 2);
    t.equal(collector.spans.length, 0);
    collector.resume();
    t.equal((await send(exporter, [oneSpan()])).code, 0);
    t.equal(collector.spans.length, 1);
  });

  t.test(`over ${protocol}, another takes the ports of one that closed`, async (t) => {
    const first = await startCollector();
    const exporter = exporterTo(first, protocol, 500);
    t.teardown(() => exporter.shutdown());
    t.equal((await send(exporter, [oneSpan()])).code, 0);
    first.hang();
    const cut = send(exporter, [oneSpan()]);
    await first.until(() => first.requests === 2);
    await first.close();
    t.equal((await cut).code, 1);

    const second = await startCollector({ port: first.httpPort, grpcPort: first.grpcPort });
    t.teardown(() => second.close());
    t.equal(second.httpUrl, first.httpUrl);
    t.equal(second.grpcUrl, first.grpcUrl);
    const fresh = exporterTo(second, protocol);
    t.teardown(() => fresh.shutdown());
    t.equal((await send(fresh, [oneSpan('after')])).code, 0);
    t.same(
      second.spans.map(({ name }) => name),
      ['after'],
    );
  });
}

t.test('who waits in vain is told what came', async (t) => {
  const collector = await startCollector();
  t.teardown(() => collector.close());
  const exporter = exporterTo(collector, 'HTTP');
  await send(exporter, [oneSpan('Get'), oneSpan('Get'), oneSpan('Put')]);
  await t.rejects(
    collector.until((spans) => spans.length > 3, 20),
    {
      message:
        'not enough within 20 ms: 3 spans in 1 requests' +
        '\n  2 × keychaindb-node/node-1 Get\n  1 × keychaindb-node/node-1 Put',
    },
  );
  const waiting = collector.until((spans) => spans.length > 3);
  await Promise.all([t.rejects(waiting, /the collector was closed/), collector.close()]);
});

t.test('what is no export of traces is turned away', async (t) => {
  const collector = await startCollector();
  t.teardown(() => collector.close());
  const headers = { 'content-type': 'application/x-protobuf' };
  const ask = async (path: string, init: RequestInit): Promise<number> =>
    (await fetch(collector.httpUrl + path, init)).status;
  t.equal(await ask('/v1/metrics', { method: 'POST', headers }), 404);
  t.equal(await ask('/v1/traces', {}), 405);
  t.equal(await ask('/v1/traces', { method: 'POST', body: '{}' }), 415);
  t.equal(await ask('/v1/traces', { method: 'POST', headers, body: 'no protobuf' }), 400);
  t.equal(collector.requests, 0);
});

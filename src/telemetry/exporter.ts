import type { tracing } from '@opentelemetry/sdk-node';
import type { Clock } from '../base/clock.js';
import type { Instance, Span } from './span.js';
import type { SpanExporter } from './traces.js';

type ReadableSpan = tracing.ReadableSpan;

export interface ExporterOptions {
  /** Of the collector: http://host:4318 over HTTP, http://host:4317 over gRPC. */
  readonly url: string;
  readonly protocol: 'http' | 'grpc';
  readonly own: Instance;
  readonly version: string;
  readonly clock: Clock;
  /** Told when spans begin to be lost, and when they go out again; never more often than that. */
  readonly losing: (isLosing: boolean, why: string) => void;
}

/** Spans that wait for the collector, those on their way included; what is beyond is dropped and counted. */
export const exportQueueMax = 16_384;
/** Spans in one request, and milliseconds until a smaller request goes out. */
const batchMax = 512;
const delayMs = 200;
/** Milliseconds that the collector may take for one request. */
const requestMs = 5_000;
/** Milliseconds that the last spans may take when the process ends. */
const closeMs = 2_000;

/** Loads OpenTelemetry's SDK and exports to the collector. */
export async function startExporter(options: ExporterOptions): Promise<SpanExporter> {
  const { tracing, resources } = await import('@opentelemetry/sdk-node');
  const { service, instance } = options.own;
  const resource = resources.resourceFromAttributes({
    'service.name': service,
    'service.instance.id': instance,
    'service.version': options.version,
    'service.namespace': 'keychaindb',
  });
  const counting = new CountingExporter(await innerExporter(options), options.losing);
  const processor = new tracing.BatchSpanProcessor(counting, {
    // The bound is ours, so that what is lost is counted.
    maxQueueSize: 2 * exportQueueMax,
    maxExportBatchSize: batchMax,
    scheduledDelayMillis: delayMs,
    exportTimeoutMillis: 2 * requestMs,
  });
  const scope = { name: 'keychaindb', version: options.version };
  return new BatchExporter(counting, processor, options.clock, (span) =>
    readable(span, resource, scope),
  );
}

async function innerExporter(options: ExporterOptions): Promise<tracing.SpanExporter> {
  const { url, protocol } = options;
  if (protocol === 'grpc') {
    const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-grpc');
    return new OTLPTraceExporter({ url, timeoutMillis: requestMs });
  }
  const { OTLPTraceExporter } = await import('@opentelemetry/exporter-trace-otlp-proto');
  const path = new URL(url).pathname;
  const traces = path === '/' ? new URL('/v1/traces', url).href : url;
  return new OTLPTraceExporter({ url: traces, timeoutMillis: requestMs });
}

/** Counts what became of the spans that were handed over. */
class CountingExporter implements tracing.SpanExporter {
  exported = 0;
  failed = 0;
  readonly #inner: tracing.SpanExporter;
  readonly #losing: (isLosing: boolean, why: string) => void;
  #isLosing = false;

  constructor(inner: tracing.SpanExporter, losing: (isLosing: boolean, why: string) => void) {
    this.#inner = inner;
    this.#losing = losing;
  }

  export(spans: ReadableSpan[], done: Parameters<tracing.SpanExporter['export']>[1]): void {
    this.#inner.export(spans, (result) => {
      if (result.code === 0) this.exported += spans.length;
      else this.failed += spans.length;
      this.lose(result.code !== 0, result.error?.message ?? 'the collector refused');
      done(result);
    });
  }

  lose(isLosing: boolean, why: string): void {
    if (isLosing !== this.#isLosing) this.#losing(isLosing, why);
    this.#isLosing = isLosing;
  }

  shutdown(): Promise<void> {
    return this.#inner.shutdown();
  }
}

class BatchExporter implements SpanExporter {
  readonly #counting: CountingExporter;
  readonly #processor: tracing.BatchSpanProcessor;
  readonly #clock: Clock;
  readonly #readable: (span: Span) => ReadableSpan;
  #passed = 0;
  #refused = 0;

  constructor(
    counting: CountingExporter,
    processor: tracing.BatchSpanProcessor,
    clock: Clock,
    readableOf: (span: Span) => ReadableSpan,
  ) {
    this.#counting = counting;
    this.#processor = processor;
    this.#clock = clock;
    this.#readable = readableOf;
  }

  record(span: Span): void {
    if (this.#queued >= exportQueueMax) {
      this.#refused += 1;
      this.#counting.lose(true, `${exportQueueMax} spans wait for the collector`);
      return;
    }
    this.#passed += 1;
    this.#processor.onEnd(this.#readable(span));
  }

  get meter() {
    const { exported, failed } = this.#counting;
    const dropped = failed + this.#refused;
    return { exported, dropped, queued: this.#queued, limit: exportQueueMax };
  }

  get #queued(): number {
    return this.#passed - this.#counting.exported - this.#counting.failed;
  }

  async close(): Promise<void> {
    // What the collector doesn't take now is lost: the process ends.
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(closeMs, resolve);
      const done = (): void => {
        cancel();
        resolve();
      };
      this.#processor.shutdown().then(done, done);
    });
  }
}

/** Our span as the SDK's processors and exporters read it: made once it is over, by no tracer. */
function readable(
  span: Span,
  resource: ReadableSpan['resource'],
  instrumentationScope: ReadableSpan['instrumentationScope'],
): ReadableSpan {
  const { traceId, spanId, parentId, startUs, endUs, error } = span;
  const context = { traceId, spanId, traceFlags: 1 };
  return {
    name: span.name,
    // OTLP counts from 1 (internal), the API from 0.
    kind: Math.max(0, span.kind - 1),
    spanContext: () => context,
    ...(parentId === '' ? {} : { parentSpanContext: { traceId, spanId: parentId, traceFlags: 1 } }),
    startTime: hrTime(startUs),
    endTime: hrTime(endUs),
    duration: hrTime(endUs - startUs),
    status: error === '' ? unset : { code: 2, message: error },
    attributes: span.attributes ?? {},
    links: span.links.map((link) => ({ context: { ...link, traceFlags: 1 } })),
    events: [],
    ended: true,
    resource,
    instrumentationScope,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

const unset = { code: 0 } as const;

/** Seconds and nanoseconds. */
function hrTime(micros: number): [number, number] {
  const seconds = Math.floor(micros / 1_000_000);
  return [seconds, Math.round((micros - seconds * 1_000_000) * 1_000)];
}

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
const batchMax = 256;
const delayMs = 200;
/** Milliseconds that the collector may take for one request. */
const requestMs = 5_000;
/** Milliseconds that the last spans may take when the process ends. */
const closeMs = 2_000;
/** Milliseconds without a loss after which the collector counts as well again. */
const calmMs = 5_000;

/**
 * Exports to the collector. OpenTelemetry's SDK is loaded when `begin` is called, as that takes a tenth of a
 * second of CPU: until then spans wait, within the same bound.
 */
export class DeferredExporter implements SpanExporter {
  readonly #options: ExporterOptions;
  #waiting: Span[] = [];
  #refused = 0;
  #inner: SpanExporter | undefined;
  #loading: Promise<void> | undefined;

  constructor(options: ExporterOptions) {
    this.#options = options;
  }

  begin(): Promise<void> {
    this.#loading ??= startExporter(this.#options).then((inner) => {
      this.#inner = inner;
      for (const span of this.#waiting.splice(0)) inner.record(span);
    });
    return this.#loading;
  }

  record(span: Span): void {
    if (this.#inner !== undefined) this.#inner.record(span);
    else if (this.#waiting.length < exportQueueMax) this.#waiting.push(span);
    else this.#refused += 1;
  }

  get meter() {
    const inner = this.#inner?.meter;
    return {
      exported: inner?.exported ?? 0,
      dropped: (inner?.dropped ?? 0) + this.#refused,
      queued: inner?.queued ?? this.#waiting.length,
      limit: exportQueueMax,
    };
  }

  async close(): Promise<void> {
    await this.begin();
    await this.#inner?.close();
  }
}

async function startExporter(options: ExporterOptions): Promise<SpanExporter> {
  const { tracing, resources } = await import('@opentelemetry/sdk-node');
  const { service, instance } = options.own;
  const resource = resources.resourceFromAttributes({
    'service.name': service,
    'service.instance.id': instance,
    'service.version': options.version,
    'service.namespace': 'keychaindb',
  });
  const counting = new CountingExporter(await innerExporter(options), options);
  const processor = new tracing.BatchSpanProcessor(counting, {
    // The bound is ours, so that what is lost is counted.
    maxQueueSize: 2 * exportQueueMax,
    maxExportBatchSize: batchMax,
    scheduledDelayMillis: delayMs,
    exportTimeoutMillis: 2 * requestMs,
  });
  const scope = { name: 'keychaindb', version: options.version };
  // Its parent is undefined at a root, which the SDK's own spans have as well.
  const wrap = (span: Span) => new EndedSpan(span, resource, scope) as ReadableSpan;
  return new BatchExporter(counting, processor, options.clock, wrap);
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
  readonly #clock: Clock;
  #isLosing = false;
  #lostAt = 0;

  constructor(inner: tracing.SpanExporter, { losing, clock }: ExporterOptions) {
    this.#inner = inner;
    this.#losing = losing;
    this.#clock = clock;
  }

  export(spans: ReadableSpan[], done: Parameters<tracing.SpanExporter['export']>[1]): void {
    this.#inner.export(spans, (result) => {
      if (result.code === 0) this.exported += spans.length;
      else this.failed += spans.length;
      this.lose(result.code !== 0, result.error?.message ?? 'the collector refused');
      done(result);
    });
  }

  /** Says it once, and once more when for a while nothing was lost. */
  lose(isLosing: boolean, why: string): void {
    const now = this.#clock.monotonic();
    if (isLosing) this.#lostAt = now;
    else if (now - this.#lostAt < calmMs) return;
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

/**
 * Our span as the SDK's processors and exporters read it: made once it is over, by no tracer. What they ask for
 * is made when they ask, so that a span that waits is small.
 */
class EndedSpan implements Omit<ReadableSpan, 'parentSpanContext'> {
  readonly resource: ReadableSpan['resource'];
  readonly instrumentationScope: ReadableSpan['instrumentationScope'];
  readonly ended = true;
  readonly events = nothing;
  readonly droppedAttributesCount = 0;
  readonly droppedEventsCount = 0;
  readonly droppedLinksCount = 0;
  readonly #span: Span;

  constructor(
    span: Span,
    resource: ReadableSpan['resource'],
    instrumentationScope: ReadableSpan['instrumentationScope'],
  ) {
    this.#span = span;
    this.resource = resource;
    this.instrumentationScope = instrumentationScope;
  }

  spanContext() {
    const { traceId, spanId } = this.#span;
    return { traceId, spanId, traceFlags: 1 };
  }

  get parentSpanContext() {
    const { traceId, parentId } = this.#span;
    return parentId === '' ? undefined : { traceId, spanId: parentId, traceFlags: 1 };
  }

  get name(): string {
    return this.#span.name;
  }

  /** OTLP counts from 1 (internal), the API from 0. */
  get kind(): number {
    return Math.max(0, this.#span.kind - 1);
  }

  get startTime(): [number, number] {
    return hrTime(this.#span.startUs);
  }

  get endTime(): [number, number] {
    return hrTime(this.#span.endUs);
  }

  get duration(): [number, number] {
    return hrTime(this.#span.endUs - this.#span.startUs);
  }

  get status() {
    return this.#span.error === '' ? unset : { code: 2, message: this.#span.error };
  }

  get attributes() {
    return this.#span.attributes ?? {};
  }

  get links() {
    return this.#span.links.map((link) => ({ context: { ...link, traceFlags: 1 } }));
  }
}

const nothing: ReadableSpan['events'] = [];
const unset = { code: 0 } as const;

/** Seconds and nanoseconds. */
function hrTime(micros: number): [number, number] {
  const seconds = Math.floor(micros / 1_000_000);
  return [seconds, Math.round((micros - seconds * 1_000_000) * 1_000)];
}

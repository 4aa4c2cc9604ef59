import type { tracing } from '@opentelemetry/sdk-node';
import type { Clock } from '../base/clock.js';
import { endedSpan, type ReadableSpan, resourceOf } from './ended-span.js';
import type { Instance, Span } from './span.js';
import type { SpanExporter } from './traces.js';

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

/** What is loaded only where spans go out. */
interface Sdk {
  readonly processor: tracing.BatchSpanProcessor;
  readonly wrap: (span: Span) => ReadableSpan;
}

/**
 * Exports to the collector. OpenTelemetry's SDK is loaded when `begin` is called, as that takes a tenth of a
 * second of CPU: until then spans wait, within the one bound.
 */
export class CollectorExporter implements SpanExporter {
  readonly #options: ExporterOptions;
  /** Until the SDK is there. */
  readonly #waiting: Span[] = [];
  #sdk: Sdk | undefined;
  #loading: Promise<void> | undefined;
  #taken = 0;
  #exported = 0;
  #failed = 0;
  #refused = 0;
  #isLosing = false;
  #lostAt = 0;

  constructor(options: ExporterOptions) {
    this.#options = options;
  }

  begin(): Promise<void> {
    this.#loading ??= loadSdk(this.#options, (count, failure) => this.#sent(count, failure)).then(
      (sdk) => {
        this.#sdk = sdk;
        for (const span of this.#waiting.splice(0)) sdk.processor.onEnd(sdk.wrap(span));
      },
    );
    return this.#loading;
  }

  record(span: Span): void {
    if (this.#queued >= exportQueueMax) {
      this.#refused += 1;
      this.#lose(`${exportQueueMax} spans wait for the collector`);
      return;
    }
    this.#taken += 1;
    if (this.#sdk === undefined) this.#waiting.push(span);
    else this.#sdk.processor.onEnd(this.#sdk.wrap(span));
  }

  get meter() {
    const dropped = this.#failed + this.#refused;
    return { exported: this.#exported, dropped, queued: this.#queued, limit: exportQueueMax };
  }

  async close(): Promise<void> {
    await this.begin();
    // What the collector doesn't take now is lost: the process ends.
    await new Promise<void>((resolve) => {
      const cancel = this.#options.clock.after(closeMs, resolve);
      const done = (): void => {
        cancel();
        resolve();
      };
      this.#sdk?.processor.shutdown().then(done, done);
    });
  }

  get #queued(): number {
    return this.#taken - this.#exported - this.#failed;
  }

  #sent(count: number, failure: string | undefined): void {
    if (failure === undefined) {
      this.#exported += count;
      const isCalm = this.#options.clock.monotonic() - this.#lostAt >= calmMs;
      if (this.#isLosing && isCalm) {
        this.#isLosing = false;
        this.#options.losing(false, '');
      }
    } else {
      this.#failed += count;
      this.#lose(failure);
    }
  }

  /** Says it once; `#sent` once more when for a while nothing was lost. */
  #lose(why: string): void {
    this.#lostAt = this.#options.clock.monotonic();
    if (!this.#isLosing) this.#options.losing(true, why);
    this.#isLosing = true;
  }
}

/** @param sent told what became of each request: the spans in it, and why they are lost */
async function loadSdk(
  options: ExporterOptions,
  sent: (count: number, failure: string | undefined) => void,
): Promise<Sdk> {
  const { tracing, resources } = await import('@opentelemetry/sdk-node');
  const resource = resources.resourceFromAttributes(resourceOf(options.own, options.version));
  const inner = await innerExporter(options);
  const counting: tracing.SpanExporter = {
    export: (spans, done) =>
      inner.export(spans, (result) => {
        const isTaken = result.code === 0;
        sent(
          spans.length,
          isTaken ? undefined : (result.error?.message ?? 'the collector refused'),
        );
        done(result);
      }),
    shutdown: () => inner.shutdown(),
  };
  const processor = new tracing.BatchSpanProcessor(counting, {
    // The bound is ours, so that what is lost is counted.
    maxQueueSize: 2 * exportQueueMax,
    maxExportBatchSize: batchMax,
    scheduledDelayMillis: delayMs,
    exportTimeoutMillis: 2 * requestMs,
  });
  const scope = { name: 'keychaindb', version: options.version };
  return { processor, wrap: (span) => endedSpan(span, resource, scope) };
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

import type { Instance, Span, SpanSink } from './span.js';

/** Spans that a process remembers for `keychaindb trace`. */
export const rememberedSpansMax = 8_192;

/** Where finished spans go out of the process. */
export interface SpanExporter extends SpanSink {
  readonly meter: ExportMeter;
  /** Sends what waits; gives up after a while. */
  close(): Promise<void>;
}

export interface ExportMeter {
  readonly exported: number;
  /** Lost: the queue was full, or the collector refused or didn't answer. */
  readonly dropped: number;
  /** Waiting, those on their way included. */
  readonly queued: number;
  readonly limit: number;
}

const nothing: ExportMeter = { exported: 0, dropped: 0, queued: 0, limit: 0 };

/** The spans of one process: the newest are remembered, all are exported where there is an exporter. */
export class Traces implements SpanSink {
  readonly own: Instance;
  recorded = 0;
  readonly #exporter: SpanExporter | undefined;
  readonly #remembered: Span[] = [];
  #next = 0;

  constructor(own: Instance, exporter?: SpanExporter) {
    this.own = own;
    this.#exporter = exporter;
  }

  record(span: Span): void {
    this.recorded += 1;
    this.#remembered[this.#next] = span;
    this.#next = (this.#next + 1) % rememberedSpansMax;
    this.#exporter?.record(span);
  }

  /** What is remembered of a trace, in the order in which it came. */
  spansOf(traceId: string): readonly Span[] {
    const inOrder = [
      ...this.#remembered.slice(this.#next),
      ...this.#remembered.slice(0, this.#next),
    ];
    return inOrder.filter((span) => span.traceId === traceId);
  }

  get exports(): ExportMeter {
    return this.#exporter?.meter ?? nothing;
  }

  async close(): Promise<void> {
    await this.#exporter?.close();
  }
}

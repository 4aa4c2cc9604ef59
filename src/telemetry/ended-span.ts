import type { tracing } from '@opentelemetry/sdk-node';
import type { Instance, Span } from './span.js';

export type ReadableSpan = tracing.ReadableSpan;

/** Who recorded a span, as OpenTelemetry's resources name it. */
export function resourceOf({ service, instance }: Instance, version: string) {
  return {
    'service.name': service,
    'service.instance.id': instance,
    'service.version': version,
    'service.namespace': 'keychaindb',
  };
}

/** @param scope which program made it */
export function endedSpan(
  span: Span,
  resource: ReadableSpan['resource'],
  scope: ReadableSpan['instrumentationScope'],
): ReadableSpan {
  // Its parent is undefined at a root, which the SDK's own spans have as well.
  return new EndedSpan(span, resource, scope) as ReadableSpan;
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

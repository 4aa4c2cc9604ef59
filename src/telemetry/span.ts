import type { Span, SpanKind, SpanLink } from '../gen/keychaindb/v1/telemetry.js';

export { type Span, SpanKind, type SpanLink } from '../gen/keychaindb/v1/telemetry.js';

/** Takes finished spans. Called on the data path: it must be quick and never throws. */
export interface SpanSink {
  record(span: Span): void;
}

/** Who a process is: `service.name` and `service.instance.id`. */
export interface Instance {
  readonly service: string;
  readonly instance: string;
}

export type Attributes = Readonly<Record<string, string | number | boolean>>;

/** What a span needs besides what it mostly doesn't have. */
export interface SpanFacts {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly name: string;
  readonly kind: SpanKind;
  /** Microseconds since 1970. */
  readonly startUs: number;
  readonly endUs: number;
  readonly attributes: Attributes;
  readonly links?: readonly SpanLink[];
  readonly error?: string;
}

/** A span ends no sooner than it began, whatever clocks say. */
export function spanOf({ service, instance }: Instance, facts: SpanFacts): Span {
  const { traceId, spanId, parentId, name, kind, startUs, attributes } = facts;
  return {
    traceId,
    spanId,
    parentId,
    name,
    kind,
    service,
    instance,
    startUs,
    endUs: Math.max(startUs, facts.endUs),
    attributes,
    links: facts.links ?? noLinks,
    error: facts.error ?? '',
  };
}

const noLinks: readonly SpanLink[] = [];

/** How every span says where in the chain its node stood. */
export function placeAttributes(place: {
  readonly epoch: number;
  readonly position: number;
  readonly role: string;
}): Attributes {
  return {
    'keychaindb.epoch': place.epoch,
    'keychaindb.position': place.position,
    'keychaindb.role': place.role,
  };
}

import { type Span, SpanKind } from './span.js';

/** A file that Jaeger's page takes under "JSON file" (its own format, not OTLP). */
export function jaegerJson(all: readonly Span[]): string {
  // By time, each once: the file doesn't tell in which order processes answered.
  const spans = [...new Map(all.map((span) => [`${span.traceId}/${span.spanId}`, span])).values()];
  spans.sort(
    (a, b) => a.startUs - b.startUs || compare(a.name, b.name) || compare(a.spanId, b.spanId),
  );
  const ids = [...new Set(spans.map(({ traceId }) => traceId))];
  const data = ids.map((traceId) =>
    traceOf(
      traceId,
      spans.filter((span) => span.traceId === traceId),
    ),
  );
  return `${JSON.stringify({ data }, undefined, 2)}\n`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function traceOf(traceID: string, spans: readonly Span[]): object {
  const processes = new Map<string, { readonly id: string; readonly span: Span }>();
  for (const span of spans) {
    const name = `${span.service}/${span.instance}`;
    if (!processes.has(name)) processes.set(name, { id: `p${processes.size + 1}`, span });
  }
  return {
    traceID,
    spans: spans.map((span) => ({
      traceID,
      spanID: span.spanId,
      operationName: span.name,
      references: referencesOf(span),
      startTime: Math.round(span.startUs),
      duration: Math.max(0, Math.round(span.endUs - span.startUs)),
      tags: tagsOf(span),
      logs: [],
      processID: processes.get(`${span.service}/${span.instance}`)?.id ?? '',
      warnings: null,
    })),
    processes: Object.fromEntries(
      [...processes.values()].map(({ id, span }) => [
        id,
        {
          serviceName: span.service,
          tags: [tag('service.instance.id', span.instance)],
        },
      ]),
    ),
  };
}

function referencesOf({ traceId, parentId, links }: Span): readonly object[] {
  const parent = { refType: 'CHILD_OF', traceID: traceId, spanID: parentId };
  const linked = links.map((link) => ({
    refType: 'FOLLOWS_FROM',
    traceID: link.traceId,
    spanID: link.spanId,
  }));
  return parentId === '' ? linked : [parent, ...linked];
}

const kinds: ReadonlyMap<number, string> = new Map(
  Object.entries(SpanKind).map(([name, value]) => [value, name.toLowerCase()]),
);

function tagsOf({ kind, attributes, error }: Span): readonly object[] {
  const failed = [
    tag('error', true),
    tag('otel.status_code', 'ERROR'),
    tag('otel.status_description', error),
  ];
  return [
    ...(kind === SpanKind.UNSPECIFIED ? [] : [tag('span.kind', kinds.get(kind) ?? '')]),
    ...Object.entries(attributes ?? {}).map(([key, value]) => tag(key, value)),
    ...(error === '' ? [] : failed),
  ];
}

function tag(key: string, value: unknown): object {
  if (typeof value === 'boolean') return { key, type: 'bool', value };
  if (typeof value === 'object') return { key, type: 'string', value: JSON.stringify(value) };
  // JSON has no NaN and no infinity.
  if (!Number.isFinite(value)) return { key, type: 'string', value: String(value) };
  return { key, type: Number.isSafeInteger(value) ? 'int64' : 'float64', value };
}

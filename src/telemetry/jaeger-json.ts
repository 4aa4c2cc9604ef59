import { type Span, SpanKind } from './span.js';

/** A file that Jaeger's page takes under "JSON file" (its own format, not OTLP). */
export function jaegerJson(spans: readonly Span[]): string {
  const ids = [...new Set(spans.map(({ traceId }) => traceId))];
  const data = ids.map((traceId) =>
    traceOf(
      traceId,
      spans.filter((span) => span.traceId === traceId),
    ),
  );
  return `${JSON.stringify({ data }, undefined, 2)}\n`;
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
    tag('span.kind', kinds.get(kind) ?? ''),
    ...Object.entries(attributes ?? {}).map(([key, value]) => tag(key, value)),
    ...(error === '' ? [] : failed),
  ];
}

function tag(key: string, value: unknown): object {
  if (typeof value === 'boolean') return { key, type: 'bool', value };
  if (typeof value !== 'number') return { key, type: 'string', value: String(value) };
  return { key, type: Number.isSafeInteger(value) ? 'int64' : 'float64', value };
}

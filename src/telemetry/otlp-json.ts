import { noBytes } from '../base/bytes.js';
import { endedSpan, type ReadableSpan, resourceOf } from './ended-span.js';
import type { Span } from './span.js';

/** One ExportTraceServiceRequest in OTLP's JSON encoding: what a collector takes at /v1/traces. */
export async function otlpJson(spans: readonly Span[], version: string): Promise<string> {
  const { resources } = await import('@opentelemetry/sdk-node');
  const { JsonTraceSerializer } = await import('@opentelemetry/otlp-transformer');
  const scope = { name: 'keychaindb', version };
  const known = new Map<string, ReadableSpan['resource']>();
  const ended = spans.map((span) => {
    const name = `${span.service}/${span.instance}`;
    const resource = known.get(name) ?? resources.resourceFromAttributes(resourceOf(span, version));
    known.set(name, resource);
    return endedSpan(span, resource, scope);
  });
  const bytes = JsonTraceSerializer.serializeRequest(ended) ?? noBytes;
  return `${new TextDecoder().decode(bytes)}\n`;
}

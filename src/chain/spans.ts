import { assert } from '../base/assert.js';
import type { EntryId, LogSpan } from '../gen/keychaindb/v1/log.js';

/**
 * Which generation each revision of a log has: a run for each epoch in which something was written, as an entry's generation is
 * the epoch that its head served in. Equal (generation, index) at two nodes means equal logs up to it (log matching), so this
 * is all that finding the last common entry needs.
 */
export type Spans = readonly LogSpan[];

export function holds(spans: Spans, id: EntryId): boolean {
  if (id.index === 0) return id.generation === 0;
  const span = spans.findLast((s) => s.first <= id.index && id.index <= s.last);
  return span !== undefined && span.generation === id.generation;
}

/** The id of the entry at an index that the log holds. */
export function idAt(spans: Spans, index: number): EntryId {
  if (index === 0) return { generation: 0, index: 0 };
  const span = spans.findLast((s) => s.first <= index && index <= s.last);
  assert(span !== undefined, 'the log has no such index', { index, spans });
  return { generation: span.generation, index };
}

/** The spans after a block of one generation. */
export function extended(spans: Spans, generation: number, first: number, last: number): Spans {
  const end = spans.at(-1);
  if (end === undefined || end.generation !== generation) {
    assert(end === undefined || end.generation < generation, 'generations rise', {
      end,
      generation,
    });
    return [...spans, { generation, first, last }];
  }
  assert(end.last + 1 === first, 'a block follows the one before', { end, first });
  return [...spans.slice(0, -1), { ...end, last }];
}

export function cutAfter(spans: Spans, index: number): Spans {
  return spans
    .filter((s) => s.first <= index)
    .map((s) => (s.last > index ? { ...s, last: index } : s));
}

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

/** A block of one generation follows. In place: there may be thousands of spans, and a block every millisecond. */
export function extend(spans: LogSpan[], generation: number, first: number, last: number): void {
  const end = spans.at(-1);
  if (end === undefined || end.generation !== generation) {
    assert(end === undefined || end.generation < generation, 'generations rise', {
      end,
      generation,
    });
    spans.push({ generation, first, last });
    return;
  }
  assert(end.last + 1 === first, 'a block follows the one before', { end, first });
  spans[spans.length - 1] = { ...end, last };
}

/** Does a span begin with this entry? */
export function beginsAt(spans: Spans, index: number): boolean {
  return spans.findLast((s) => s.first <= index)?.first === index;
}

export function cutAfter(spans: Spans, index: number): LogSpan[] {
  return spans
    .filter((s) => s.first <= index)
    .map((s) => (s.last > index ? { ...s, last: index } : s));
}

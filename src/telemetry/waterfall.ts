import { columnsIn, cut, padded, plain } from '../base/terminal-text.js';
import type { Span } from './span.js';

export interface WaterfallOptions {
  /** Columns; at least 60 are used. No line is wider. */
  readonly width: number;
  /** Say what the spans say, behind the bars, as far as there is room. */
  readonly attributes?: boolean;
}

const widthMin = 60;
/** Columns of the bars at least. */
const barMin = 12;
const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** Draws spans for a terminal: each trace by itself, children below their parent, bars to scale. */
export function waterfall(spans: readonly Span[], options: WaterfallOptions): string {
  const traces = new Map<string, Span[]>();
  for (const span of spans) {
    const trace = traces.get(span.traceId);
    if (trace === undefined) traces.set(span.traceId, [span]);
    else trace.push(span);
  }
  return [...traces].map(([id, trace]) => drawTrace(id, trace, options)).join('\n');
}

interface Row {
  readonly tree: string;
  readonly instance: string;
  readonly start: string;
  readonly length: string;
  readonly note: string;
  readonly span: Span;
}

/** Microseconds since 1970: what the bars are scaled over. */
interface Extent {
  readonly from: number;
  readonly to: number;
}

function drawTrace(id: string, all: readonly Span[], options: WaterfallOptions): string {
  const spans = [...new Map(all.map((span) => [span.spanId, span])).values()];
  const from = least(spans.map(({ startUs }) => startUs));
  const extent = { from, to: most(spans.map((span) => Math.max(span.startUs, span.endUs))) };
  const width = Math.max(widthMin, Math.floor(options.width));
  const rows = ordered(spans, width).map(({ tree, span }) => ({
    tree,
    instance: plain(span.instance),
    start: `+${timeOf(span.startUs - from)}`,
    length: timeOf(span.endUs - span.startUs),
    note: noteOf(span, options.attributes === true),
    span,
  }));
  const columns = columnsOf(rows, width);
  const lines = rows.map((row) => cut(drawRow(row, columns, extent), width).trimEnd());
  return [titleOf(plain(id), spans, extent, width), ...lines, ''].join('\n');
}

/** The id gives way where there is no room for what is said of the trace. */
function titleOf(id: string, spans: readonly Span[], { from, to }: Extent, width: number): string {
  const instances = new Set(spans.map(({ instance }) => instance)).size;
  const size = `${counted(spans.length, 'span')} of ${counted(instances, 'process', 'es')}`;
  const facts = `  ${timeOf(to - from)}, ${size}`;
  return cut(`trace ${cut(id, Math.max(8, width - 6 - facts.length))}${facts}`, width);
}

function counted(count: number, name: string, plural = 's'): string {
  return `${count} ${name}${count === 1 ? '' : plural}`;
}

/** Depth first; who has no parent here is a root. Every span once, whatever the parents say. */
function ordered(spans: readonly Span[], width: number): readonly Pick<Row, 'tree' | 'span'>[] {
  const byTime = [...spans].sort(
    (a, b) => a.startUs - b.startUs || compare(a.name, b.name) || compare(a.spanId, b.spanId),
  );
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const children = new Map<string, Span[]>();
  const roots: Span[] = [];
  for (const span of byTime) {
    const siblings = children.get(span.parentId);
    if (span.parentId === '' || !ids.has(span.parentId)) roots.push(span);
    else if (siblings === undefined) children.set(span.parentId, [span]);
    else siblings.push(span);
  }
  const rows: Pick<Row, 'tree' | 'span'>[] = [];
  const drawn = new Set<string>();
  // A stack, not recursion: a chain of parents may be as long as the list.
  const draw = (root: Span): void => {
    const waiting = [{ span: root, branch: '', guide: '' }];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { span, branch, guide } = next;
      drawn.add(span.spanId);
      rows.push({ tree: `${branch}${plain(span.name)}`, span });
      // Nothing is seen of a guide beyond the line.
      const indent = guide.slice(0, width);
      // Only where a ring closes is a child drawn already.
      const own = (children.get(span.spanId) ?? []).filter(({ spanId }) => !drawn.has(spanId));
      for (const [index, child] of [...own.entries()].reverse()) {
        const isLast = index === own.length - 1;
        waiting.push({
          span: child,
          branch: `${indent}${isLast ? '└─ ' : '├─ '}`,
          guide: `${indent}${isLast ? '   ' : '│  '}`,
        });
      }
    }
  };
  for (const root of roots) draw(root);
  // Spans that are each other's ancestors have no root: each ring is entered where it began.
  for (const span of byTime) if (!drawn.has(span.spanId)) draw(span);
  return rows;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface Columns {
  readonly tree: number;
  readonly instance: number;
  readonly start: number;
  readonly length: number;
  readonly bar: number;
}

function columnsOf(rows: readonly Row[], line: number): Columns {
  const widest = (of: (row: Row) => string): number => most(rows.map((row) => columnsIn(of(row))));
  const start = widest((row) => row.start);
  const length = widest((row) => row.length);
  const instance = Math.min(Math.floor(line / 6), 16, widest(instanceOf));
  const room = line - instance - start - length - 8;
  const names = widest(treeOf);
  const spare = Math.min(Math.floor(line / 2), room - names - 2 * barMin);
  const note = Math.min(widest(noteIn), Math.max(Math.floor(room / 3), spare));
  const tree = Math.max(8, Math.min(names, room - barMin - note));
  return { tree, instance, start, length, bar: Math.max(1, room - tree - note) };
}

const instanceOf = ({ instance }: Row): string => instance;
const noteIn = ({ note }: Row): string => note;
const treeOf = ({ tree }: Row): string => tree;

function drawRow(row: Row, columns: Columns, extent: Extent): string {
  const cells = [
    padded(row.tree, columns.tree),
    padded(row.instance, columns.instance),
    row.start.padStart(columns.start),
    row.length.padStart(columns.length),
    bar(row.span, columns.bar, extent),
  ];
  return `${cells.join('  ')}${row.note}`;
}

/** What stands behind a bar: the error first, it is cut last. */
function noteOf({ error, attributes }: Span, isWhole: boolean): string {
  const pairs = Object.entries((isWhole ? attributes : undefined) ?? {}).map(
    ([key, value]) => `${key.replace(/^keychaindb\./, '')}=${said(value)}`,
  );
  const parts = [...(error === '' ? [] : [`✗ ${error}`]), ...pairs];
  return parts.length === 0 ? '' : `  ${plain(parts.join(' '))}`;
}

function said(value: unknown): string {
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function least(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function most(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}

/** Block characters, to an eighth of a column at the end; something is seen of the shortest span. */
function bar(span: Span, width: number, { from, to }: Extent): string {
  const scale = to > from ? width / (to - from) : 0;
  const begin = Math.min(width - 1, Math.max(0, Math.floor((span.startUs - from) * scale)));
  const end = Math.min(width, Math.max(begin, (span.endUs - from) * scale));
  const whole = Math.floor(end - begin);
  const rest = eighths[Math.floor((end - begin - whole) * 8)] ?? '';
  const drawn = '█'.repeat(whole) + rest;
  return ' '.repeat(begin) + (drawn === '' ? '▏' : drawn);
}

/** `412 µs`, `1.35 ms`, `2.04 s`. */
export function timeOf(micros: number): string {
  if (Math.abs(micros) < 999.5) return `${Math.round(micros)} µs`;
  if (Math.abs(micros) < 999_950) return `${(micros / 1_000).toFixed(2)} ms`;
  return `${(micros / 1_000_000).toFixed(2)} s`;
}

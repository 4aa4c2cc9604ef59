import type { Span } from './span.js';

export interface WaterfallOptions {
  /** Columns; at least 60 are used. */
  readonly width: number;
  /** Say what the spans say, behind the bars. */
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
  readonly span: Span;
}

function drawTrace(id: string, all: readonly Span[], options: WaterfallOptions): string {
  const spans = [...new Map(all.map((span) => [span.spanId, span])).values()];
  const from = Math.min(...spans.map(({ startUs }) => startUs));
  const to = Math.max(...spans.map(({ endUs }) => endUs));
  const rows = rowsOf(spans);
  const columns = columnsOf(rows, from, Math.max(widthMin, options.width));
  const instances = new Set(spans.map(({ instance }) => instance)).size;
  const title = `trace ${id}  ${timeOf(to - from)}, ${spans.length} spans of ${instances} processes`;
  const lines = rows.map((row) => drawRow(row, columns, from, to, options.attributes === true));
  return [title, ...lines, ''].join('\n');
}

/** Depth first; who has no parent here is a root. Every span once, whatever the parents say. */
function rowsOf(spans: readonly Span[]): readonly Row[] {
  const ordered = [...spans].sort(
    (a, b) => a.startUs - b.startUs || compare(a.name, b.name) || compare(a.spanId, b.spanId),
  );
  const ids = new Set(spans.map(({ spanId }) => spanId));
  const children = new Map<string, Span[]>();
  const roots: Span[] = [];
  for (const span of ordered) {
    if (!ids.has(span.parentId) || span.parentId === span.spanId) roots.push(span);
    else children.set(span.parentId, [...(children.get(span.parentId) ?? []), span]);
  }
  const rows: Row[] = [];
  const drawn = new Set<string>();
  const draw = (span: Span, guide: string, branch: string, below: string): void => {
    if (drawn.has(span.spanId)) return;
    drawn.add(span.spanId);
    rows.push({ tree: `${guide}${branch}${span.name}`, span });
    const own = children.get(span.spanId) ?? [];
    own.forEach((child, index) => {
      const isLast = index === own.length - 1;
      draw(child, guide + below, isLast ? '└─ ' : '├─ ', isLast ? '   ' : '│  ');
    });
  };
  for (const root of roots) draw(root, '', '', '');
  // Spans that are each other's ancestors have no root: each ring is entered where it began.
  for (const span of ordered) draw(span, '', '', '');
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

function columnsOf(rows: readonly Row[], from: number, width: number): Columns {
  const widest = (of: (row: Row) => string): number =>
    Math.max(...rows.map((row) => [...of(row)].length));
  const start = widest(({ span }) => `+${timeOf(span.startUs - from)}`);
  const length = widest(({ span }) => timeOf(span.endUs - span.startUs));
  const instance = Math.min(
    16,
    widest(({ span }) => span.instance),
  );
  const fixed = instance + start + length + 8;
  const tree = Math.max(
    8,
    Math.min(
      widest(({ tree: text }) => text),
      width - fixed - barMin,
    ),
  );
  return { tree, instance, start, length, bar: Math.max(1, width - fixed - tree) };
}

function drawRow(
  { tree, span }: Row,
  columns: Columns,
  from: number,
  to: number,
  attributes: boolean,
): string {
  const start = `+${timeOf(span.startUs - from)}`;
  const length = timeOf(span.endUs - span.startUs);
  const cells = [
    padded(tree, columns.tree),
    padded(span.instance, columns.instance),
    start.padStart(columns.start),
    length.padStart(columns.length),
    bar(span, columns.bar, from, to),
  ];
  const said = attributes ? saying(span) : '';
  const error = span.error === '' ? '' : `  ✗ ${span.error}`;
  return `${cells.join('  ')}${error}${said}`.trimEnd();
}

function saying(span: Span): string {
  const pairs = Object.entries(span.attributes ?? {}).map(
    ([key, value]) => `${key.replace(/^keychaindb\./, '')}=${String(value)}`,
  );
  return pairs.length === 0 ? '' : `  ${pairs.join(' ')}`;
}

function padded(text: string, width: number): string {
  const chars = [...text];
  if (chars.length <= width) return text + ' '.repeat(width - chars.length);
  return `${chars.slice(0, width - 1).join('')}…`;
}

/** Block characters, to an eighth of a column at the end; something is seen of the shortest span. */
function bar(span: Span, width: number, from: number, to: number): string {
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

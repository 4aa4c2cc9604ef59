import type { Row } from './comparison.js';

/** What a part found: printed as it is, and put into the JSON. */
export interface Found {
  readonly title: string;
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes?: readonly string[];
  /** As numbers: everything. */
  readonly data: unknown;
  /** What a goal is about, by name. */
  readonly figures?: Figures;
}

export type Figures = Readonly<Record<string, number>>;

export function markdown({ title, header, rows, notes }: Found): string {
  return [
    `### ${title}`,
    '',
    tableLine(header),
    tableLine(header.map(() => '---')),
    ...rows.map(tableLine),
    ...(notes === undefined || notes.length === 0 ? [] : ['', ...notes]),
    '',
  ].join('\n');
}

function tableLine(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

/** `figure`: what a goal calls the throughput of a row to the fastest peer's, before the row's name. */
export function comparisonTable(
  title: string,
  unit: string,
  rows: readonly Row[],
  figure?: string,
): Found {
  return {
    title,
    header: [
      'system',
      `${unit}/s`,
      'to the fastest peer',
      'server CPU',
      'of it',
      'CPU to the peer',
      'generator CPU',
      'not OK',
    ],
    rows: rows.map((row) => [
      row.name,
      `${Math.round(row.perSecond)}`,
      ratio(row.throughputRatio),
      micros(row.cpuMicros),
      listed(row.cpuByRole),
      ratio(row.cpuRatio),
      micros(row.generatorMicros),
      listed(row.refused),
    ]),
    data: rows,
    figures: Object.fromEntries(
      rows.flatMap(({ name, throughputRatio }) =>
        figure === undefined || throughputRatio === undefined
          ? []
          : [[`${figure}: ${name}`, throughputRatio]],
      ),
    ),
  };
}

function listed(numbers: Readonly<Record<string, number>>): string {
  return Object.entries(numbers)
    .map(([name, each]) => `${name} ${Math.round(each)}`)
    .join(', ');
}

export function ratio(value: number | undefined): string {
  return value === undefined || Number.isNaN(value) ? '' : `${value.toFixed(2)}×`;
}

export function micros(value: number): string {
  return `${Math.round(value)} µs`;
}

export function ms(value: number): string {
  return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}

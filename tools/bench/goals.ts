import type { Figures, Found } from './report.js';

/** A bound on a figure of a part: at least so much, or at most. */
interface Goal {
  readonly about: string;
  readonly figure: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly unit: '×' | '%' | 'ms' | 's' | '';
}

/** What the project set out to reach, on one machine, beside etcd 3.4 as Debian builds it. */
export const goals: readonly Goal[] = [
  ['unary read through a proxy, to etcd', 'unary reads: keychaindb, proxy', 1.2],
  ['unary read at any node, to etcd', 'unary reads: keychaindb, nodes', 1.6],
  ['unary durable write through a proxy, to etcd', 'unary writes: keychaindb, proxy', 1.2],
  ["HTTP JSON read, to etcd's gateway", 'HTTP reads: keychaindb, proxy', 6],
  ["HTTP JSON write, to etcd's gateway", 'HTTP writes: keychaindb, proxy', 4],
  [
    'TypeScript client, many in flight, reads, to etcd unary',
    'client reads: keychaindb, TypeScript client',
    5,
  ],
  [
    'TypeScript client, many in flight, writes, to etcd unary',
    'client writes: keychaindb, TypeScript client',
    4,
  ],
  ['reads as the chain grows 1 → 3 → 5 → 7, of linear', 'reads, of linear', 0.95],
  [
    'reads of a key written at saturation, to reads alone (paper: 0.67)',
    'reads beside writes of the key',
    0.7,
  ],
  ['writes beside a syncing node, to without', 'writes beside a syncing node', 0.8],
].map(([about, figure, atLeast]) => ({
  about: String(about),
  figure: String(figure),
  atLeast: Number(atLeast),
  unit: '×' as const,
}));

export const limits: readonly Goal[] = [
  {
    about: 'longest write gap after SIGKILL of head, middle, tail',
    figure: 'longest write gap, ms',
    atMost: 500,
    unit: 'ms',
  },
  {
    about: 'failed reads and lost writes meanwhile',
    figure: 'failed reads and lost writes',
    atMost: 0,
    unit: '',
  },
  {
    about: 'failed with all coordinators killed',
    figure: 'failed with all coordinators dead',
    atMost: 0,
    unit: '',
  },
  {
    about: 'throughput lost to tracing at 1 %',
    figure: 'lost to tracing at 1 %',
    atMost: 0.03,
    unit: '%',
  },
  {
    about: 'throughput lost to tracing at 100 %',
    figure: 'lost to tracing at 100 %',
    atMost: 0.25,
    unit: '%',
  },
  { about: '`demo` ready', figure: 'demo ready, s', atMost: 3, unit: 's' },
  {
    about: 'processes that grow in a soak',
    figure: 'processes that grow',
    atMost: 0,
    unit: '',
  },
  {
    about: 'failed in the second after an overload',
    figure: 'failed in the second after an overload',
    atMost: 0,
    unit: '',
  },
  {
    about: 'restart with a million keys of 500 bytes',
    figure: 'seconds to restart with 1000000 keys',
    atMost: 10,
    unit: 's',
  },
];

/** Each goal beside what was reached; empty where its part did not run. */
export function goalTable(found: readonly Found[]): Found {
  const figures: Figures = Object.assign({}, ...found.map((part) => part.figures ?? {}));
  const rows = [...goals, ...limits].map((goal) => {
    const reached = figures[goal.figure];
    return { goal, reached, isMet: reached === undefined ? undefined : meets(goal, reached) };
  });
  return {
    title: 'Goals',
    header: ['', 'goal', 'reached', ''],
    rows: rows.map(({ goal, reached, isMet }) => [
      goal.about,
      goal.atLeast === undefined
        ? `≤ ${shown(goal.atMost, goal)}`
        : `≥ ${shown(goal.atLeast, goal)}`,
      reached === undefined ? 'not measured' : shown(reached, goal),
      isMet === undefined ? '' : isMet ? 'met' : 'missed',
    ]),
    data: rows.map(({ goal, reached, isMet }) => ({ ...goal, reached, isMet })),
  };
}

function meets({ atLeast, atMost }: Goal, reached: number): boolean {
  return (
    reached >= (atLeast ?? Number.NEGATIVE_INFINITY) &&
    reached <= (atMost ?? Number.POSITIVE_INFINITY)
  );
}

function shown(value: number | undefined, { unit }: Goal): string {
  if (value === undefined) return '';
  switch (unit) {
    case '×':
      return `${value.toFixed(2)}×`;
    case '%':
      return `${(value * 100).toFixed(1)} %`;
    case 'ms':
      return `${Math.round(value)} ms`;
    case 's':
      return `${value.toFixed(1)} s`;
    case '':
      return `${value}`;
  }
}

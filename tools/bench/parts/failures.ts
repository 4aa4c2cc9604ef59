import { fileURLToPath } from 'node:url';
import { Load } from '../../lab/load.js';
import { runTools } from '../generators/tool.js';
import type { Found } from '../report.js';
import type { Settings } from '../settings.js';
import { ownCluster, released } from './contenders.js';

/** Before anything is killed. */
const settleMs = 1_500;

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

const tool = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));

/** The gaps of tools/failover.ts: head, middle and tail of a chain of five are killed under load. */
export async function failover({ node }: Settings): Promise<Found> {
  const [outputs] = await runTools([[node, tool('failover.js')]]);
  const gaps = failoverGaps(outputs.join('\n'));
  return {
    title: 'SIGKILL of a node, 500 reads and 100 writes a second (tools/failover.ts)',
    header: ['killed', 'longest write gap', 'longest read gap', 'failed reads', 'stale or lost'],
    rows: gaps.map((gap) => [
      gap.position,
      `${gap.writeMs} ms`,
      `${gap.readMs} ms`,
      `${gap.failedReads}`,
      `${gap.stale}`,
    ]),
    data: gaps,
    figures: {
      'longest write gap, ms': Math.max(...gaps.map(({ writeMs }) => writeMs)),
      'failed reads and lost writes': gaps.reduce((sum, g) => sum + g.failedReads + g.stale, 0),
    },
  };
}

export interface Gap {
  readonly position: string;
  readonly writeMs: number;
  readonly readMs: number;
  readonly failedReads: number;
  readonly stale: number;
}

/** Reads what tools/failover.ts prints: the longest gaps of each position's kills, and what failed in them. */
export function failoverGaps(text: string): readonly Gap[] {
  const killed =
    /^(\w+) +killed, .*; longest gap between answered writes (\d+) ms, reads (\d+) ms$/;
  const report = /^ +\d+ reads, .* (\d+) failed reads, .* (\d+) stale or lost$/;
  const gaps: Gap[] = [];
  let [position, writeMs, readMs] = ['', 0, 0];
  for (const line of text.split('\n')) {
    const gap = killed.exec(line);
    if (gap !== null) {
      position = gap[1] ?? '';
      writeMs = Math.max(writeMs, Number(gap[2]));
      readMs = Math.max(readMs, Number(gap[3]));
    }
    const over = report.exec(line);
    if (over === null) continue;
    gaps.push({ position, writeMs, readMs, failedReads: Number(over[1]), stale: Number(over[2]) });
    [position, writeMs, readMs] = ['', 0, 0];
  }
  if (gaps.length === 0) throw new Error(`tools/failover.js printed no gap: ${text}`);
  return gaps;
}

/** All coordinators are killed under load: nothing may fail. And how long the cluster took to be ready. */
export async function coordinators(settings: Settings): Promise<Found> {
  const own = await ownCluster(settings);
  const { lab } = own;
  try {
    const load = new Load({ clients: [lab.client()], readsPerSecond: 500, writesPerSecond: 100 });
    await load.prepare();
    load.start();
    await pause(settleMs);
    for (const { id } of lab.of('coordinator')) await lab.kill(id);
    await pause(settings.seconds * 1_000);
    const report = await load.stop();
    const failed =
      report.failedReads.length + report.failedWrites.length + report.staleReads.length;
    return {
      title: 'All coordinators killed',
      header: ['', ''],
      rows: [
        ['reads, writes', `${report.reads}, ${report.writes}`],
        ['failed reads, writes', `${report.failedReads.length}, ${report.failedWrites.length}`],
        ['stale or lost', `${report.staleReads.length}`],
        ['`demo` was ready after', `${Math.round(lab.readyMs)} ms`],
      ],
      notes: [...report.staleReads, ...report.failedReads, ...report.failedWrites].slice(0, 5),
      data: { report, readyMs: lab.readyMs },
      figures: {
        'failed with all coordinators dead': failed,
        'demo ready, s': lab.readyMs / 1_000,
      },
    };
  } finally {
    await released(own);
  }
}

/** Of tools/bench/tracing-cost.ts, as it prints JSON. */
export async function tracing({ node, rounds, seconds }: Settings): Promise<Found> {
  const args = ['--json', '--rounds', `${rounds}`, '--seconds', `${seconds}`];
  const [outputs] = await runTools([[node, tool('bench/tracing-cost.js'), ...args]]);
  const { rows } = JSON.parse(outputs.join('')) as {
    readonly rows: readonly {
      readonly mode: string;
      readonly writesPerSecond: number;
      readonly throughputRatio: number;
      readonly cpuRatio: number;
    }[];
  };
  const lost = (mode: string): number =>
    1 - (rows.find((row) => row.mode === mode)?.throughputRatio ?? Number.NaN);
  return {
    title: 'What tracing costs (tools/bench/tracing-cost.ts)',
    header: ['traced', 'writes/s', 'throughput, to off', 'CPU, to off'],
    rows: rows.map((row) => [
      row.mode,
      `${row.writesPerSecond}`,
      row.throughputRatio.toFixed(3),
      row.cpuRatio.toFixed(3),
    ]),
    data: rows,
    figures: { 'lost to tracing at 1 %': lost('1 %'), 'lost to tracing at 100 %': lost('100 %') },
  };
}

/*
 * What tracing costs: clusters without a collector, with one in a hundred writes traced, and with all of them, in turn
 * within one run; writes per second and CPU of all server processes per write, and their ratios to the untraced
 * cluster of the same round. The collector is a process that looks at nothing.
 * node dist/tools/bench/tracing-cost.js [--rounds 5] [--seconds 6] [--writers 64] [--nodes 3] [--json]
 */
import { parseArgs } from 'node:util';
import { Lab } from '../lab/cluster.js';
import { cpuOf } from '../lab/usage.js';
import { median } from './median.js';
import { type Sink, startSink } from './sink.js';
import { writeFor } from './writers.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '6' },
    writers: { type: 'string', default: '64' },
    nodes: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const writers = Number(values.writers);
const warmUpMs = 12_000;

const modes = ['off', '1 %', '100 %'] as const;
type Mode = (typeof modes)[number];

interface Measured {
  readonly perSecond: number;
  /** Microseconds of CPU, over all server processes. */
  readonly cpuMicros: number;
}

const results = new Map<Mode, Measured[]>(modes.map((mode) => [mode, []]));
const sink = await startSink();
try {
  for (let round = 0; round < rounds; round += 1) {
    // Each mode is first, second and last equally often.
    for (let turn = 0; turn < modes.length; turn += 1) {
      const mode = modes[(round + turn) % modes.length] ?? 'off';
      const measured = await measure(mode, sink);
      results.get(mode)?.push(measured);
      say(`round ${round + 1}, ${mode}: ${shown(measured)}`);
    }
  }
} finally {
  await sink.kill();
}
report();

function argsOf(mode: Mode, { url }: Sink): readonly string[] {
  if (mode === 'off') return [];
  return mode === '1 %' ? ['--otlp', url, '--trace-ratio', '0.01'] : ['--otlp', url];
}

async function measure(mode: Mode, to: Sink): Promise<Measured> {
  const lab = await Lab.start({ nodes: Number(values.nodes), args: argsOf(mode, to) });
  try {
    const client = lab.client();
    await writeFor(client, warmUpMs, writers);
    const pids = lab.processes.map(({ pid }) => pid);
    const before = cpuOf(pids);
    const began = performance.now();
    const writes = await writeFor(client, seconds * 1_000, writers);
    const elapsed = (performance.now() - began) / 1_000;
    return {
      perSecond: writes / elapsed,
      cpuMicros: ((cpuOf(pids) - before) * 1_000) / writes,
    };
  } finally {
    await lab.stop();
  }
}

function report(): void {
  const off = results.get('off') ?? [];
  const rows = modes.map((mode) => {
    const own = results.get(mode) ?? [];
    const ratios = (of: (m: Measured) => number): readonly number[] =>
      own.map((measured, round) => of(measured) / of(off[round] ?? measured));
    return {
      mode,
      writesPerSecond: Math.round(median(own.map((m) => m.perSecond))),
      cpuMicrosPerWrite: Math.round(median(own.map((m) => m.cpuMicros))),
      throughputRatio: median(ratios((m) => m.perSecond)),
      cpuRatio: median(ratios((m) => m.cpuMicros)),
    };
  });
  if (values.json) {
    print(JSON.stringify({ rounds, seconds, writers, rows }));
    return;
  }
  print('| traced | writes/s | CPU per write | throughput, to off | CPU, to off |');
  print('| ------ | -------- | ------------- | ------------------ | ----------- |');
  for (const row of rows) {
    print(
      `| ${row.mode} | ${row.writesPerSecond} | ${row.cpuMicrosPerWrite} µs | ${row.throughputRatio.toFixed(3)} | ${row.cpuRatio.toFixed(3)} |`,
    );
  }
}

function shown({ perSecond, cpuMicros }: Measured): string {
  return `${Math.round(perSecond)} writes/s, ${Math.round(cpuMicros)} µs of CPU per write`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

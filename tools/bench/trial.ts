import { usage } from '../lab/usage.js';
import type { Generated, Latency } from './generators/generator.js';
import type { Counts, Door, ServerProcess } from './systems/system.js';

/** One run of a load against one door. */
export interface Trial {
  /** Answered OK by the server's own count, each second. */
  readonly perSecond: number;
  /** Microseconds of CPU for each, over all processes of the system. */
  readonly cpuMicros: number;
  readonly cpuByRole: Readonly<Record<string, number>>;
  /** Microseconds of CPU of the generator, for each. */
  readonly generatorMicros: number;
  /** Answers other than OK, by the server's count, by code. */
  readonly refused: Counts;
  readonly latency?: Latency;
  readonly readLatency?: Latency;
  readonly writeLatency?: Latency;
  readonly readsPerSecond?: number;
  readonly writesPerSecond?: number;
}

/** Runs a load once. Only what the server itself counts as OK counts, since the last `begin` where there is one. */
export async function trial(
  door: Door,
  run: (begin: () => Promise<void>) => Promise<Generated>,
): Promise<Trial> {
  let [countsBefore, cpuBefore] = [await door.counts(), cpuByRole(door.processes)];
  const generated = await run(async () => {
    [countsBefore, cpuBefore] = [await door.counts(), cpuByRole(door.processes)];
  });
  const [countsAfter, cpuAfter] = [await door.counts(), cpuByRole(door.processes)];
  const counts = difference(countsAfter, countsBefore);
  const { OK: ok = 0, ...rest } = counts;
  // A generator that ends cuts off what is in flight.
  const refused = Object.fromEntries(Object.entries(rest).filter(([code]) => !isCutOff(code)));
  if (ok === 0) throw new Error(`${door.name} answered nothing: ${JSON.stringify(refused)}`);
  const cpu = difference(cpuAfter, cpuBefore);
  const micros = Object.fromEntries(
    Object.entries(cpu).map(([role, ms]) => [role, (ms * 1_000) / ok]),
  );
  const { seconds, cpuMs, latency, readLatency, writeLatency, reads, writes } = generated;
  return {
    perSecond: ok / seconds,
    cpuMicros: Object.values(micros).reduce((sum, each) => sum + each, 0),
    cpuByRole: micros,
    generatorMicros: (cpuMs * 1_000) / ok,
    refused,
    ...(latency === undefined ? {} : { latency }),
    ...(readLatency === undefined ? {} : { readLatency }),
    ...(writeLatency === undefined ? {} : { writeLatency }),
    ...(reads === undefined ? {} : { readsPerSecond: reads / seconds }),
    ...(writes === undefined ? {} : { writesPerSecond: writes / seconds }),
  };
}

function isCutOff(code: string): boolean {
  return /^cancell?ed$/i.test(code);
}

/** Milliseconds of CPU of the processes of each role. */
export function cpuByRole(processes: readonly ServerProcess[]): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const { role, pid } of processes) sums[role] = (sums[role] ?? 0) + usage(pid).cpuMs;
  return sums;
}

/** What rose, by name. */
export function difference(
  after: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(after)
      .map(([name, value]) => [name, value - (before[name] ?? 0)] as const)
      .filter(([, value]) => value > 0),
  );
}

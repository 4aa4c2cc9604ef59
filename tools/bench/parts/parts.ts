import type { Found } from '../report.js';
import type { Settings } from '../settings.js';
import { type Contenders, contenders, stopAll } from './contenders.js';
import { coordinators, failover, tracing } from './failures.js';
import { latency } from './latency.js';
import { mixes, sizes } from './mixes.js';
import { overload } from './overload.js';
import { profile } from './profile.js';
import { restart, sync } from './returning.js';
import { scaling } from './scaling.js';
import { soak } from './soak.js';
import { client, http, reads, writes } from './throughput.js';

/** One table, or several as they are ready. */
type Several = Promise<Found> | AsyncGenerator<Found>;

/** Parts on systems that stay up for all of them. */
const shared: Readonly<Record<string, (on: Contenders, settings: Settings) => Several>> = {
  reads,
  writes,
  'http-reads': (on, settings) => http(on, settings, 'read'),
  'http-writes': (on, settings) => http(on, settings, 'write'),
  'client-reads': (on, settings) => client(on, settings, 'read'),
  'client-writes': (on, settings) => client(on, settings, 'write'),
  // What comes before has warmed the systems.
  mixes: (on, settings) => mixes(on, { ...settings, warmUps: Math.min(1, settings.warmUps) }),
  sizes: (on, settings) => sizes(on, { ...settings, warmUps: Math.min(1, settings.warmUps) }),
  latency,
};

/** Parts that start what they need. */
const alone: Readonly<Record<string, (settings: Settings) => Several>> = {
  scaling,
  failover,
  coordinators,
  tracing,
  overload,
  sync,
  restart,
  soak,
  profile,
};

/** What a run without names does: what fits into ten minutes. */
const byDefault: readonly string[] = [
  ...['reads', 'writes', 'http-reads', 'http-writes', 'client-reads', 'client-writes'],
  ...['latency', 'scaling', 'coordinators'],
];

/** All parts that a goal is of. */
const forGoals: readonly string[] = [
  ...['reads', 'writes', 'http-reads', 'http-writes', 'client-reads', 'client-writes'],
  ...['scaling', 'failover', 'coordinators', 'tracing', 'overload', 'sync', 'restart', 'soak'],
];

export const partNames: readonly string[] = [...Object.keys(shared), ...Object.keys(alone)];

/** The parts that are meant: those named (`goals`: all that a goal is of), all, or those of a default run. */
export function chosen(named: readonly string[], all: boolean): readonly string[] {
  const names = named.flatMap((name) => (name === 'goals' ? forGoals : name));
  const unknown = names.find((name) => !partNames.includes(name));
  if (unknown !== undefined) {
    throw new Error(`there is no part "${unknown}": there are ${partNames.join(', ')}`);
  }
  if (all) return partNames;
  return names.length === 0 ? byDefault : partNames.filter((name) => names.includes(name));
}

/**
 * Runs parts one after the other; those on the same systems first. One that fails leaves the others: it is told of, and
 * named in the answer.
 * @param goesOn false: nothing more is begun
 */
export async function runParts(
  names: readonly string[],
  settings: Settings,
  show: (found: Found) => void,
  goesOn: () => boolean,
): Promise<readonly string[]> {
  const failed: string[] = [];
  const showAll = async (name: string, begin: () => Several): Promise<void> => {
    if (!goesOn()) return;
    try {
      const found = begin();
      if (found instanceof Promise) show(await found);
      else for await (const each of found) show(each);
    } catch (error) {
      failed.push(name);
      settings.say(`${name} failed: ${error instanceof Error ? error.stack : String(error)}`);
    }
  };
  const together = names.filter((name) => name in shared);
  if (together.length > 0) {
    const on = await contenders(settings);
    for (const name of together) {
      const part = shared[name];
      if (part !== undefined) await showAll(name, () => part(on, settings));
    }
    await stopAll();
  }
  for (const name of names) {
    const part = alone[name];
    if (part !== undefined) await showAll(name, () => part(settings));
    // One that failed may have left its systems: they would run beside the next.
    if (failed.includes(name)) await stopAll();
  }
  return failed;
}

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
  mixes,
  sizes,
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

export const partNames: readonly string[] = [...Object.keys(shared), ...Object.keys(alone)];

/** The parts that are meant: those named, all, or those of a default run. */
export function chosen(names: readonly string[], all: boolean): readonly string[] {
  const unknown = names.find((name) => !partNames.includes(name));
  if (unknown !== undefined) {
    throw new Error(`there is no part "${unknown}": there are ${partNames.join(', ')}`);
  }
  if (all) return partNames;
  return names.length === 0 ? byDefault : partNames.filter((name) => names.includes(name));
}

/** Runs parts one after the other; those on the same systems first. */
export async function runParts(
  names: readonly string[],
  settings: Settings,
  show: (found: Found) => void,
): Promise<void> {
  const showAll = async (found: Several): Promise<void> => {
    if (found instanceof Promise) show(await found);
    else for await (const each of found) show(each);
  };
  const together = names.filter((name) => name in shared);
  if (together.length > 0) {
    const on = await contenders(settings);
    for (const name of together) {
      const part = shared[name];
      if (part !== undefined) await showAll(part(on, settings));
    }
    await stopAll();
  }
  for (const name of names) {
    const part = alone[name];
    if (part !== undefined) await showAll(part(settings));
  }
}

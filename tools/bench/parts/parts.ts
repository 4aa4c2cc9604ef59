import type { Found } from '../report.js';
import type { Settings } from '../settings.js';
import { type Contenders, contenders, stopAll } from './contenders.js';
import { client, http, reads, writes } from './throughput.js';

/** A part that runs on systems that stay up for all such parts. */
type Shared = (on: Contenders, settings: Settings) => Promise<Found>;

const shared: Readonly<Record<string, Shared>> = {
  reads,
  writes,
  'http-reads': (on, settings) => http(on, settings, 'read'),
  'http-writes': (on, settings) => http(on, settings, 'write'),
  'client-reads': (on, settings) => client(on, settings, 'read'),
  'client-writes': (on, settings) => client(on, settings, 'write'),
};

export const partNames: readonly string[] = Object.keys(shared);

/** Runs the named parts, or those of a default run, one after the other. */
export async function parts(
  names: readonly string[],
  settings: Settings,
  show: (found: Found) => void,
): Promise<void> {
  const wanted = names.length === 0 ? partNames : names;
  for (const name of wanted) {
    if (!partNames.includes(name)) {
      throw new Error(`there is no part "${name}": there are ${partNames.join(', ')}`);
    }
  }
  const together = wanted.filter((name) => name in shared);
  if (together.length > 0) {
    const on = await contenders(settings);
    for (const name of together) {
      const part = shared[name];
      if (part !== undefined) show(await part(on, settings));
    }
    await stopAll();
  }
}

import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { childrenOf } from '../../lab/usage.js';
import { byFunction, byOwner, type CpuProfile } from '../cpu-profile.js';
import type { Found } from '../report.js';
import type { Settings } from '../settings.js';
import type { Keychaindb } from '../systems/keychaindb.js';
import type { Trial } from '../trial.js';
import { fill, httpRuns, ownCluster, released, unaryReads, unaryWrites } from './contenders.js';

const loads: Readonly<Record<string, (own: Keychaindb, settings: Settings) => Promise<Trial>>> = {
  'reads through the proxy': (own, settings) => unaryReads(own.proxy, settings),
  'reads at the nodes': (own, settings) => unaryReads(own.nodes, settings),
  'writes through the proxy': (own, settings) => unaryWrites(own.proxy, settings),
  'HTTP reads': (own, settings) => httpRuns(own.proxy, settings, 'read'),
};
const roles = ['proxy', 'node'] as const;
const ownersShown = 14;
const functionsShown = 12;

/**
 * Where the CPU goes: V8's profiles of proxy and nodes, one cluster for each load. The seconds of a start are in them: run
 * it for ten seconds or more.
 */
export async function* profile(settings: Settings): AsyncGenerator<Found> {
  for (const [name, run] of Object.entries(loads)) {
    const dir = settings.profiles ?? (await mkdtemp(join(tmpdir(), 'keychaindb-profiles-')));
    try {
      const env = { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${dir}` };
      const own = await ownCluster(settings, { env });
      await fill(own.proxy, { ...settings, keys: 500 });
      const done = await run(own, settings);
      const pids = new Map(
        own.processes.flatMap(({ pid, role }) =>
          [pid, ...childrenOf(pid)].map((each) => [each, role]),
        ),
      );
      // A process writes its profile as it ends.
      await released(own);
      yield summary(name, done, await profilesOf(dir, pids));
    } finally {
      if (settings.profiles === undefined) await rm(dir, { recursive: true, force: true });
    }
  }
}

type ByRole = ReadonlyMap<string, readonly CpuProfile[]>;

/** CPU.<date>.<time>.<pid>.<thread>.<sequence>.cpuprofile */
async function profilesOf(dir: string, pids: ReadonlyMap<number, string>): Promise<ByRole> {
  const byRole = new Map<string, CpuProfile[]>();
  for (const file of await readdir(dir)) {
    const role = pids.get(Number(file.split('.')[3]));
    if (role === undefined) continue;
    const parsed = JSON.parse(await readFile(join(dir, file), 'utf8')) as CpuProfile;
    byRole.set(role, [...(byRole.get(role) ?? []), parsed]);
  }
  return byRole;
}

function summary(name: string, done: Trial, profiles: ByRole): Found {
  const owners = roles.map((role) => byOwner(profiles.get(role) ?? []));
  const functions = roles.map((role) => byFunction(profiles.get(role) ?? []));
  const names = new Set(
    owners.flatMap((of) => of.slice(0, ownersShown).map((share) => share.name)),
  );
  const shown = (part: number | undefined): string =>
    part === undefined ? '' : `${(part * 100).toFixed(1)} %`;
  return {
    title: `Where the CPU goes: ${name}`,
    header: ['of the time not idle', ...roles],
    rows: [...names].map((owner) => [
      owner,
      ...owners.map((of) => shown(of.find((share) => share.name === owner)?.part)),
    ]),
    notes: [
      `${Math.round(done.perSecond)}/s; µs of CPU for each: ${JSON.stringify(done.cpuByRole)}`,
      ...roles.map((role, i) => {
        const top = functions[i]?.slice(0, functionsShown) ?? [];
        return `\n${role}: ${top.map(({ name, part }) => `${shown(part)} ${name}`).join('; ')}`;
      }),
    ],
    data: { done, owners, functions: functions.map((of) => of.slice(0, 50)) },
  };
}

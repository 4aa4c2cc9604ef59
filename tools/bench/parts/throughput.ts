import { alternate, type Case } from '../comparison.js';
import { drive } from '../generators/driver.js';
import { comparisonTable, type Found } from '../report.js';
import type { Settings } from '../settings.js';
import type { Door } from '../systems/system.js';
import { type Trial, trial } from '../trial.js';
import { type Contenders, httpRuns, planOf, unaryReads, unaryWrites } from './contenders.js';

const streamsOfClient = 256;

/** Unary reads: through the proxy, at the nodes, etcd's linearizable ones, and the floor. */
export async function reads(on: Contenders, settings: Settings): Promise<Found> {
  const run = (door: Door) => () => unaryReads(door, settings);
  const cases = [
    ...ours(on.own.proxy, run),
    ...ours(on.own.nodes, run),
    ...peers(on, run),
    ...ours(on.grpcEcho.door, run),
  ];
  return compared('Unary reads (h2load)', 'reads', cases, settings, 'unary reads');
}

export async function writes(on: Contenders, settings: Settings): Promise<Found> {
  const run = (door: Door) => () => unaryWrites(door, settings);
  const cases = [
    ...ours(on.own.proxy, run),
    ...peers(on, run),
    ...ours(on.grpcEcho.door, (door) => () => unaryWrites(door, settings, true)),
  ];
  return compared('Unary durable writes (h2load)', 'writes', cases, settings, 'unary writes');
}

export async function http(
  on: Contenders,
  settings: Settings,
  kind: 'read' | 'write',
): Promise<Found> {
  const run = (door: Door) => () => httpRuns(door, settings, kind);
  const cases = [...ours(on.own.proxy, run), ...peers(on, run), ...ours(on.httpEcho.door, run)];
  return compared(`HTTP JSON ${kind}s (wrk)`, `${kind}s`, cases, settings, `HTTP ${kind}s`);
}

/** The TypeScript client with many operations in flight, beside unary calls of etcd by h2load and by the same Node. */
export async function client(
  on: Contenders,
  settings: Settings,
  kind: 'read' | 'write',
): Promise<Found> {
  const readPart = kind === 'read' ? 1 : 0;
  const loop = { inFlight: streamsOfClient };
  const byDriver = (door: Door, through: 'client' | 'etcd') => (): Promise<Trial> =>
    trial(door, (begin) =>
      drive({ ...planOf(door, settings), through, readPart, loop }, settings.node, begin),
    );
  const cases: Case[] = [
    {
      name: 'keychaindb, TypeScript client',
      isPeer: false,
      run: byDriver(on.own.proxy, 'client'),
    },
    ...peers(on, (door) => () => (kind === 'read' ? unaryReads : unaryWrites)(door, settings)),
    ...(on.etcd === undefined
      ? []
      : [
          {
            name: 'etcd, unary from the same Node',
            isPeer: false,
            run: byDriver(on.etcd.leader, 'etcd'),
          },
        ]),
  ];
  return compared(
    `TypeScript client, ${streamsOfClient} in flight, ${kind}s; etcd unary (h2load)`,
    `${kind}s`,
    cases,
    settings,
    `client ${kind}s`,
  );
}

type Run = (door: Door) => () => Promise<Trial>;

function ours(door: Door, run: Run): readonly Case[] {
  return [{ name: door.name, isPeer: false, run: run(door) }];
}

/** etcd asked at its leader, and at all of its members: whichever is faster is the peer. */
function peers({ etcd }: Contenders, run: Run): readonly Case[] {
  if (etcd === undefined) return [];
  return [etcd.leader, etcd.all].map((door) => ({ name: door.name, isPeer: true, run: run(door) }));
}

async function compared(
  title: string,
  unit: string,
  cases: readonly Case[],
  settings: Settings,
  figure: string,
): Promise<Found> {
  settings.say(title);
  return comparisonTable(title, unit, await alternate(cases, settings, settings.say), figure);
}

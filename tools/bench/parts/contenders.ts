import { type DriverPlan, drive } from '../generators/driver.js';
import { h2load } from '../generators/h2load.js';
import { keyOf } from '../generators/keys.js';
import { wrk } from '../generators/wrk.js';
import type { Settings } from '../settings.js';
import { Etcd, etcdVersion } from '../systems/etcd.js';
import { Floor } from '../systems/floor.js';
import { Keychaindb } from '../systems/keychaindb.js';
import { type Door, protocolOf, readBack, type System } from '../systems/system.js';
import { type Trial, trial } from '../trial.js';

/** What runs beside each other for one part. */
export interface Contenders {
  readonly own: Keychaindb;
  readonly etcd: Etcd | undefined;
  readonly grpcEcho: Floor;
  readonly httpEcho: Floor;
}

/** Everything that is under way, or starting, so that it ends with the run. */
const underWay = new Set<Promise<System>>();

export async function kept<S extends System>(starting: Promise<S>): Promise<S> {
  underWay.add(starting);
  try {
    return await starting;
  } catch (error) {
    underWay.delete(starting);
    throw error;
  }
}

/** Ends one before the others. */
export async function released(system: System): Promise<void> {
  for (const starting of underWay) {
    if ((await starting) === system) underWay.delete(starting);
  }
  await system.stop();
}

/** Ends everything; what doesn't end well is no reason to leave the rest. */
export async function stopAll(): Promise<void> {
  const all = [...underWay];
  underWay.clear();
  await Promise.allSettled(all.map(async (starting) => (await starting).stop()));
}

/** Our cluster, with the Node and the workers of a run. */
export function ownCluster(
  { node, workers }: Settings,
  more: Partial<Parameters<typeof Keychaindb.start>[0]> = {},
): Promise<Keychaindb> {
  return kept(Keychaindb.start({ execPath: node, workers, ...more }));
}

/** Starts all, and writes every key into those that keep any. */
export async function contenders(settings: Settings): Promise<Contenders> {
  const { node, valueBytes, say } = settings;
  const own = await ownCluster(settings);
  const version = etcdVersion();
  if (version === undefined) say('there is no etcd on the PATH: it is left out');
  const etcd = version === undefined ? undefined : await kept(Etcd.start());
  const grpcEcho = await kept(Floor.start('grpc', valueBytes, node));
  const httpEcho = await kept(Floor.start('http', valueBytes, node));
  await fill(own.proxy, settings);
  if (etcd !== undefined) await fill(etcd.leader, settings);
  return { own, etcd, grpcEcho, httpEcho };
}

/** Writes every key once. */
export async function fill(door: Door, settings: Settings): Promise<void> {
  await drive(
    { ...planOf(door, settings), seconds: 0, warmUpSeconds: 0, fills: true },
    settings.node,
  );
}

/** A plan of our generator for a door, to be narrowed. */
export function planOf(door: Door, settings: Settings): DriverPlan {
  return {
    through: door.protocol,
    addresses: door.grpc,
    connections: settings.connections,
    seconds: settings.seconds,
    warmUpSeconds: Math.min(1, settings.seconds / 2),
    loop: { inFlight: settings.connections * settings.streams },
    readPart: 1,
    keys: { choice: 'uniform', count: settings.keys },
    valueBytes: settings.valueBytes,
  };
}

let rounds = 0;

/** Another value each time, so that a round that wrote nothing is found out. */
export function freshValue(bytes: number): Buffer {
  rounds += 1;
  return Buffer.alloc(bytes, `${rounds.toString(36)}.`);
}

/** Unary reads of one key by h2load. */
export function unaryReads(door: Door, settings: Settings): Promise<Trial> {
  const protocol = protocolOf(door);
  const message = protocol.get(keyOf(0));
  return trial(door, () =>
    h2load({ addresses: door.grpc, path: protocol.getPath, message, ...settings }),
  );
}

/** Unary writes of one key by h2load; the last value is read back. */
export async function unaryWrites(door: Door, settings: Settings, isFloor = false): Promise<Trial> {
  const protocol = protocolOf(door);
  const value = freshValue(settings.valueBytes);
  const message = protocol.put(keyOf(0), value);
  const done = await trial(door, () =>
    h2load({ addresses: door.grpc, path: protocol.putPath, message, ...settings }),
  );
  if (!isFloor) await mustHold(door, keyOf(0), value);
  return done;
}

export async function httpRuns(
  door: Door,
  settings: Settings,
  kind: 'read' | 'write',
): Promise<Trial> {
  const value = freshValue(settings.valueBytes);
  const { connections, streams } = settings;
  const keys = Array.from({ length: Math.min(settings.keys, 500) }, (_, i) => keyOf(i));
  const plan = {
    addresses: door.http,
    shape: protocolOf(door).http[kind],
    keys,
    value,
    // HTTP/1.1 has one request in flight on a connection.
    connections: connections * streams,
    seconds: settings.seconds,
  };
  const done = await trial(door, () => wrk(plan));
  if (kind === 'write' && door.grpc.length > 0) await mustHold(door, keyOf(1), value);
  return done;
}

/** What was written last is what is read. */
async function mustHold(door: Door, key: string, value: Uint8Array): Promise<void> {
  const found = await readBack(door, key);
  if (found === undefined || !Buffer.from(found).equals(value)) {
    throw new Error(`${door.name} does not hold what was written to ${key}`);
  }
}

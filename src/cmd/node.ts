import { systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import { remember } from '../chain/node-store.js';
import { type NodeHandle, startNode } from '../chain/runtime.js';
import { nodeChainService, nodeKvService } from '../chain/service.js';
import { servingOf } from '../chain/views.js';
import { ChainService } from '../gen/keychaindb/v1/chain.js';
import { CoordinatorService, MemberState } from '../gen/keychaindb/v1/coordinator.js';
import { KVService } from '../gen/keychaindb/v1/kv.js';
import { DataFolder, makeFolder } from '../log/data-folder.js';
import type { StorageEngine, WriteOp } from '../log/engine.js';
import type { EventLog } from '../log/event-log.js';
import { metaKey } from '../log/keys.js';
import { type Damage, openLog } from '../log/open-log.js';
import { seal } from '../log/record.js';
import { RocksEngine } from '../log/rocks-engine.js';
import { Connections, dialBidi } from '../wire/grpc-channel.js';
import { listen } from '../wire/grpc-server.js';
import { startHealthServer } from './health-server.js';
import { type LimitFlags, limitsOf, type TimingFlags, timingOf } from './options.js';
import { announce, fatal, say, untilStopped } from './process.js';

export interface NodeFlags extends TimingFlags, LimitFlags {
  readonly id: string;
  readonly listen: string;
  readonly advertise?: string;
  readonly http: string;
  readonly dataDir: string;
  readonly coordinators: readonly string[];
  readonly join: boolean;
}

/** Milliseconds: no cluster runs with longer leases. */
const leaseMsMax = 60_000;
/** R5 counts from what the store promised before it was emptied. */
const leaseMaxKey = metaKey('lease-max');
const keptByWipe = [leaseMaxKey];

/** Runs one chain node until it is told to stop: one incarnation after the other, on one store. */
export async function runNode(flags: NodeFlags): Promise<void> {
  const { id, dataDir } = flags;
  await makeFolder(dataDir);
  const folder = await DataFolder.open({
    dir: dataDir,
    kind: 'node',
    id,
    random: systemRandom,
    openEngine: (dir) => RocksEngine.open(dir),
  });
  const die = fatal(id);
  let current: NodeHandle | undefined;
  const node = (): NodeHandle => {
    if (current !== undefined) return current;
    throw new KeychainError('NOT_SERVING', `${id} is starting`);
  };
  const http = await startHealthServer(flags.http, () => [
    { name: 'chain', failed: isServing(current) ? '' : 'this node does not serve in the chain' },
  ]);
  const listener = await listen({
    address: flags.listen,
    flag: '--listen',
    services: [
      { definition: KVService, implementation: nodeKvService(node) },
      { definition: ChainService, implementation: nodeChainService(node) },
    ],
  });
  const address = flags.advertise ?? listener.address;
  const connections = new Connections();
  let stopped = false;
  const stop = untilStopped().then(() => {
    stopped = true;
  });
  let log = await openUndamaged(folder, id, die);
  announce(id, listener.address, http.address);
  while (!stopped) {
    const handle = await startNode({
      identity: {
        id,
        incarnation: await folder.nextIncarnation(systemClock.wall()),
        storeId: folder.storeId,
        address,
      },
      chainId: 1,
      clock: systemClock,
      random: systemRandom,
      timing: timingOf(flags),
      log,
      join: flags.join,
      peers: dialBidi(connections, 'peers', ChainService.peer),
      links: dialBidi(connections, 'links', ChainService.follow),
      coordinators: {
        addresses: flags.coordinators,
        dialer: dialBidi(connections, 'heartbeats', CoordinatorService.heartbeat),
      },
      limits: limitsOf(flags),
      fatal: die,
      notice: (text) => {
        if (text !== '') say(`${id}: ${text}`);
      },
    });
    current = handle;
    const serving = handle.events$.subscribe(({ type }) => {
      if (type === 'Activated') listener.serving(isServing(handle));
    });
    const removal = await Promise.race([handle.removed, stop]);
    serving.unsubscribe();
    listener.serving(false);
    await handle.close();
    if (removal === undefined) break;
    say(`${id}: ${removal.why}; starting anew${removal.wipe ? ' from an empty store' : ''}`);
    if (removal.wipe) {
      await log.release();
      await folder.wipe(keptByWipe);
      ({ log } = await openLog({ engine: folder.engine, fatal: die }));
    }
  }
  await listener.close();
  connections.close();
  await http.close();
  await log.close();
}

function isServing(node: NodeHandle | undefined): boolean {
  const { active, self, removed } = node?.state ?? {};
  if (active === undefined || self === undefined || removed === true) return false;
  return active.members.some(
    (m) =>
      m.id === self.id && m.incarnation === self.incarnation && m.state === MemberState.SERVING,
  );
}

/** A damaged store is emptied and synced anew, unless it may be the last copy. */
async function openUndamaged(
  folder: DataFolder,
  id: string,
  die: (error: unknown) => void,
): Promise<EventLog> {
  const { engine, dir } = folder;
  const opened = await openLog({ engine, fatal: die });
  const damage = opened.damage ?? (await damageOfState(opened.log));
  if (damage === undefined) return opened.log;
  const what = `the store in ${dir} is damaged (${damage.kind}): ${damage.message}`;
  if (await mayBeLastCopy(opened.log, id)) {
    await engine.close();
    throw new KeychainError(
      'CORRUPT',
      `${what}. ${id} is the last that served this chain, or its view can't be read: nothing was changed. Bring another member's store back; to give this one up, move the folder away`,
    );
  }
  await opened.log.release();
  try {
    await folder.wipe(keptByWipe);
  } catch (error) {
    // The binding can't scan a damaged table, nor close a store that has one: the next start empties it.
    await RocksEngine.emptyAtNextOpen(dir, await leaseLimit(engine));
    throw new KeychainError(
      'CORRUPT',
      `${what}. It can't be emptied while it is open: start ${id} again, and it is, and is synced anew from the chain`,
      {},
      error,
    );
  }
  say(`${id}: ${what}. It was emptied and is synced anew from the chain`);
  return (await openLog({ engine, fatal: die })).log;
}

/** The largest lease that this store ever promised (R5); where it can't be read, more than any. */
async function leaseLimit(engine: StorageEngine): Promise<readonly WriteOp[]> {
  const stored = await engine.get(leaseMaxKey).catch(() => undefined);
  const unknown = seal(leaseMaxKey, new TextEncoder().encode(String(leaseMsMax)));
  return [{ type: 'put', key: leaseMaxKey, value: stored ?? unknown }];
}

/** What a node starts from besides its log: the view, the watermark, sessions. */
async function damageOfState(log: EventLog): Promise<Damage | undefined> {
  try {
    await remember(log);
    return undefined;
  } catch (error) {
    if (!(error instanceof KeychainError) || error.reason !== 'CORRUPT') throw error;
    return { kind: 'checksum', message: error.message };
  }
}

async function mayBeLastCopy(log: EventLog, id: string): Promise<boolean> {
  try {
    const { seen } = await remember(log);
    if (seen === undefined) return log.last.index > 0;
    const serving = servingOf(seen);
    return serving.length === 1 && serving[0]?.id === id;
  } catch {
    return true;
  }
}

import { systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import { emptyStore, openStore } from '../chain/open-store.js';
import { type NodeHandle, startNode } from '../chain/runtime.js';
import { nodeChainService, nodeKvService } from '../chain/service.js';
import { ChainService } from '../gen/keychaindb/v1/chain.js';
import { CoordinatorService, MemberState } from '../gen/keychaindb/v1/coordinator.js';
import { KVService } from '../gen/keychaindb/v1/kv.js';
import { DataFolder, makeFolder } from '../log/data-folder.js';
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
  let log = await openStore({
    folder,
    id,
    fatal: die,
    notice: (text) => say(`${id}: ${text}`),
    emptyAtNextOpen: (keep) => RocksEngine.emptyAtNextOpen(dataDir, keep),
  });
  announce(id, listener.address, http.address);
  let above = 0;
  while (!stopped) {
    const handle = await startNode({
      identity: {
        id,
        incarnation: await folder.nextIncarnation(systemClock.wall(), above),
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
    above = removal.above;
    if (removal.wipe) log = await emptyStore(log, folder, die);
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

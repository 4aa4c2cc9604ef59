import { noBytes, toHex } from '../base/bytes.js';
import { pause, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import type { ChainEvent } from '../chain/events.js';
import { NodeMeter } from '../chain/meter.js';
import { nodeMetrics } from '../chain/metrics.js';
import type { NodeHandle } from '../chain/node.js';
import { emptyDamaged, type OpenStoreOptions, openStore } from '../chain/open-store.js';
import { startNode } from '../chain/runtime.js';
import { nodeChainService, nodeKvHandler, nodeKvService } from '../chain/service.js';
import { placeIn } from '../chain/tracing.js';
import { sameName, servesIn } from '../chain/views.js';
import { ChainService } from '../gen/keychaindb/v1/chain.js';
import { CoordinatorService } from '../gen/keychaindb/v1/coordinator.js';
import { KVService } from '../gen/keychaindb/v1/kv.js';
import { type GetTraceRequest, TelemetryService } from '../gen/keychaindb/v1/telemetry.js';
import { DataFolder, formatOfBases, makeFolder } from '../log/data-folder.js';
import { RocksEngine } from '../log/rocks-engine.js';
import { clusterVerbs } from '../retry/cluster-verbs.js';
import type { Logger } from '../telemetry/log.js';
import { telemetryService } from '../telemetry/service.js';
import { DirectCalls } from '../wire/direct-calls.js';
import { Connections, dialBidi } from '../wire/grpc-channel.js';
import { listen } from '../wire/grpc-server.js';
import type { Handshake } from '../wire/handshake.js';
import { protocolVersion } from '../wire/protocol-version.js';
import { startHandshake } from './handshake.js';
import { startHealthServer } from './health-server.js';
import {
  type CacheFlags,
  type CompactionFlags,
  type CompareFlags,
  compactionOf,
  comparePaceOf,
  type LimitFlags,
  limitsOf,
  type TimingFlags,
  timingOf,
} from './options.js';
import { announce, fatal, untilStopped } from './process.js';
import { startTelemetry } from './telemetry.js';
import type { TelemetryFlags } from './telemetry-flags.js';
import { version } from './version.js';

export interface NodeFlags
  extends TimingFlags,
    LimitFlags,
    CacheFlags,
    CompactionFlags,
    CompareFlags,
    TelemetryFlags {
  readonly id: string;
  readonly listen: string;
  readonly advertise?: string;
  readonly http: string;
  readonly dataDir: string;
  readonly coordinators: readonly string[];
  readonly join: boolean;
}

/**
 * Runs one chain node until it is told to stop: one incarnation after the other, on one store.
 * @param protocol what it says that it speaks
 */
export async function runNode(flags: NodeFlags, protocol = protocolVersion): Promise<void> {
  const { id, dataDir } = flags;
  const telemetry = startTelemetry('node', id, flags);
  const { log: logger, traces, metrics } = telemetry;
  await makeFolder(dataDir);
  const folder = await DataFolder.open({
    dir: dataDir,
    kind: 'node',
    id,
    random: systemRandom,
    openEngine: (dir) => RocksEngine.open(dir),
  });
  const die = fatal(logger);
  const meter = new NodeMeter();
  let current: NodeHandle | undefined;
  const node = (): NodeHandle => {
    if (current !== undefined) return current;
    throw new KeychainError('NOT_SERVING', `${id} is starting`);
  };
  nodeMetrics({
    metrics,
    meter,
    node: () => current,
    now: () => systemClock.monotonic(),
    engine: folder.engine,
  });
  const checks = () => [
    { name: 'chain', failed: isServing(current) ? '' : 'this node does not serve in the chain' },
  ];
  const http = await startHealthServer(flags.http, checks, metrics);
  const find = async ({ traceId, entry, request }: GetTraceRequest) =>
    (await current?.tracing.find({
      traceId: traceId.byteLength > 0 ? toHex(traceId) : undefined,
      id: entry,
      request,
    })) ?? [];
  const handshake = startHandshake('node', id, telemetry, protocol);
  const listener = await listen({
    address: flags.listen,
    flag: '--listen',
    direct: new DirectCalls(nodeKvHandler(node), systemRandom),
    handshake,
    services: [
      { definition: KVService, implementation: nodeKvService(node) },
      { definition: ChainService, implementation: nodeChainService(node) },
      {
        definition: TelemetryService,
        implementation: telemetryService({ id, log: logger, traces, find }),
      },
    ],
  });
  const address = flags.advertise ?? listener.address;
  const connections = new Connections(handshake);
  let stopped = false;
  const stop = untilStopped().then(async (signal) => {
    stopped = true;
    if (signal === 'SIGTERM' && current !== undefined)
      await leave(current, flags, handshake, logger);
  });
  const store: OpenStoreOptions = {
    folder,
    id,
    fatal: die,
    notice: (text) => logger.warn(text),
    emptyAtNextOpen: (keep) => RocksEngine.emptyAtNextOpen(dataDir, keep),
  };
  let log = await openStore(store);
  announce(logger, listener.address, http.address);
  telemetry.begin();
  let above = 0;
  let firstIncarnation: number | undefined;
  while (!stopped) {
    const incarnation = await folder.nextIncarnation(systemClock.wall(), above);
    firstIncarnation ??= incarnation;
    const handle = await startNode({
      version: version(),
      identity: {
        id,
        incarnation,
        storeId: folder.storeId,
        address,
        process: firstIncarnation,
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
      compaction: {
        ...compactionOf(flags),
        raiseFormat: () => void folder.raiseFormat(formatOfBases).catch(die),
      },
      compare: comparePaceOf(flags),
      objectCacheBytes: flags.objectCacheBytes,
      fatal: die,
      notice: (text) => {
        if (text !== '') logger.warn(text);
      },
      telemetry: {
        meter,
        sink: traces,
        originMs: () => telemetry.wall.origin(),
        contentBytes: telemetry.contentBytes,
      },
    });
    current = handle;
    const serving = handle.events$.subscribe((event) => {
      if (event.type === 'DamageFound') {
        const { what, outlier } = event.damage;
        logger.error({ outlier }, outlier === '' ? `damaged: ${what}` : what);
      }
      if (event.type !== 'Activated') {
        const isRare = rareEvents.has(event.type);
        if (isRare && logger.isLevelEnabled('debug')) logger.debug({ event }, event.type);
        return;
      }
      listener.serving(isServing(handle));
      const { epoch, position, role } = placeIn(event.view, handle.state.self);
      logger.info({ epoch, position, role }, `takes part in epoch ${epoch} as ${role}`);
    });
    const removal = await Promise.race([handle.removed, stop]);
    listener.serving(false);
    // What was removed answers on until the process has left the chain: others hear from it that it stopped.
    if (stopped) await stop;
    serving.unsubscribe();
    await handle.close();
    if (removal === undefined || stopped) break;
    const how = removal.wipe ? ' from an empty store' : '';
    logger.warn(`${removal.why}; starting anew${how}`);
    above = removal.above;
    if (removal.wipe) log = await emptyDamaged(log, removal.why, store);
  }
  await listener.close();
  connections.close();
  await http.close();
  await log.close();
  await telemetry.close();
}

/** Milliseconds within which a node that ends leaves the chain; then it ends anyway. */
const leaveMs = 2_000;
/** Milliseconds for which it answers on when it has left: that it stopped, and who is the head now. */
const answerOnMs = 200;

/** R16: the chain goes on at once without a node that says so, where it would wait a lease for one that doesn't. */
async function leave(
  handle: NodeHandle,
  flags: NodeFlags,
  handshake: Handshake,
  log: Logger,
): Promise<void> {
  const { id, coordinators } = flags;
  if (!isMember(handle)) return;
  const verbs = clusterVerbs({
    ...{ addresses: coordinators, clock: systemClock, handshake },
    cluster: () => handle.state.seen?.clusterId ?? noBytes,
  });
  const deadline = systemClock.monotonic() + leaveMs;
  try {
    await verbs.drainMember({ id, expectedEpoch: 0 }, leaveMs);
    const left = Math.max(0, deadline - systemClock.monotonic());
    await Promise.race([handle.removed, pause(systemClock, left)]);
    await pause(systemClock, answerOnMs);
  } catch (error) {
    log.warn(`${id} ends without having left the chain: ${KeychainError.from(error).message}`);
  } finally {
    verbs.close();
  }
}

function isMember({ state }: NodeHandle): boolean {
  return state.seen?.members.some((m) => sameName(m, state.self)) === true;
}

/** Events that come with changes of the chain, not with requests: what `--log-level debug` shows. */
const rareEvents: ReadonlySet<ChainEvent['type']> = new Set([
  'ViewSeen',
  'Removed',
  'SuffixCut',
  'BaseMade',
  'LogDropped',
  'SnapshotBegun',
  'LeaseLimitRaised',
  'LeasesDropped',
  'PeerStopped',
  'UpDialed',
  'UpReconciled',
  'UpClosed',
  'DownReconciled',
  'DownClosed',
  'TokenReceived',
  'AuthorityTaken',
]);

function isServing(node: NodeHandle | undefined): boolean {
  if (node === undefined) return false;
  const { active, self, removed } = node.state;
  return active !== undefined && !removed && servesIn(active, self);
}

import { pause, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import { CoordinatorGroup } from '../coordinator/group.js';
import { coordinatorMetrics } from '../coordinator/metrics.js';
import { RegistryMachine } from '../coordinator/registry-machine.js';
import { startCoordinator } from '../coordinator/runtime.js';
import { coordinatorService } from '../coordinator/service.js';
import { askStatus } from '../coordinator/status-call.js';
import { traceCoordinator } from '../coordinator/tracing.js';
import { CoordinatorService } from '../gen/keychaindb/v1/coordinator.js';
import type { RaftGroup } from '../gen/keychaindb/v1/log.js';
import { type RaftServer, RaftService } from '../gen/keychaindb/v1/raft.js';
import { TelemetryService } from '../gen/keychaindb/v1/telemetry.js';
import { DataFolder, makeFolder } from '../log/data-folder.js';
import { openLog } from '../log/open-log.js';
import { RocksEngine } from '../log/rocks-engine.js';
import { isBlank, readDurable } from '../raft/durable-record.js';
import { isVoter } from '../raft/group.js';
import type { RaftMember } from '../raft/raft.js';
import { startRaft } from '../raft/runtime.js';
import { clusterVerbs } from '../retry/cluster-verbs.js';
import type { Logger } from '../telemetry/log.js';
import { RequestMeter } from '../telemetry/request-meter.js';
import { telemetryService } from '../telemetry/service.js';
import { storageMetrics } from '../telemetry/storage-metrics.js';
import type { OwnCluster } from '../wire/cluster-name.js';
import { Connections, dialBidi, serveBidi } from '../wire/grpc-channel.js';
import { type GrpcListener, listen } from '../wire/grpc-server.js';
import type { Handshake } from '../wire/handshake.js';
import { tcpProber } from '../wire/probe.js';
import { protocolVersion } from '../wire/protocol-version.js';
import { startHandshake } from './handshake.js';
import { startHealthServer } from './health-server.js';
import { admission, refuseLostFolder } from './lost-folder.js';
import { type TimingFlags, timingOf } from './options.js';
import { announce, fatal, untilStopped } from './process.js';
import { startTelemetry } from './telemetry.js';
import type { TelemetryFlags } from './telemetry-flags.js';
import { version } from './version.js';

export interface CoordinatorFlags extends TimingFlags, TelemetryFlags {
  readonly id: string;
  readonly listen: string;
  readonly http: string;
  readonly dataDir: string;
  /** Who founds the group; or where those are whom this one joins. */
  readonly initialCluster?: ReadonlyMap<string, string>;
  readonly join?: readonly string[];
  readonly advertise?: string;
  readonly snapshotEntries: number;
  readonly keptEntries: number;
}

/** Runs one coordinator until it is told to stop. */
export async function runCoordinator(flags: CoordinatorFlags): Promise<void> {
  const { id, dataDir, join } = flags;
  const founders = foundersOf(flags);
  const address = founders.get(id) ?? flags.advertise ?? flags.listen;
  const telemetry = startTelemetry('coordinator', id, flags);
  const { log: logger, traces, metrics } = telemetry;
  await makeFolder(dataDir);
  const folder = await DataFolder.open({
    dir: dataDir,
    kind: 'coordinator',
    id,
    random: systemRandom,
    openEngine: (dir) => RocksEngine.open(dir),
  });
  const die = fatal(logger);
  const { log, damage } = await openLog({ engine: folder.engine, fatal: die });
  if (damage !== undefined) {
    await folder.engine.close();
    throw new KeychainError(
      'CORRUPT',
      `the log in ${dataDir} is damaged (${damage.kind}): ${damage.message}. ${id} votes no more with it. Replace it: keychaindb cluster remove ${id}, then start another one under a new --id, with an empty --data-dir and --join; never ${id} again with an empty folder`,
    );
  }
  const clock = systemClock;
  const handshake = startHandshake('coordinator', id, telemetry, protocolVersion);
  const own = { ...flags, founders, ask: askStatus(clock, handshake) };
  if (isBlank(await readDurable(log))) {
    await refuseLostFolder(own).catch(async (error: unknown) => {
      await log.close();
      throw error;
    });
  }
  const connections = new Connections(handshake);
  const cluster: OwnCluster = () => folder.clusterId;
  const registry = new RegistryMachine();
  const timing = timingOf(flags);
  const raft = await startRaft({
    id,
    address,
    founders,
    admission: () => admission(own, clock, (message) => logger.warn({}, message)),
    clusterId: cluster,
    clock,
    random: systemRandom,
    timing,
    log,
    dialer: dialBidi(connections, 'raft', RaftService.messages),
    machine: registry,
    snapshotEntries: flags.snapshotEntries,
    keptEntries: flags.keptEntries,
    fatal: die,
  });
  registry.state$.subscribe(({ clusterId }) => {
    if (clusterId.byteLength > 0) folder.bindCluster(clusterId).catch(die);
  });
  void raft.removed.then(() =>
    die(
      new KeychainError(
        'MEMBER_REMOVED',
        `${id} was removed from the coordinators and votes no more: its folder ${dataDir} is of no use`,
      ),
    ),
  );
  const coordinator = startCoordinator({
    raft,
    registry,
    clock,
    random: systemRandom,
    timing,
    prober: tcpProber,
    fatal: die,
  });
  const group = new CoordinatorGroup({
    raft,
    registry,
    clock,
    version: version(),
    askStatus: own.ask,
  });
  const stopTracing = traceCoordinator({
    raft,
    coordinator,
    traces,
    log: logger,
    micros: () => telemetry.wall.micros(clock.monotonic()),
  });
  const meter = new RequestMeter();
  coordinatorMetrics(metrics, raft, coordinator, meter);
  storageMetrics(metrics, folder.engine);
  const raftServer: RaftServer = { messages: serveBidi(raft.accept) };
  let listener: GrpcListener | undefined;
  const checks = () => [
    {
      name: 'leader',
      failed: raft.status.leader === undefined ? 'this coordinator knows of no leader' : '',
    },
  ];
  const http = await startHealthServer(flags.http, checks, metrics);
  listener = await listen({
    address: flags.listen,
    flag: '--listen',
    handshake,
    cluster,
    services: [
      {
        definition: CoordinatorService,
        implementation: coordinatorService(coordinator, group, clock, meter, handshake),
      },
      { definition: RaftService, implementation: raftServer },
      {
        definition: TelemetryService,
        implementation: telemetryService({ id, log: logger, traces }),
      },
    ],
  });
  raft.status$.subscribe(({ leader }) => listener.serving(leader !== undefined));
  announce(logger, listener.address, http.address);
  telemetry.begin();
  if (join !== undefined) {
    joinGroup(raft, { id, address, join, handshake, cluster }, logger).catch(die);
  }
  await untilStopped();
  await handOver(raft, timing.electionMs);
  stopTracing();
  coordinator.close();
  await raft.close();
  connections.close();
  await listener.close();
  await http.close();
  await log.close();
  await telemetry.close();
}

/** Who founds the group; nobody where this one joins another's. */
function foundersOf({ id, initialCluster, join }: CoordinatorFlags): ReadonlyMap<string, string> {
  if ((initialCluster === undefined) === (join === undefined)) {
    throw new KeychainError(
      'BAD_REQUEST',
      'one of --initial-cluster (the first coordinators) and --join (one more) is wanted',
    );
  }
  if (initialCluster === undefined) return new Map();
  if (!initialCluster.has(id)) {
    throw new KeychainError('BAD_REQUEST', `--initial-cluster does not name ${id} (--id)`);
  }
  return initialCluster;
}

/** Milliseconds that one try to join may take. */
const joinTryMs = 10_000;

/** Asks the coordinators that are there to take this one in, until they do; again after a restart: it is done once. */
async function joinGroup(
  raft: RaftMember,
  own: {
    readonly id: string;
    readonly address: string;
    readonly join: readonly string[];
    readonly handshake: Handshake;
    readonly cluster: OwnCluster;
  },
  log: Logger,
): Promise<void> {
  const { id, address, handshake, cluster } = own;
  const verbs = clusterVerbs({ addresses: own.join, clock: systemClock, handshake, cluster });
  const isMember = ({ members }: RaftGroup): boolean => members.some((m) => m.id === id);
  try {
    for (let waits = 0; !isMember(raft.appliedEntry.group); waits += 1) {
      // Its log says so in an entry that may be cut yet: who leads soon tells.
      if (isMember(raft.status.group) && waits < waitsMax) {
        await pause(systemClock, joinPauseMs);
        continue;
      }
      try {
        await verbs.joinCluster(id, address, joinTryMs);
        log.info({ address }, `${id} joins the coordinators`);
        return;
      } catch (thrown) {
        const error = KeychainError.from(thrown);
        const isPassing = error.status === 'UNAVAILABLE' || error.status === 'DEADLINE_EXCEEDED';
        // A voter that has moved: whoever leads learns its address when it stands.
        const isIn = isVoter(raft.status.group, id) && error.reason !== 'MEMBER_REMOVED';
        if (!isPassing && !isIn && error.reason !== 'MEMBER_BEHIND') throw error;
        log.warn({ reason: error.reason }, `not taken in yet: ${error.message}`);
        await pause(systemClock, joinPauseMs);
      }
    }
  } finally {
    verbs.close();
  }
}

const joinPauseMs = 500;
/** So often is a leader waited for that knows whether it is a member. */
const waitsMax = 10;

/** A leader that is told to end hands over first: nobody waits for an election. */
async function handOver(raft: RaftMember, electionMs: number): Promise<void> {
  const { role, group } = raft.status;
  if (role !== 'leader' || group.members.length < 2) return;
  await raft.change({ $case: 'transfer', value: '' }, { timeoutMs: 3 * electionMs });
}

import { systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import { coordinatorMetrics } from '../coordinator/metrics.js';
import { RegistryMachine } from '../coordinator/registry-machine.js';
import { startCoordinator } from '../coordinator/runtime.js';
import { coordinatorService } from '../coordinator/service.js';
import { traceCoordinator } from '../coordinator/tracing.js';
import { CoordinatorService } from '../gen/keychaindb/v1/coordinator.js';
import { type RaftServer, RaftService } from '../gen/keychaindb/v1/raft.js';
import { TelemetryService } from '../gen/keychaindb/v1/telemetry.js';
import { DataFolder, makeFolder } from '../log/data-folder.js';
import { openLog } from '../log/open-log.js';
import { RocksEngine } from '../log/rocks-engine.js';
import { startRaft } from '../raft/runtime.js';
import { RequestMeter } from '../telemetry/request-meter.js';
import { telemetryService } from '../telemetry/service.js';
import { storageMetrics } from '../telemetry/storage-metrics.js';
import { Connections, dialBidi, serveBidi } from '../wire/grpc-channel.js';
import { type GrpcListener, listen } from '../wire/grpc-server.js';
import { startHealthServer } from './health-server.js';
import { type TimingFlags, timingOf } from './options.js';
import { announce, fatal, untilStopped } from './process.js';
import { startTelemetry } from './telemetry.js';
import type { TelemetryFlags } from './telemetry-flags.js';

export interface CoordinatorFlags extends TimingFlags, TelemetryFlags {
  readonly id: string;
  readonly listen: string;
  readonly http: string;
  readonly dataDir: string;
  readonly initialCluster: ReadonlyMap<string, string>;
}

/** Runs one coordinator until it is told to stop. */
export async function runCoordinator(flags: CoordinatorFlags): Promise<void> {
  const { id, dataDir, initialCluster } = flags;
  if (!initialCluster.has(id)) {
    throw new KeychainError('BAD_REQUEST', `--initial-cluster does not name ${id} (--id)`);
  }
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
      `the log in ${dataDir} is damaged (${damage.kind}): ${damage.message}. ${id} votes no more with it. Where the other coordinators are a majority, move the folder away and start ${id} with an empty --data-dir only after it was removed from the group; never under the same id with an empty folder`,
    );
  }
  const connections = new Connections();
  const registry = new RegistryMachine();
  const timing = timingOf(flags);
  const clock = systemClock;
  const raft = await startRaft({
    id,
    peers: initialCluster,
    clock,
    random: systemRandom,
    timing,
    log,
    dialer: dialBidi(connections, 'raft', RaftService.messages),
    machine: registry,
    fatal: die,
  });
  registry.state$.subscribe(({ clusterId }) => {
    if (clusterId.byteLength > 0) folder.bindCluster(clusterId).catch(die);
  });
  const coordinator = startCoordinator({
    raft,
    registry,
    clock,
    random: systemRandom,
    timing,
    fatal: die,
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
    services: [
      {
        definition: CoordinatorService,
        implementation: coordinatorService(coordinator, clock, meter),
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
  await untilStopped();
  stopTracing();
  coordinator.close();
  await raft.close();
  connections.close();
  await listener.close();
  await http.close();
  await log.close();
  await telemetry.close();
}

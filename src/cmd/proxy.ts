import { BehaviorSubject } from 'rxjs';
import { noBytes } from '../base/bytes.js';
import { every, systemClock } from '../base/clock.js';
import { systemRandom } from '../base/random.js';
import {
  type ClusterStatusResponse,
  CoordinatorService,
  MemberState,
} from '../gen/keychaindb/v1/coordinator.js';
import { KVService } from '../gen/keychaindb/v1/kv.js';
import { TelemetryService } from '../gen/keychaindb/v1/telemetry.js';
import { startGateway } from '../proxy/gateway.js';
import { proxyMetrics } from '../proxy/metrics.js';
import { type ProxyHandle, startProxy } from '../proxy/runtime.js';
import { coordinatorService, kvHandler, kvService } from '../proxy/service.js';
import { type ClusterVerbs, clusterVerbs } from '../retry/cluster-verbs.js';
import { TelemetryPeers } from '../telemetry/peers.js';
import { RequestMeter } from '../telemetry/request-meter.js';
import { telemetryService } from '../telemetry/service.js';
import { traceIdOf } from '../telemetry/trace-context.js';
import { DirectCalls } from '../wire/direct-calls.js';
import { Connections, dialBidi, dialServerStream } from '../wire/grpc-channel.js';
import { listen } from '../wire/grpc-server.js';
import { protocolVersion } from '../wire/protocol-version.js';
import { startHandshake } from './handshake.js';
import { type LimitFlags, limitsOf, type TimingFlags, timingOf } from './options.js';
import { announce, fatal, untilStopped } from './process.js';
import { startTelemetry } from './telemetry.js';
import type { TelemetryFlags } from './telemetry-flags.js';
import type { WorkerLink } from './worker-link.js';

export interface ProxyFlags extends TimingFlags, LimitFlags, TelemetryFlags {
  readonly id: string;
  readonly listen: string;
  readonly http: string;
  readonly coordinators: readonly string[];
  readonly workers: number;
}

/**
 * Runs one proxy until it is told to stop.
 * @param worker where several processes are one proxy, and this is one of them
 */
export async function runProxy(flags: ProxyFlags, worker?: WorkerLink): Promise<void> {
  const { id, coordinators } = flags;
  const telemetry = startTelemetry('proxy', id, flags, worker?.index);
  const { log, traces, metrics, own } = telemetry;
  const handshake = startHandshake('proxy', id, telemetry, protocolVersion);
  const connections = new Connections(handshake);
  const clock = systemClock;
  const limits = limitsOf(flags);
  /** The first view says it. */
  const ownCluster = (): Uint8Array => proxy.view?.clusterId ?? noBytes;
  const cluster = clusterVerbs({ addresses: coordinators, clock, handshake, cluster: ownCluster });
  const addresses$ = new BehaviorSubject(coordinators);
  addresses$.subscribe((addresses) => cluster.follow(addresses));
  const stopLooking = every(clock, coordinatorsMs, () => {
    // Before that anybody would answer: what it says may be of another cluster.
    if (proxy.view === undefined) return;
    void coordinatorsNow(cluster, coordinators).then((found) => {
      // Where nobody answers, those that are known stay: the ones that were named may be gone for good.
      if (found !== undefined) addresses$.next(found);
    });
  });
  const meter = new RequestMeter();
  const peers = new TelemetryPeers(connections, clock, () => processes(proxy, cluster));
  const proxy = startProxy({
    id,
    clock,
    random: systemRandom,
    timing: timingOf(flags),
    views: {
      addresses$,
      dialer: dialServerStream(connections, 'views', CoordinatorService.watchViews),
    },
    nodes: dialBidi(connections, 'sessions', KVService.session),
    limits,
    telemetry: {
      meter,
      own,
      sink: traces,
      ratio: telemetry.ratio,
      slowMs: telemetry.slowMs,
      contentBytes: telemetry.contentBytes,
      micros: (ms) => telemetry.wall.micros(ms),
      keep: async (request, traceId) => {
        const asked = Buffer.from(traceId, 'hex');
        const wanted = { traceId: asked, entry: undefined, request, keep: true };
        return (await peers.getTrace(wanted)).spans;
      },
      answered: (verb, reason, ms, trace) => {
        if (!log.isLevelEnabled('debug')) return;
        log.debug({ verb, reason, ms, trace_id: traceIdOf(trace) || undefined }, 'answered');
      },
      noted: ({ traceId, verb, milliseconds, reason, unsaid }) => {
        const fields = { trace_id: traceId, verb, ms: Math.round(milliseconds), reason, unsaid };
        log.warn(fields, reason === '' ? 'a write was slow' : 'a write failed');
      },
    },
    fatal: fatal(log),
    notice: (text) => log.warn(text),
  });
  proxyMetrics(metrics, meter, proxy);
  worker?.answersFor(telemetry);
  const colon = flags.http.lastIndexOf(':');
  const gateway = await startGateway({
    host: flags.http.slice(0, colon),
    port: Number(flags.http.slice(colon + 1)),
    clock,
    proxy,
    cluster,
    random: systemRandom,
    limits,
    metrics: worker ?? metrics,
  });
  const listener = await listen({
    address: flags.listen,
    flag: '--listen',
    direct: new DirectCalls(kvHandler(proxy), systemRandom),
    handshake,
    cluster: ownCluster,
    services: [
      { definition: KVService, implementation: kvService(proxy, clock, systemRandom) },
      {
        definition: CoordinatorService,
        implementation: coordinatorService(proxy, cluster, clock),
      },
      {
        definition: TelemetryService,
        implementation: telemetryService({
          ...{ id, log, traces, others: peers },
          ...(worker && { siblings: worker }),
        }),
      },
    ],
  });
  proxy.view$.subscribe(({ members }) => {
    listener.serving(members.some((m) => m.state === MemberState.SERVING));
  });
  if (worker === undefined) announce(log, listener.address, gateway.address);
  else worker.listens(listener.address, gateway.address);
  telemetry.begin();
  await (worker?.untilStopped() ?? untilStopped());
  stopLooking();
  // Nobody is taken any more, and what was taken is finished; then the nodes are left.
  await Promise.all([gateway.close(), listener.close()]);
  await proxy.close();
  cluster.close();
  connections.close();
  await telemetry.close();
}

/** host:port of every node and coordinator, by id: of the view, and of the coordinators where they answer. */
async function processes(
  { view }: ProxyHandle,
  cluster: ClusterVerbs,
): Promise<ReadonlyMap<string, string>> {
  const members = [...(view?.members ?? []), ...(view?.others ?? [])];
  const nodes = members.map(({ id, address }) => [id, address] as const);
  const { members: group } = await cluster
    .status(statusMs)
    .catch((): Pick<ClusterStatusResponse, 'members'> => ({ members: {} }));
  return new Map([...nodes, ...Object.entries(group)]);
}

/** Milliseconds between two looks at where the coordinators are: they come and go. */
const coordinatorsMs = 1_000;

/** Those that were named at the start, and those that the group says it has; undefined where it says nothing. */
async function coordinatorsNow(
  cluster: ClusterVerbs,
  named: readonly string[],
): Promise<readonly string[] | undefined> {
  const answer = await cluster.status(statusMs).catch(() => undefined);
  return answer && [...new Set([...named, ...Object.values(answer.members)])];
}

/** Milliseconds that coordinators may take to say where they are. */
const statusMs = 1_000;

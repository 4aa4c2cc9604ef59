import { systemClock } from '../base/clock.js';
import { systemRandom } from '../base/random.js';
import { CoordinatorService, MemberState } from '../gen/keychaindb/v1/coordinator.js';
import { KVService } from '../gen/keychaindb/v1/kv.js';
import { startGateway } from '../proxy/gateway.js';
import { startProxy } from '../proxy/runtime.js';
import { coordinatorService, kvService } from '../proxy/service.js';
import { clusterVerbs } from '../retry/cluster-verbs.js';
import { Connections, dialBidi, dialServerStream } from '../wire/grpc-channel.js';
import { listen } from '../wire/grpc-server.js';
import { type LimitFlags, limitsOf, type TimingFlags, timingOf } from './options.js';
import { announce, fatal, untilStopped } from './process.js';

export interface ProxyFlags extends TimingFlags, LimitFlags {
  readonly id: string;
  readonly listen: string;
  readonly http: string;
  readonly coordinators: readonly string[];
}

/** Runs one proxy until it is told to stop. */
export async function runProxy(flags: ProxyFlags): Promise<void> {
  const { id, coordinators } = flags;
  const connections = new Connections();
  const clock = systemClock;
  const limits = limitsOf(flags);
  const proxy = startProxy({
    id,
    clock,
    random: systemRandom,
    timing: timingOf(flags),
    views: {
      addresses: coordinators,
      dialer: dialServerStream(connections, 'views', CoordinatorService.watchViews),
    },
    nodes: dialBidi(connections, 'sessions', KVService.session),
    limits,
    fatal: fatal(id),
  });
  const cluster = clusterVerbs({ addresses: coordinators, clock });
  const colon = flags.http.lastIndexOf(':');
  const gateway = await startGateway({
    host: flags.http.slice(0, colon),
    port: Number(flags.http.slice(colon + 1)),
    clock,
    proxy,
    cluster,
    random: systemRandom,
    limits,
  });
  const listener = await listen({
    address: flags.listen,
    flag: '--listen',
    services: [
      { definition: KVService, implementation: kvService(proxy, clock) },
      {
        definition: CoordinatorService,
        implementation: coordinatorService(proxy, cluster, clock),
      },
    ],
  });
  proxy.view$.subscribe(({ members }) => {
    listener.serving(members.some((m) => m.state === MemberState.SERVING));
  });
  announce(id, listener.address, gateway.address);
  await untilStopped();
  await proxy.close();
  await listener.close();
  await gateway.close();
  cluster.close();
  connections.close();
}

import { type Metrics, membersByState } from '../telemetry/metrics.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import * as limits from './limits.js';
import type { ProxyHandle } from './runtime.js';

/** The metrics of a proxy (docs/names.md). */
export function proxyMetrics(metrics: Metrics, meter: RequestMeter, proxy: ProxyHandle): void {
  const { state } = proxy;
  metrics.requests(meter);
  metrics.counter(
    'keychaindb_attempts_total',
    'Attempts at nodes: more than requests is retries.',
    () => {
      return state.nextAttempt - 1;
    },
  );
  metrics.gauge('keychaindb_view_epoch', 'The epoch of the newest view that was seen.', () => {
    return state.view?.epoch ?? 0;
  });
  metrics.gauge(
    'keychaindb_members',
    'Members of the newest view by state.',
    () => membersByState(proxy.view?.members ?? [], proxy.view?.others ?? []),
    'first',
  );
  metrics.gauge(
    'keychaindb_node_connected',
    '1 where the link to a node is up.',
    () =>
      [...state.nodes.values()].map(({ id, connected }) => ({
        labels: { node: id },
        value: connected ? 1 : 0,
      })),
    'min',
  );
  metrics.gauge(
    'keychaindb_node_in_flight',
    'Attempts at a node that wait for an answer.',
    () =>
      [...state.nodes.values()].map(({ id, inFlight }) => ({
        labels: { node: id },
        value: inFlight,
      })),
    'sum',
  );
  metrics.queues(() => [
    { name: 'operations', length: state.pendings.size, limit: limits.operationsMax },
    { name: 'operation_bytes', length: state.pendingBytes, limit: limits.operationBytesMax },
    { name: 'own_writes', length: state.ownWrites, limit: limits.writesMax },
  ]);
}

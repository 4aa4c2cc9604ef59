import type { StorageEngine } from '../log/engine.js';
import type { Metrics } from '../telemetry/metrics.js';
import { storageMetrics } from '../telemetry/storage-metrics.js';
import type { NodeMeter } from './meter.js';
import type { NodeHandle } from './node.js';
import { isLeased } from './promise.js';
import { servesIn } from './views.js';

export interface NodeMetricsOptions {
  readonly metrics: Metrics;
  readonly meter: NodeMeter;
  /** The present incarnation; undefined before the first. */
  readonly node: () => NodeHandle | undefined;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly engine: StorageEngine;
}

/** The metrics of a chain node (docs/names.md). */
export function nodeMetrics(options: NodeMetricsOptions): void {
  const { metrics, meter, node, now, engine } = options;
  const state = () => node()?.state;
  const read = (of: (state: NodeHandle['state']) => number) => () => {
    const present = state();
    return present === undefined ? Number.NaN : of(present);
  };
  const gauge = (name: string, help: string, of: (state: NodeHandle['state']) => number): void =>
    metrics.gauge(`keychaindb_${name}`, help, read(of));
  metrics.requests(meter.requests);
  gauge('revision', 'The newest entry of the log.', ({ ledger }) => ledger.last.index);
  gauge('synced_revision', 'The newest entry on the disk.', ({ ledger }) => ledger.synced.index);
  gauge('watermark', 'The newest entry known to be committed.', ({ ledger }) => {
    return ledger.watermark.index;
  });
  gauge('lag_entries', 'Entries of the log that are not known to be committed.', ({ ledger }) => {
    return ledger.last.index - ledger.watermark.index;
  });
  gauge('log_start_revision', 'The log begins after this revision.', (s) => s.kept.start.id.index);
  gauge('base_revision', 'Of the newest base: the log before it may go.', (s) => {
    return s.kept.base.id.index;
  });
  gauge('incomplete', '1 while a snapshot is put into the store.', (s) => (s.incomplete ? 1 : 0));
  gauge('staged_keys', 'Dirty keys: something of them is staged above the watermark.', (s) => {
    return s.ledger.dirty.size;
  });
  gauge('sessions', 'Clients whose outcomes are kept.', ({ ledger }) => ledger.sessions.size);
  metrics.counter(
    'keychaindb_tail_queries_sent_total',
    'Watermark queries to the tail, of this incarnation.',
    read(({ counters }) => counters.queriesSent),
  );
  metrics.counter(
    'keychaindb_tail_queries_answered_total',
    'Watermark queries answered as tail, of this incarnation.',
    read(({ counters }) => counters.queriesAnswered),
  );
  gauge('lease_valid', '1 where every peer has promised: reads are answered here.', (s) => {
    return isLeased(s, now()) ? 1 : 0;
  });
  gauge('lease_remaining_seconds', 'Until the first promise of a peer runs out.', (s) => {
    const until = s.leaseUntil;
    return Number.isFinite(until) ? Math.max(0, until - now()) / 1_000 : Number.NaN;
  });
  gauge('view_epoch', 'The epoch of the newest view that was seen.', (s) => s.seen?.epoch ?? 0);
  gauge('active_epoch', 'The epoch that this node takes part in; 0: none.', (s) => {
    return s.active?.epoch ?? 0;
  });
  gauge(
    'state_compared_revision',
    'The whole state was equal to the predecessor’s since; 0: not yet.',
    (s) => {
      return s.comparison.through;
    },
  );
  gauge('state_differs', '1 where a neighbour’s state was found to be another one.', (s) => {
    return s.damage !== undefined && s.damage.outlier !== '' ? 1 : 0;
  });
  gauge('store_damaged', '1 where a record of this store can’t be read.', (s) => {
    return s.damage?.outlier === '' ? 1 : 0;
  });
  gauge('serving', '1 where this node is a serving member.', (s) => {
    return !s.removed && s.active !== undefined && servesIn(s.active, s.self) ? 1 : 0;
  });
  metrics.gauge('keychaindb_chain_position', 'Place in the chain: 1 is the head; 0: none.', () => {
    return node()?.tracing.place?.position ?? 0;
  });
  metrics.gauge('keychaindb_chain_role', '1 at the role that this node has in the chain.', () => {
    const role = node()?.tracing.place?.role;
    return role === undefined ? [] : [{ labels: { chain_role: role }, value: 1 }];
  });
  metrics.gauge('keychaindb_object_cache_bytes', 'Objects kept in memory, about.', () => {
    return node()?.objectCache.bytes ?? 0;
  });
  metrics.counter(
    'keychaindb_object_cache_hits_total',
    'Objects that were wanted and in memory, of this incarnation.',
    () => node()?.objectCache.hits ?? 0,
  );
  metrics.counter(
    'keychaindb_object_cache_misses_total',
    'Objects that were wanted and had to be read, of this incarnation.',
    () => node()?.objectCache.misses ?? 0,
  );
  metrics.counter('keychaindb_incarnations_total', 'Incarnations since the process began.', () => {
    return meter.incarnations;
  });
  metrics.counter(
    'keychaindb_link_messages_total',
    'Messages to successors, of this incarnation.',
    () => node()?.linkMeter.messages ?? 0,
  );
  metrics.counter(
    'keychaindb_link_entries_total',
    'Entries sent to successors, of this incarnation.',
    () => node()?.linkMeter.entries ?? 0,
  );
  histograms(metrics, meter);
  metrics.queues(() => node()?.queues ?? []);
  storageMetrics(metrics, engine);
}

function histograms(metrics: Metrics, meter: NodeMeter): void {
  const one = (name: string, help: string, histogram: NodeMeter['syncs']): void =>
    metrics.histogram(`keychaindb_${name}`, help, () => [{ histogram }]);
  one('log_sync_duration_seconds', 'From the begin of a batch to its sync.', meter.syncs);
  one(
    'chain_forward_duration_seconds',
    'From sending a block to its sync at the successor.',
    meter.forwards,
  );
  one('chain_commit_duration_seconds', 'From a block’s arrival to its commit.', meter.commits);
  one('log_batch_entries', 'Entries in a group commit.', meter.batches);
}

import type { StorageEngine } from '../log/engine.js';
import type { Metrics } from './metrics.js';

/** What RocksDB says of itself. */
export function storageMetrics(metrics: Metrics, engine: StorageEngine): void {
  const properties: readonly (readonly [name: string, property: string, help: string])[] = [
    ['sst_bytes', 'rocksdb.total-sst-files-size', 'Bytes in table files.'],
    ['live_data_bytes', 'rocksdb.estimate-live-data-size', 'Bytes that are live, estimated.'],
    ['memtable_bytes', 'rocksdb.cur-size-all-mem-tables', 'Bytes in memtables.'],
    ['block_cache_bytes', 'rocksdb.block-cache-usage', 'Bytes in the block cache.'],
    [
      'table_readers_bytes',
      'rocksdb.estimate-table-readers-mem',
      'Bytes of indexes and filters of open tables, estimated.',
    ],
    ['keys', 'rocksdb.estimate-num-keys', 'Keys, estimated: log, objects and sessions.'],
    ['level0_files', 'rocksdb.num-files-at-level0', 'Files at level 0.'],
    ['pending_compaction_bytes', 'rocksdb.estimate-pending-compaction-bytes', 'Bytes to compact.'],
    ['running_compactions', 'rocksdb.num-running-compactions', 'Compactions that run.'],
    ['write_stopped', 'rocksdb.is-write-stopped', '1 where RocksDB takes no writes.'],
    ['background_errors', 'rocksdb.background-errors', 'Errors in the background, ever.'],
  ];
  for (const [name, property, help] of properties) {
    metrics.gauge(`keychaindb_rocksdb_${name}`, help, () => {
      return engine.property?.(property) ?? Number.NaN;
    });
  }
}

import { ChainRecord } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import type { EventLog } from '../../src/log/event-log.js';
import { openLog } from '../../src/log/open-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';

/** Opens the log of a stopped folder for writing. */
export async function openForWriting(dir: string): Promise<EventLog> {
  const { log } = await openLog({
    engine: await RocksEngine.open(dir),
    fatal: (error) => {
      throw error;
    },
  });
  return log;
}

/** Appends a block of one put that is not committed. */
export function appendPut(
  log: EventLog,
  key: Uint8Array,
  value: Uint8Array,
  generation = log.last.generation,
): void {
  const index = log.last.index + 1;
  const record = {
    $case: 'put' as const,
    value: { key, value, createRevision: index, version: 1, lease: 0 },
  };
  const payload = ChainRecord.encode({ record }).finish();
  const entry = {
    ...{ generation, index, at: 1_800_000_000_000, request: undefined, payload },
    ...{ trace: new Uint8Array(0), checksum: payloadChecksum(payload), isGroup: false },
  };
  log.append([encodeBlock({ chainId: 1, previous: log.last, entries: [entry] })]);
}

export async function appendEntry(dir: string, key: Uint8Array, value: Uint8Array): Promise<void> {
  const log = await openForWriting(dir);
  appendPut(log, key, value);
  await log.close();
}

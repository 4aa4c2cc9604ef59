import { toMapKey } from '../../src/base/bytes.js';
import { CommitChanges } from '../../src/chain/commit-changes.js';
import { commitThrough, emptyLedger, stageBlock } from '../../src/chain/fold.js';
import { recordSeen } from '../../src/chain/node-store.js';
import { Objects } from '../../src/chain/objects.js';
import type { View } from '../../src/gen/keychaindb/v1/coordinator.js';
import { ChainRecord, type Envelope, type RequestId } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import { DataFolder, makeFolder } from '../../src/log/data-folder.js';
import { type LogBlock, origin } from '../../src/log/event-log.js';
import { openLog } from '../../src/log/open-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { SeededRandom } from '../../test/sim/schedule.js';

export interface SampleOptions {
  readonly id?: string;
  readonly entries: number;
  /** Entries of one block. */
  readonly blockSize?: number;
  /** Keys are `<name>/<number>`. */
  readonly keys?: number;
  readonly name?: string;
  readonly seed?: number;
  /** The value of an entry, if not `value <index>`. */
  readonly value?: (index: number) => string | undefined;
  readonly valueBytes?: number;
  /** One write in so many deletes; 0: none. */
  readonly deleteEvery?: number;
}

/** Milliseconds since 1970 of the first entry. */
const firstAt = 1_790_000_000_000;
const clients = 4;

/** Writes the folder of a node that has taken so many writes, with the code of a node: log, objects, sessions. */
export async function writeSampleLog(dir: string, options: SampleOptions): Promise<void> {
  const { id = 'node-1', entries, blockSize = 20, keys = 1_000, seed = 1 } = options;
  await makeFolder(dir);
  const folder = await DataFolder.open({
    dir,
    kind: 'node',
    id,
    random: new SeededRandom(seed),
    openEngine: (path) => RocksEngine.open(path),
  });
  const { log } = await openLog({
    engine: folder.engine,
    fatal: (error) => {
      throw error;
    },
  });
  const view: View = {
    ...{ chainId: 1, epoch: 1, lineage: 1, length: 0, clusterId: new Uint8Array(16).fill(9) },
    ...{ members: [], others: [] },
  };
  log.record(recordSeen(view), { sync: false });
  const random = new SeededRandom(seed);
  const ledger = emptyLedger();
  const changes = new CommitChanges(new Objects(log, 0));
  const versions = new Map<string, { createRevision: number; version: number }>();
  let previous = origin;
  for (let done = 0; done < entries; ) {
    const size = Math.min(blockSize, entries - done);
    const block: LogBlock = encodeBlock({
      chainId: 1,
      previous,
      entries: Array.from({ length: size }, (_, i) =>
        entryOf(previous.index + 1 + i, Math.floor(random.float() * keys), versions, options),
      ),
    });
    stageBlock(ledger, block);
    commitThrough(ledger, block.end, changes);
    log.append([block]);
    changes.committed(block.end, 0);
    changes.store();
    previous = block.end;
    done += size;
    // Many blocks in one batch: a sync each would take its time.
    if (done % (blockSize * 200) === 0) await log.settled();
  }
  await log.close();
}

function entryOf(
  index: number,
  number: number,
  versions: Map<string, { createRevision: number; version: number }>,
  { value, valueBytes = 0, deleteEvery = 0, name: names = 'key' }: SampleOptions,
): Envelope {
  const key = new TextEncoder().encode(`${names}/${number}`);
  const name = toMapKey(key);
  const before = versions.get(name);
  const isDelete = deleteEvery > 0 && index % deleteEvery === 0;
  let record: NonNullable<ChainRecord['record']>;
  if (isDelete) {
    record = { $case: 'delete', value: { key, existed: before !== undefined } };
    versions.delete(name);
  } else {
    const after = {
      createRevision: before?.createRevision ?? index,
      version: (before?.version ?? 0) + 1,
    };
    versions.set(name, after);
    const text = (value?.(index) ?? `value ${index}`).padEnd(valueBytes, '.');
    const put = { key, value: new TextEncoder().encode(text), ...after, lease: 0 };
    record = { $case: 'put', value: put };
  }
  const payload = ChainRecord.encode({ record }).finish();
  return {
    generation: 1,
    index,
    at: firstAt + index,
    request: requestOf(index),
    trace: new Uint8Array(0),
    payload,
    checksum: payloadChecksum(payload),
    isGroup: false,
  };
}

/** The clients take turns. */
function requestOf(index: number): RequestId {
  const seq = Math.ceil(index / clients);
  const clientId = new Uint8Array(16).fill(1 + (index % clients));
  return { clientId, seq, answeredBelow: Math.max(1, seq - 10) };
}

import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { CommitChanges } from '../../src/chain/commit-changes.js';
import { commitThrough, emptyLedger, stageBlock } from '../../src/chain/fold.js';
import { Objects } from '../../src/chain/objects.js';
import { StateChunk, stateEnd } from '../../src/chain/state-chunk.js';
import { ChainRecord, type EntryId, type Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import type { EventLog, LogBlock } from '../../src/log/event-log.js';
import { objectKey, objectPrefix } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { seal } from '../../src/log/record.js';
import { refusal } from '../refusal.js';
import { SeededRandom } from '../sim/schedule.js';

const fatal = (error: unknown): void => {
  throw error;
};

/** A store that commits what it is given, at once. */
class Store {
  readonly engine = new MemoryEngine();
  readonly ledger = emptyLedger();
  #log: EventLog | undefined;
  #changes: CommitChanges | undefined;

  async open(): Promise<this> {
    this.#log = (await openLog({ engine: this.engine, fatal })).log;
    this.#changes = new CommitChanges(new Objects(this.#log, 0));
    return this;
  }

  get log(): EventLog {
    if (this.#log === undefined) throw new Error('not open');
    return this.#log;
  }

  /** In the log and on the disk, as it is at every serving member before anything of it is committed. */
  async append(blocks: readonly LogBlock[]): Promise<void> {
    this.log.append(blocks);
    for (const block of blocks) stageBlock(this.ledger, block);
    await this.log.settled();
  }

  commit(through: EntryId): void {
    if (this.#changes === undefined) throw new Error('not open');
    commitThrough(this.ledger, through, this.#changes);
    this.#changes.committed(through, 0);
    this.#changes.store();
  }

  /** The key of one that is stored. */
  anObject(): Uint8Array {
    const keys = Array.from({ length: 12 }, (_, i) => objectKey(Buffer.from(`key-${i}`)));
    const found = keys.find((key) => this.engine.peek(key) !== undefined);
    if (found === undefined) throw new Error('there is none');
    return found;
  }

  read(from = objectPrefix, records = 1_000, to = stateEnd): Promise<StateChunk> {
    const limits = { records, bytes: 1 << 20 };
    return StateChunk.read(this.log, from, to, limits, () => this.ledger.watermark);
  }
}

/** Puts, deletes and expiries of a few keys and clients, in blocks of some. */
function history(random: SeededRandom, count: number): readonly LogBlock[] {
  const blocks: LogBlock[] = [];
  let previous: EntryId = emptyLedger().last;
  const seqs = [1, 1, 1, 1];
  while (blocks.length < count) {
    const entries: Envelope[] = [];
    for (let i = 0; i <= random.int(3); i += 1) {
      const index = previous.index + entries.length + 1;
      const key = Buffer.from(`key-${random.int(12)}`);
      const value = Buffer.from(`value-${index}`);
      const who = random.int(seqs.length);
      const seq = seqs[who] ?? 1;
      seqs[who] = seq + 1;
      const clientId = new Uint8Array(16).fill(who + 1);
      const answeredBelow = Math.max(1, seq - random.int(4));
      const put = { key, value, createRevision: index, version: 1, lease: 0 };
      const record: ChainRecord['record'] = random.chance(0.7)
        ? { $case: 'put', value: put }
        : { $case: 'delete', value: { key, existed: true } };
      const payload = ChainRecord.encode({ record }).finish();
      entries.push({
        ...{ generation: 1, index, at: 1_000 + index, trace: noBytes, isGroup: false },
        ...{ request: { clientId, seq, answeredBelow }, payload },
        checksum: payloadChecksum(payload),
      });
    }
    const block = encodeBlock({ chainId: 1, previous, entries });
    blocks.push(block);
    previous = block.end;
  }
  return blocks;
}

const newer = (a: EntryId, b: EntryId): EntryId => (a.index > b.index ? a : b);

t.test('parts that were read at any moments amid commits hash the same at one entry', async (t) => {
  let rolled = 0;
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = new SeededRandom(seed);
    const stores = [await new Store().open(), await new Store().open()] as const;
    const blocks = history(random, 40);
    for (const store of stores) await store.append(blocks);
    // Each commits at its own pace, while its parts are read.
    const committing = stores.map(async (store) => {
      const pace = random.fork();
      for (const { end } of blocks) {
        if (pace.chance(0.6)) store.commit(end);
        for (let i = pace.int(12); i > 0; i -= 1) await Promise.resolve();
      }
      store.commit(blocks.at(-1)?.end ?? emptyLedger().last);
    });
    let from: Uint8Array = objectPrefix;
    for (let part = 0; ; part += 1) {
      const own = await stores[1].read(from, 1 + random.int(6));
      for (let i = random.int(20); i > 0; i -= 1) await Promise.resolve();
      const theirs = await stores[0].read(from, 1 + random.int(9), own.range.to);
      const at = newer(own.range.through, theirs.range.through);
      const { to } = theirs.range;
      const [a, b] = await Promise.all([
        theirs.hashAt(stores[0].log, at),
        own.hashAt(stores[1].log, at, to),
      ]);
      if (at.index > own.range.through.index) rolled += 1;
      t.ok(a?.hash !== undefined && a.hash === b?.hash, `seed ${seed}, part ${part}`);
      if (Buffer.compare(to, stateEnd) === 0) break;
      from = to;
    }
    await Promise.all(committing);
  }
  t.ok(rolled > 50, `${rolled} parts were brought to a later entry`);
});

t.test('one object that is another one, or is missing, makes another hash', async (t) => {
  const blocks = history(new SeededRandom(1), 30);
  const hashes = new Set<string>();
  for (const harm of ['none', 'other', 'missing', 'added'] as const) {
    const store = await new Store().open();
    await store.append(blocks);
    store.commit(blocks.at(-1)?.end ?? emptyLedger().last);
    await store.log.settled();
    const some = store.anObject();
    const value = seal(some, Buffer.from([10, 1, 65]));
    if (harm === 'other') store.engine.replace(some, value);
    if (harm === 'missing') store.engine.lose(some);
    const added = objectKey(Buffer.from('key-00'));
    if (harm === 'added') store.engine.replace(added, seal(added, Buffer.from([10, 1, 65])));
    const chunk = await store.read();
    hashes.add((await chunk.hashAt(store.log, chunk.range.through))?.hash ?? '');
  }
  t.equal(hashes.size, 4);
});

t.test('a damaged record is named; a log that lost its beginning gives no hash', async (t) => {
  const store = await new Store().open();
  const blocks = history(new SeededRandom(2), 10);
  await store.append(blocks);
  store.commit(blocks[4]?.end ?? emptyLedger().last);
  await store.log.settled();
  const chunk = await store.read();
  store.commit(blocks[9]?.end ?? emptyLedger().last);
  store.log.drop(blocks[7]?.end ?? emptyLedger().last);
  await store.log.settled();
  await t.rejects(chunk.hashAt(store.log, store.ledger.watermark), { name: 'BlocksDropped' });
  store.engine.flipByte(store.anObject(), 1);
  await t.rejects(store.read(), refusal('CORRUPT'));
});

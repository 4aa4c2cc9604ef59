import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { incompleteKey } from '../../src/chain/base.js';
import { emptyLedger } from '../../src/chain/fold.js';
import { recordSeen, remember } from '../../src/chain/node-store.js';
import { openStore } from '../../src/chain/open-store.js';
import { ChainRecord, EntryId } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import { DataFolder } from '../../src/log/data-folder.js';
import { blockKey, metaKey } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { seal, unseal } from '../../src/log/record.js';
import { readError } from '../../src/log/rocks-status.js';
import { SeededRandom } from '../sim/schedule.js';
import { view } from './pure-cluster.js';

const fatal = (error: unknown): void => {
  throw error;
};

let seed = 1;

interface Opened {
  readonly notices: readonly string[];
  readonly last: number;
  readonly storeId: Uint8Array;
}

async function open(engine: MemoryEngine): Promise<Opened> {
  const notices: string[] = [];
  seed += 1;
  const random = new SeededRandom(seed);
  const folder = await DataFolder.open({
    dir: 'a',
    kind: 'node',
    id: 'a',
    random,
    openEngine: () => Promise.resolve(engine),
  });
  const log = await openStore({
    folder,
    id: 'a',
    fatal,
    notice: (text) => notices.push(text),
    emptyAtNextOpen: () => Promise.reject(new Error('not needed')),
  });
  const { last } = log;
  await log.release();
  return { notices, last: last.index, storeId: folder.storeId };
}

/** A store of `a` in a chain of these, with two entries, both committed. */
async function stored(members: string): Promise<MemoryEngine> {
  const engine = new MemoryEngine();
  const random = new SeededRandom(1);
  const openEngine = (): Promise<MemoryEngine> => Promise.resolve(engine);
  const folder = await DataFolder.open({ dir: 'a', kind: 'node', id: 'a', random, openEngine });
  const options = { folder, id: 'a', fatal, notice: () => undefined };
  const log = await openStore({ ...options, emptyAtNextOpen: () => Promise.resolve() });
  let previous = emptyLedger().last;
  for (const index of [1, 2]) {
    const payload = ChainRecord.encode({ record: { $case: 'nothing', value: {} } }).finish();
    const checksum = payloadChecksum(payload);
    const entry = {
      ...{ generation: 1, index, at: 1, request: undefined },
      ...{ trace: noBytes, payload, checksum, isGroup: false },
    };
    const block = encodeBlock({ chainId: 1, previous, entries: [entry] });
    log.append([block], recordSeen(view(1, members)));
    previous = block.end;
    await log.settled();
  }
  const value = EntryId.encode(previous).finish();
  log.record([{ type: 'put', key: metaKey('watermark'), value }], { sync: true });
  await log.release();
  return engine;
}

t.test('a start remembers the time of its newest entry, which no client wrote', async (t) => {
  const { log } = await openLog({ engine: await stored('a b'), fatal });
  const { ledger } = await remember(log);
  t.equal(ledger?.lastAt, 1);
});

t.test('a whole store opens as it is', async (t) => {
  t.match(await open(await stored('a b')), { notices: [], last: 2 });
});

t.test(
  'a log that ends below its watermark is damaged, also where the high-water is too old to tell',
  async (t) => {
    const engine = await stored('a b');
    const before = await open(engine);
    engine.lose(blockKey(2));
    await engine.writeHighWater(noBytes);
    const after = await open(engine);
    t.match(after.notices, [/the log ends at entry 1; entry 2 was committed here/]);
    t.equal(after.last, 0, 'it is emptied and synced anew');
    t.notSame(after.storeId, before.storeId, 'it is no copy any more');
  },
);

t.test('the last copy of a chain is not emptied, whatever is wrong with it', async (t) => {
  const engine = await stored('a');
  engine.lose(blockKey(2));
  await engine.writeHighWater(noBytes);
  await t.rejects(open(engine), { message: /a is the last that served this chain/ });
  t.ok(await engine.get(blockKey(1)), 'nothing was changed');
});

t.test('a part of a snapshot is emptied, also where it would be the last copy', async (t) => {
  const engine = await stored('a');
  const before = await open(engine);
  await engine.write([{ type: 'put', key: incompleteKey, value: seal(incompleteKey, noBytes) }], {
    sync: true,
  });
  const after = await open(engine);
  t.match(after.notices, [/holds a part of a snapshot only\. It was emptied/]);
  t.equal(after.last, 0);
  t.notSame(after.storeId, before.storeId, 'it is no copy any more');
  t.match(await open(engine), { notices: [], storeId: after.storeId }, 'once');
});

t.test(
  'a store that can not be read for want of a file handle is left as it is, wherever that happens',
  async (t) => {
    const error = readError(
      new Error('IO error: While open a file for random read: /a/1.sst: Too many open files'),
    );
    const whole = await stored('a b');
    let reads = 0;
    const failing = (at: number): MemoryEngine => {
      const engine = whole.copy();
      reads = 0;
      const fail = (): void => {
        reads += 1;
        if (reads === at) throw error;
      };
      const get = engine.get.bind(engine);
      const scan = engine.scan.bind(engine);
      engine.get = async (key) => {
        fail();
        return get(key);
      };
      engine.scan = async function* (range) {
        fail();
        yield* scan(range);
      };
      return engine;
    };
    await open(failing(0));
    const all = reads;
    t.ok(all > 10);
    for (let at = 1; at <= all; at += 1) {
      const engine = failing(at);
      await t.rejects(open(engine), { reason: 'INTERNAL', message: /Raise the limit/ }, `${at}`);
      t.same(engine.durableKeys, whole.durableKeys);
      t.match(await open(engine.copy()), { notices: [], last: 2 });
    }
  },
);

t.test('a damaged record of the largest lease costs time, not data', async (t) => {
  for (const members of ['a b', 'a']) {
    const engine = await stored(members);
    const value = Buffer.from('400');
    const key = metaKey('lease-max');
    await engine.write([{ type: 'put', key, value: seal(key, value) }], { sync: true });
    t.match(await open(engine), { notices: [], last: 2 });
    engine.flipByte(key, 0);
    const mended = await open(engine);
    t.match(mended, { notices: [/it may serve after 60 s/], last: 2 });
    t.equal(Buffer.from(unseal(key, (await engine.get(key)) ?? noBytes)).toString(), '60000');
    t.match(await open(engine), { notices: [], last: 2 }, 'once');
  }
});

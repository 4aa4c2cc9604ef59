import t, { type Test } from 'tap';
import { toHex } from '../../src/base/bytes.js';
import type { Random } from '../../src/base/random.js';
import {
  DataFolder,
  type FolderKind,
  formatOfBases,
  readIdentity,
} from '../../src/log/data-folder.js';
import type { StorageEngine, WriteOp } from '../../src/log/engine.js';
import { origin } from '../../src/log/event-log.js';
import { blockKey, metaKey, objectKey } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { seal } from '../../src/log/record.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { refusal } from '../refusal.js';
import { all, blocks, key, nameOf, text } from './support.js';

const dir = '/data/n1';

/** Bytes that never repeat. */
function counting(): Random {
  let count = 0;
  return {
    float: () => 0.5,
    bytes: (size) => {
      count += 1;
      return new Uint8Array(size).fill(count);
    },
  };
}

const random = counting();

function open(
  engine: StorageEngine,
  as: { readonly kind?: FolderKind; readonly id?: string } = {},
): Promise<DataFolder> {
  const { kind = 'node', id = 'n1' } = as;
  return DataFolder.open({ dir, kind, id, random, openEngine: async () => engine });
}

/** What the folder holds after its process has ended. */
function restarted(folder: DataFolder): MemoryEngine {
  return (folder.engine as MemoryEngine).crash({ power: true });
}

async function refused(t: Test, opening: Promise<unknown>, message: string): Promise<void> {
  await t.rejects(opening, refusal('BAD_REQUEST', { dir }));
  await t.rejects(opening, { message });
}

t.test('a new folder gets an identity, which stays', async (t) => {
  const folder = await open(new MemoryEngine());
  t.equal(folder.storeId.byteLength, 16);
  const again = await open(restarted(folder));
  t.equal(toHex(again.storeId), toHex(folder.storeId));
  const other = await open(new MemoryEngine());
  t.not(toHex(other.storeId), toHex(folder.storeId));
});

t.test('a folder of another kind is refused', async (t) => {
  const engine = restarted(await open(new MemoryEngine(), { kind: 'coordinator', id: 'n1' }));
  await refused(
    t,
    open(engine),
    `the data folder ${dir} was written by a coordinator; this is a node: use another --data-dir`,
  );
});

t.test('a folder of another id is refused', async (t) => {
  const engine = restarted(await open(new MemoryEngine(), { id: 'n2' }));
  await refused(
    t,
    open(engine),
    `the data folder ${dir} was written by node n2; this is node n1: use another --data-dir`,
  );
});

t.test('a folder of a newer format is refused', async (t) => {
  const engine = restarted(await open(new MemoryEngine()));
  const at = metaKey('identity');
  const identity = JSON.parse(text((await engine.get(at))?.slice(0, -4) ?? key('{}')));
  const newer = key(JSON.stringify({ ...identity, format: 3 }));
  await engine.write([{ type: 'put', key: at, value: seal(at, newer) }], { sync: true });
  await refused(
    t,
    open(engine),
    `the data folder ${dir} was written in format 3; this program knows formats through 2: use a newer one`,
  );
});

t.test('a damaged identity is damage, not a new folder', async (t) => {
  const engine = restarted(await open(new MemoryEngine()));
  t.ok(engine.flipByte(metaKey('identity'), 3));
  await t.rejects(open(engine), refusal('CORRUPT', { record: 'm/identity' }));
});

t.test('a folder of another cluster is refused', async (t) => {
  const [ours, theirs] = [Uint8Array.of(1, 2), Uint8Array.of(3, 4)];
  const folder = await open(new MemoryEngine());
  await folder.bindCluster(ours);
  await folder.bindCluster(ours);
  await refused(
    t,
    folder.bindCluster(theirs),
    `the data folder ${dir} belongs to cluster 0102, not 0304: use another --data-dir, or the coordinators of that cluster`,
  );
  const again = await open(restarted(folder));
  await refused(t, again.bindCluster(theirs), 'the data folder');
  await again.bindCluster(ours);
});

t.test('an incarnation is the wall clock, and rises when that goes back', async (t) => {
  let folder = await open(new MemoryEngine());
  t.equal(await folder.nextIncarnation(1_000.7), 1_000);
  t.equal(await folder.nextIncarnation(1_000), 1_001);
  folder = await open(restarted(folder));
  t.equal(await folder.nextIncarnation(500), 1_002, 'also after a restart');
  t.equal(await folder.nextIncarnation(5_000), 5_000);
  folder = await open(restarted(folder));
  t.equal(await folder.nextIncarnation(0), 5_001);
  t.equal(await folder.nextIncarnation(0, 9_000), 9_001, 'above one of another store');
});

t.test('an incarnation is on the disk before it is used', async (t) => {
  const engine = new MemoryEngine();
  const folder = await open(engine);
  engine.failSyncs(new Error('the disk is gone'));
  await t.rejects(folder.nextIncarnation(1_000), { message: 'the disk is gone' });
  t.equal(await (await open(engine.crash({ power: true }))).nextIncarnation(7), 7);
});

const put = (at: Uint8Array, value: string): WriteOp => ({
  type: 'put',
  key: at,
  value: key(value),
});

/** A folder with blocks, objects and records, bound to a cluster. */
async function filled(): Promise<DataFolder> {
  const folder = await open(new MemoryEngine());
  await folder.bindCluster(Uint8Array.of(1));
  await folder.nextIncarnation(1_000);
  const { log } = await openLog({ engine: folder.engine, fatal: () => undefined });
  log.append(blocks(origin, 5), [put(metaKey('lease-max'), '400'), put(metaKey('seen'), 'view')]);
  log.append(blocks({ generation: 1, index: 5 }, 5));
  await log.settled();
  log.record([put(objectKey(key('k')), 'v')], { sync: true });
  await log.settled();
  return folder;
}

async function keysOf(engine: StorageEngine): Promise<readonly string[]> {
  const everything = { gte: Uint8Array.of(0), lt: Uint8Array.of(255) };
  return (await all(engine.scan(everything))).map(([k]) => text(k));
}

t.test('wipe leaves the identity and the named records, with a new store id', async (t) => {
  const folder = await filled();
  const before = toHex(folder.storeId);
  await folder.wipe([metaKey('lease-max'), metaKey('missing')]);
  t.same(await keysOf(folder.engine), ['midentity', 'mlease-max']);
  t.not(toHex(folder.storeId), before);
  // Its high-water is not synced: a power cut might bring the old one back, and it is wiped again.
  const again = await open((folder.engine as MemoryEngine).crash({ power: false }));
  t.equal(toHex(again.storeId), toHex(folder.storeId));
  t.equal(await again.nextIncarnation(5), 1_001, 'incarnations go on');
  await again.bindCluster(Uint8Array.of(2));
  const { log, damage } = await openLog({ engine: again.engine, fatal: () => undefined });
  t.equal(damage, undefined, 'an emptied store is not behind');
  t.equal(nameOf(log.last), '0/0');
  t.same(await log.get(metaKey('lease-max')), key('400'));
});

t.test('wipe takes a damaged store too', async (t) => {
  const folder = await filled();
  (folder.engine as MemoryEngine).flipByte(blockKey(3), 2);
  (folder.engine as MemoryEngine).lose(blockKey(4));
  await folder.wipe();
  t.same(await keysOf(folder.engine), ['midentity']);
});

/** Lets some writes through; at the next one the process is gone. */
function endsAfter(memory: MemoryEngine, writes: number): StorageEngine {
  let left = writes;
  return {
    get: (k) => memory.get(k),
    scan: (range) => memory.scan(range),
    close: () => memory.close(),
    readHighWater: () => memory.readHighWater(),
    writeHighWater: (value) => memory.writeHighWater(value),
    write: (ops, options) => {
      left -= 1;
      return left < 0 ? Promise.reject(new Error('it ends here')) : memory.write(ops, options);
    },
  };
}

t.test('a wipe that ends early loses no kept record, and is no copy any more', async (t) => {
  for (const writes of [0, 1]) {
    const whole = await filled();
    const before = toHex(whole.storeId);
    const memory = restarted(whole);
    const folder = await open(endsAfter(memory, writes));
    await t.rejects(folder.wipe([metaKey('lease-max')]), { message: 'it ends here' });
    const again = await open(memory.crash({ power: false }));
    t.equal(toHex(again.storeId) === before, writes === 0, 'only a whole one has the old id');
    const { log } = await openLog({ engine: again.engine, fatal: () => undefined });
    t.same(await log.get(metaKey('lease-max')), key('400'));
  }
});

t.test('a folder that is refused is closed again', async (t) => {
  const real = t.testdir();
  const options = { dir: real, kind: 'node', random, openEngine: RocksEngine.open } as const;
  const folder = await DataFolder.open({ ...options, id: 'n1' });
  await folder.engine.close();
  await t.rejects(DataFolder.open({ ...options, id: 'n2' }), refusal('BAD_REQUEST'));
  const again = await DataFolder.open({ ...options, id: 'n1' });
  t.equal(toHex(again.storeId), toHex(folder.storeId));
  await again.wipe([]);
  await again.engine.close();
});

t.test(
  'a folder gets a newer format when it comes to hold what older programs do not know',
  async (t) => {
    const engine = new MemoryEngine();
    const folder = await open(engine);
    t.equal((await readIdentity(engine))?.format, 1, 'an older program may go on with a new one');
    await folder.raiseFormat(formatOfBases);
    await folder.raiseFormat(1);
    await folder.nextIncarnation(1);
    t.equal((await readIdentity(engine))?.format, 2, 'and it never goes back');
    await open(restarted(folder));
  },
);

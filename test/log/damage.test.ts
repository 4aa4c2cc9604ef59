import { execFile } from 'node:child_process';
import { cp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import type { StorageEngine } from '../../src/log/engine.js';
import { type EventLog, type LogBlock, origin } from '../../src/log/event-log.js';
import { HighWater } from '../../src/log/high-water.js';
import { blockKey, markerKey, metaKey } from '../../src/log/keys.js';
import { markersMax } from '../../src/log/limits.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { behindOf, type Damage, openLog } from '../../src/log/open-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { refusal } from '../refusal.js';
import { all, block, blocks, ends, key, nameOf } from './support.js';

async function open(engine: StorageEngine): Promise<EventLog> {
  const { log, damage } = await openLog({ engine, fatal: fail });
  if (damage !== undefined) throw new Error(`no damage is expected: ${damage.message}`);
  return log;
}

function fail(error: unknown): never {
  throw error;
}

async function damageOf(engine: StorageEngine): Promise<Damage | undefined> {
  return (await openLog({ engine, fatal: fail })).damage;
}

/** Ten blocks of one entry, a batch each; then two batches of records, the last one synced. */
async function written(engine = new MemoryEngine()): Promise<MemoryEngine> {
  const log = await open(engine);
  for (const b of blocks(origin, 10)) {
    log.append([b]);
    await log.settled();
  }
  await vote(log, 'a');
  await vote(log, 'b');
  return engine;
}

async function vote(log: EventLog, name: string, sync = true): Promise<void> {
  log.record([{ type: 'put', key: metaKey('vote'), value: key(name) }], { sync });
  await log.settled();
}

/** Of the batch that `written` wrote last. */
const lastMarker = markerKey(2);

const lastVote = 'the last one';

t.test('an undamaged log opens without damage, after a kill and after a power cut', async (t) => {
  for (const power of [true, false]) {
    const log = await open((await written()).crash({ power }));
    t.equal(nameOf(log.last), '1/10');
    t.same(await log.get(metaKey('vote')), key('b'));
  }
});

t.test('a changed byte anywhere in a block is damage, and names the block', async (t) => {
  for (const index of [1, 5, 10]) {
    const { bytes } = block({ generation: index === 1 ? 0 : 1, index: index - 1 });
    for (let at = 0; at < bytes.byteLength + 4; at += 7) {
      const engine = await written();
      t.ok(engine.flipByte(blockKey(index), at));
      t.match(await damageOf(engine), { kind: 'checksum', message: `record l/${index}:` });
    }
  }
});

t.test('a lost block is damage: a gap, or an end before the high-water', async (t) => {
  for (const [index, kind, message] of [
    [1, 'gap', 'ends at 2 follows entry 1 of generation 1; before it stands 0 of 0'],
    [5, 'gap', 'ends at 6 follows entry 5'],
    [10, 'behind-high-water', 'ends at entry 9 of generation 1; it was synced through 10 of 1'],
  ] as const) {
    const engine = await written();
    engine.lose(blockKey(index));
    t.match(await damageOf(engine), { kind, message });
  }
});

t.test('a block in another one’s place is damage', async (t) => {
  const engine = await written();
  const value = await engine.get(blockKey(4));
  t.ok(value);
  await engine.write([{ type: 'put', key: blockKey(5), value: value ?? key('') }], { sync: true });
  t.match(await damageOf(engine), { kind: 'checksum', message: 'record l/5:' });
});

t.test('a changed or lost marker is damage', async (t) => {
  const changed = await written();
  t.ok(changed.flipByte(lastMarker, 0));
  t.match(await damageOf(changed), { kind: 'checksum', message: 'record b/2:' });
  const first = await written();
  first.lose(markerKey(1));
  t.match(await damageOf(first), { kind: 'gap', message: 'batch 2 is the oldest' });
  const middle = await written();
  await vote(await open(middle), 'c');
  middle.lose(markerKey(2));
  t.match(await damageOf(middle), { kind: 'gap', message: 'b/3 follows batch 1' });
});

t.test('the last synced record lost with its batch is damage', async (t) => {
  const engine = await written();
  engine.lose(lastMarker);
  t.match(await damageOf(engine), {
    kind: 'behind-high-water',
    message: 'the newest batch without a block is 1; they were synced through 2 (high-water)',
  });
});

t.test('an unsynced record that a power cut takes is no damage', async (t) => {
  const engine = await written();
  const log = await open(engine);
  await vote(log, 'c', false);
  const cut = engine.crash({ power: true });
  t.same(await (await open(cut)).get(metaKey('vote')), key('b'));
  await vote(await open(cut), 'd');
  t.equal(await damageOf(cut), undefined, 'its number is used again');
});

t.test('an unsynced record is claimed by the high-water after the next sync', async (t) => {
  const engine = await written();
  const log = await open(engine);
  await vote(log, 'c', false);
  log.append([block(log.last)]);
  await log.settled();
  engine.lose(markerKey(3));
  t.match(await damageOf(engine), { kind: 'behind-high-water' });
});

t.test('a damaged record is damage when it is read', async (t) => {
  const engine = await written();
  t.ok(engine.flipByte(metaKey('vote'), 0));
  const { log, damage } = await openLog({ engine, fatal: fail });
  t.equal(damage, undefined, 'records are checked by who reads them');
  await t.rejects(log.get(metaKey('vote')), refusal('CORRUPT', { record: 'm/vote' }));
  await t.rejects(all(log.scan(key('m'))), refusal('CORRUPT', { record: 'm/vote' }));
});

t.test('a record under another one’s key is damage', async (t) => {
  const engine = await written();
  const value = (await engine.get(metaKey('vote'))) ?? key('');
  await engine.write([{ type: 'put', key: metaKey('term'), value }], { sync: true });
  await t.rejects((await open(engine)).get(metaKey('term')), refusal('CORRUPT'));
});

t.test('a block damaged before the last clean close is found when it is read', async (t) => {
  const engine = new MemoryEngine();
  await written(engine);
  await (await open(engine)).close();
  const again = engine.crash({ power: true });
  t.ok(again.flipByte(blockKey(5), 3));
  const log = await open(again);
  const seen: LogBlock[] = [];
  await t.rejects(
    async () => {
      for await (const b of log.read(origin)) seen.push(b);
    },
    refusal('CORRUPT', { record: 'l/5' }),
  );
  t.equal(seen.length, 0, 'what is read with it is not returned');
  t.equal(ends(await all(log.read({ generation: 1, index: 8 }))), '1/9 1/10');
});

t.test('a block lost before the last clean close is found when it is read', async (t) => {
  const engine = new MemoryEngine();
  await written(engine);
  await (await open(engine)).close();
  const again = engine.crash({ power: true });
  again.lose(blockKey(5));
  const log = await open(again);
  await t.rejects(all(log.read(origin)), {
    message: 'the log has a gap: block 6 follows 5, not 4',
  });
});

t.test('a clean close that was damaged, or whose block is lost, is damage', async (t) => {
  const engine = new MemoryEngine();
  await written(engine);
  await (await open(engine)).close();
  const changed = engine.crash({ power: true });
  const lost = engine.crash({ power: true });
  t.ok(changed.flipByte(metaKey('clean-close'), 0));
  t.match(await damageOf(changed), { kind: 'checksum', message: 'record m/clean-close:' });
  lost.lose(blockKey(10));
  t.match(await damageOf(lost), { kind: 'behind-high-water' });
});

t.test('a torn or missing high-water proves nothing', async (t) => {
  const engine = await written();
  engine.lose(blockKey(10));
  t.match(await damageOf(engine), { kind: 'behind-high-water' });
  const whole = (await engine.readHighWater()) ?? key('');
  for (const torn of [whole.slice(0, -1), whole.slice(0, 2), key('')]) {
    await engine.writeHighWater(torn);
    t.equal(await damageOf(engine), undefined);
  }
});

t.test('a log that was cut on purpose is not behind', async (t) => {
  for (const after of [0, 1, 4]) {
    const engine = await written();
    const old = (await engine.readHighWater()) ?? key('');
    const log = await open(engine);
    log.cut(after === 0 ? origin : { generation: 1, index: after });
    await log.settled();
    t.equal(await damageOf(engine), undefined);
    await engine.writeHighWater(old);
    t.equal(await damageOf(engine), undefined, 'even if a power cut brought the old one back');
    engine.lose(blockKey(after));
    t.equal((await damageOf(engine)) === undefined, after === 0, 'but below the cut it is');
  }
});

t.test('a cut before the high-water excuses nothing after it', async (t) => {
  const engine = await written();
  const log = await open(engine);
  log.cut({ generation: 1, index: 4 });
  log.append(blocks(log.last, 3, { generation: 2 }));
  await log.settled();
  await vote(log, 'c');
  t.equal(await damageOf(engine), undefined);
  engine.lose(blockKey(7));
  t.match(await damageOf(engine), {
    kind: 'behind-high-water',
    message: 'ends at entry 6 of generation 2; it was synced through 7 of 2',
  });
});

t.test('a log that begins anew after a snapshot may be longer, and of an older term', async (t) => {
  const id = (generation: number, index: number) => ({ generation, index });
  const markers = { oldest: 1, newest: 3, cuts: [{ marker: 3, after: id(4, 20) }] };
  const synced = { entry: id(5, 10), marker: 2 };
  t.equal(behindOf(id(4, 20), markers, synced), undefined);
  t.equal(behindOf(id(6, 21), markers, synced), undefined);
  t.match(behindOf(id(4, 19), markers, synced), { kind: 'behind-high-water' });
  const before = { ...markers, cuts: [] };
  t.match(behindOf(id(4, 20), before, synced), { kind: 'behind-high-water' });
});

t.test('an old high-water proves nothing when cuts since then are forgotten', async (t) => {
  const engine = await written();
  const old = (await engine.readHighWater()) ?? key('');
  const log = await open(engine);
  log.cut({ generation: 1, index: 4 });
  await log.settled();
  for (let i = 0; i < markersMax; i += 1) await vote(log, 'c', false);
  t.equal(await engine.get(markerKey(3)), undefined, 'the marker of the cut is not kept');
  await engine.writeHighWater(old);
  t.equal(await damageOf(engine), undefined);
});

t.test('a lost cut is damage: what was cut would come back', async (t) => {
  const engine = await written();
  const cutAway = await Promise.all([8, 9, 10].map((i) => engine.get(blockKey(i))));
  const log = await open(engine);
  log.cut({ generation: 1, index: 7 });
  await log.settled();
  for (const [i, value] of cutAway.entries()) {
    const at = blockKey(8 + i);
    await engine.write([{ type: 'put', key: at, value: value ?? key('') }], { sync: true });
  }
  engine.lose(markerKey(3));
  t.match(await damageOf(engine), { kind: 'behind-high-water' });
});

t.test('a cut and what was appended in its batch, lost as one, is damage', async (t) => {
  const before = await written();
  const engine = await written();
  const log = await open(engine);
  log.cut({ generation: 1, index: 7 });
  log.append([block({ generation: 1, index: 7 }, 1, 2)]);
  await log.settled();
  await before.writeHighWater((await engine.readHighWater()) ?? key(''));
  t.match(await damageOf(before), {
    kind: 'behind-high-water',
    message: 'the log ends at entry 10 of generation 1; it was synced through 8 of 2',
  });
});

/** Folders under one: `killed` in the middle of its work, `closed` and compacted to tables. */
interface Folders {
  readonly killed: string;
  readonly closed: string;
  /** A fresh copy, to damage. */
  copy(from: string): Promise<string>;
}

/** 200 blocks and 21 votes, a synced batch each. */
async function rocksFolders(t: Test): Promise<Folders> {
  const dir = t.testdir({ closed: {} });
  const [killed, closed, copies] = [join(dir, 'killed'), join(dir, 'closed'), join(dir, 'copy')];
  const engine = await RocksEngine.open(closed);
  const log = await open(engine);
  for (const b of blocks(origin, 200)) {
    log.append([b]);
    await log.settled();
    if (b.end.index % 10 === 0) await vote(log, `after ${b.end.index}`);
  }
  await vote(log, lastVote);
  // It is rewritten after the sync: a kill in between leaves it a batch behind.
  while ((await HighWater.read(engine))?.marker !== 21) await new Promise(setImmediate);
  await cp(closed, killed, { recursive: true });
  await log.close();
  // What is in the write-ahead log goes to a table when the store is opened again.
  for (let i = 0; i < 2; i += 1) await (await open(await RocksEngine.open(closed))).close();
  let count = 0;
  return {
    killed,
    closed,
    copy: async (from) => {
      count += 1;
      const to = join(copies, `${count}`);
      await cp(from, to, { recursive: true });
      return to;
    },
  };
}

async function filesOf(dir: string, ending: string): Promise<readonly string[]> {
  const store = join(dir, 'store');
  return (await readdir(store)).filter((f) => f.endsWith(ending)).map((f) => join(store, f));
}

async function only(dir: string, ending: string): Promise<string> {
  const [file, ...others] = await filesOf(dir, ending);
  if (file === undefined || others.length > 0) throw new Error(`not one ${ending} in ${dir}`);
  return file;
}

async function flip(file: string, part: number): Promise<void> {
  const bytes = await readFile(file);
  const at = Math.floor(part * (bytes.byteLength - 1));
  bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  await writeFile(file, bytes);
}

async function damageIn(dir: string): Promise<Damage | undefined> {
  const engine = await RocksEngine.open(dir);
  const damage = await damageOf(engine);
  await engine.close();
  return damage;
}

/** In a process of its own: RocksDB may end it where it meets damage. */
function readIn(dir: string): Promise<string> {
  const program = fileURLToPath(new URL('./read-store.js', import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [program, dir], (error, stdout) => {
      resolve(error?.signal === 'SIGABRT' ? 'RocksDB ended the process' : stdout.trim());
    });
  });
}

const everything = `200 blocks, vote: ${lastVote}`;

t.test('RocksDB: damage is noticed', async (t) => {
  const { killed, closed, copy } = await rocksFolders(t);

  await t.test('a store whose process was killed is whole', async (t) => {
    t.equal(await damageIn(await copy(killed)), undefined);
    t.equal(await readIn(await copy(killed)), everything);
  });

  await t.test('a changed byte anywhere in the write-ahead log', async (t) => {
    for (const part of [0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999]) {
      const dir = await copy(killed);
      await flip(await only(dir, '.log'), part);
      t.match(await damageIn(dir), { kind: /gap|behind-high-water/ }, `at ${part} of it`);
    }
  });

  await t.test('a write-ahead log that ends early, or is gone', async (t) => {
    const short = await copy(killed);
    const file = await only(short, '.log');
    await truncate(file, (await stat(file)).size - 1);
    t.match(await damageIn(short), {
      kind: 'behind-high-water',
      message: 'the newest batch without a block is 20; they were synced through 21',
    });
    const gone = await copy(killed);
    await rm(await only(gone, '.log'));
    t.match(await damageIn(gone), {
      kind: 'behind-high-water',
      message: 'ends at entry 0 of generation 0; it was synced through 200 of 1',
    });
  });

  await t.test('a store that is gone, and its catalogue', async (t) => {
    const gone = await copy(closed);
    await rm(join(gone, 'store'), { recursive: true });
    t.match(await damageIn(gone), { kind: 'behind-high-water' });
    const current = await copy(killed);
    await rm(join(current, 'store', 'CURRENT'));
    await t.rejects(RocksEngine.open(current), refusal('CORRUPT', { dir: current }));
  });

  await t.test('a table that is gone', async (t) => {
    const dir = await copy(closed);
    for (const file of await filesOf(dir, '.sst')) await rm(file);
    t.match(await readIn(dir), /^CORRUPT|behind-high-water|checksum/);
  });

  await t.test('a changed byte anywhere in a table is never returned as data', async (t) => {
    const seen = new Set<string>();
    for (const part of [0.02, 0.15, 0.4, 0.6, 0.8, 0.95]) {
      const dir = await copy(closed);
      for (const file of await filesOf(dir, '.sst')) await flip(file, part);
      const found = await readIn(dir);
      // Some bytes say nothing: checksums of blocks, versions that newer ones hide.
      t.match(
        found,
        new RegExp(`CORRUPT|checksum|gap|ended the process|^${everything}$`),
        `${part}`,
      );
      seen.add(found.slice(0, 8));
    }
    t.ok(seen.has('CORRUPT ') || seen.has('checksum'), 'most are noticed');
  });

  await t.test('a record that RocksDB has whole, with a damaged value', async (t) => {
    const dir = await copy(killed);
    const engine = await RocksEngine.open(dir);
    for (const [damagedKey, record] of [
      [metaKey('vote'), 'm/vote'],
      [blockKey(100), 'l/100'],
    ] as const) {
      const whole = (await engine.get(damagedKey)) ?? key('');
      const value = whole.slice();
      value[5] = (value[5] ?? 0) ^ 1;
      await engine.write([{ type: 'put', key: damagedKey, value }], { sync: true });
      const { log, damage } = await openLog({ engine, fatal: fail });
      if (record === 'l/100') t.match(damage, { kind: 'checksum', message: `record ${record}:` });
      else await t.rejects(log.get(damagedKey), refusal('CORRUPT', { record }));
    }
    await engine.close();
  });
});

import { readdir, rename, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { refusal } from '../refusal.js';
import { contract } from './engine-contract.js';
import { key } from './support.js';

contract('memory', async () => {
  const engine = new MemoryEngine();
  return { engine, reopen: async () => engine.crash({ power: true }) };
});

contract('RocksDB', async (t) => {
  const dir = t.testdir();
  return { engine: await RocksEngine.open(dir), reopen: () => RocksEngine.open(dir) };
});

t.test('RocksDB: a folder that is open is refused, by name', async (t) => {
  const dir = t.testdir();
  const engine = await RocksEngine.open(dir);
  await t.rejects(RocksEngine.open(dir), refusal('BAD_REQUEST', { dir }));
  await t.rejects(RocksEngine.open(dir), { message: new RegExp(`${dir} is in use`) });
  await engine.write([{ type: 'put', key: key('a'), value: key('1') }], { sync: true });
  t.same(await engine.get(key('a')), key('1'), 'who has it keeps it');
  await engine.close();
  const again = await RocksEngine.open(dir);
  t.same(await again.get(key('a')), key('1'));
  await again.close();
});

t.test('RocksDB: what can not be read now can be read later, and is no damage', async (t) => {
  const dir = t.testdir();
  const store = join(dir, 'store');
  let engine = await RocksEngine.open(dir);
  await engine.write([{ type: 'put', key: key('a'), value: key('1') }], { sync: true });
  await engine.close();
  // What is in the write-ahead log goes to a table.
  await (await RocksEngine.open(dir)).close();
  const like = async (name: RegExp): Promise<string> =>
    (await readdir(store)).find((file) => name.test(file)) ?? '';
  const table = await like(/\.sst$/);
  /** The system refuses to open it, as for want of a file handle: not because it is gone. */
  const block = async (file: string): Promise<() => Promise<void>> => {
    const aside = join(dir, file);
    await rename(join(store, file), aside);
    await symlink(file, join(store, file));
    return () => rename(aside, join(store, file));
  };

  const free = await block(await like(/^MANIFEST/));
  await t.rejects(RocksEngine.open(dir), refusal('INTERNAL', { dir }));
  await free();

  const give = await block(table);
  engine = await RocksEngine.open(dir);
  await t.rejects(engine.get(key('a')), refusal('INTERNAL'));
  await give();
  t.same(await engine.get(key('a')), key('1'));
  await engine.close();

  await rename(join(store, table), join(dir, table));
  engine = await RocksEngine.open(dir);
  await t.rejects(engine.get(key('a')), refusal('CORRUPT'), 'a table that is gone');
  await engine.close();
});

t.test('memory: a power cut takes what was not synced, a kill takes nothing', async (t) => {
  for (const power of [true, false]) {
    const engine = new MemoryEngine();
    await engine.write([{ type: 'put', key: key('a'), value: key('1') }], { sync: true });
    await engine.write([{ type: 'put', key: key('a'), value: key('2') }], { sync: false });
    t.same(await engine.get(key('a')), key('2'));
    const left = engine.crash({ power });
    t.same(await left.get(key('a')), key(power ? '1' : '2'), `power: ${power}`);
  }
});

t.test('memory: a sync carries what was written before it', async (t) => {
  const engine = new MemoryEngine();
  await engine.write([{ type: 'put', key: key('a'), value: key('1') }], { sync: false });
  await engine.write([], { sync: true });
  t.same(await engine.crash({ power: true }).get(key('a')), key('1'));
});

t.test('memory: a disk that ignores syncs keeps nothing', async (t) => {
  const engine = new MemoryEngine({ ignoreSync: true });
  await engine.write([{ type: 'put', key: key('a'), value: key('1') }], { sync: true });
  t.equal(await engine.crash({ power: true }).get(key('a')), undefined);
});

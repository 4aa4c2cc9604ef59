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

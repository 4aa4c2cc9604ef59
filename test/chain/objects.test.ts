import t from 'tap';
import { toMapKey } from '../../src/base/bytes.js';
import { HotObjects } from '../../src/chain/hot-objects.js';
import type { KeyValue } from '../../src/chain/messages.js';
import { Objects } from '../../src/chain/objects.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { refusal } from '../refusal.js';

const key = Buffer.from('key');

function object(text: string, bytes = text.length): KeyValue {
  const value = Buffer.alloc(bytes, text);
  return { value, createRevision: 1, modRevision: 1, version: 1 };
}

async function openObjects(cacheBytes: number) {
  let gets = 0;
  const engine = new MemoryEngine();
  const get = engine.get.bind(engine);
  let gate: Promise<void> | undefined;
  engine.get = async (of) => {
    gets += 1;
    const found = await get(of);
    await gate;
    return found;
  };
  const { log } = await openLog({ engine, fatal: (error) => t.fail(String(error)) });
  const objects = new Objects(log, cacheBytes);
  const commit = async (found: KeyValue | undefined): Promise<void> => {
    objects.commit(key, found);
    objects.store([]);
    await log.settled();
    await Promise.resolve();
  };
  /** A load that the disk doesn't end before `release`. */
  const loadSlowly = async () => {
    let release = (): void => undefined;
    gate = new Promise((resolve) => {
      release = resolve;
    });
    const held = objects.hold();
    const loading = objects.load(key, held);
    await Promise.resolve();
    return { held, loading, release };
  };
  return { objects, commit, gets: () => gets, loadSlowly };
}

t.test('an object that was read once is in memory for the next read', async (t) => {
  const { objects, commit, gets } = await openObjects(0);
  await commit(object('a'));
  t.equal(objects.peek(key), undefined, 'nothing is kept where nothing may be');
  const hold = objects.hold();
  await objects.load(key, hold);
  await objects.load(key, hold);
  hold.end();
  const before = gets();
  t.ok(before >= 2);

  const cached = await openObjects(1 << 20);
  await cached.commit(object('a'));
  const opened = cached.gets();
  t.equal(Buffer.from(cached.objects.peek(key)?.found?.value ?? []).toString(), 'a');
  t.equal(cached.gets(), opened, 'a commit is in memory at once');
});

t.test('what is in memory is the newest commit, also of a key that was deleted', async (t) => {
  const { objects, commit } = await openObjects(1 << 20);
  await commit(object('a'));
  await commit(object('b'));
  t.equal(Buffer.from(objects.peek(key)?.found?.value ?? []).toString(), 'b');
  await commit(undefined);
  t.same(objects.peek(key)?.found, undefined);
  t.ok(objects.peek(key), 'known to be absent');
});

t.test('a load that a commit has overtaken leaves nothing old in memory', async (t) => {
  const { objects, commit, loadSlowly } = await openObjects(4_000);
  await commit(object('a'));
  // Others push it out of memory.
  for (let i = 0; i < 100; i += 1) objects.hot.keep(`other ${i}`, object('x'));
  t.equal(objects.peek(key), undefined);
  const { held, loading, release } = await loadSlowly();
  await commit(object('b'));
  for (let i = 0; i < 100; i += 1) objects.hot.keep(`other ${i}`, object('x'));
  release();
  const loaded = await loading;
  t.equal(Buffer.from(loaded?.value ?? []).toString(), 'a', 'what the disk held when it was asked');
  t.equal(Buffer.from(objects.fresh(key, loaded)?.value ?? []).toString(), 'b');
  held.end();
  t.not(Buffer.from(objects.hot.find(toMapKey(key))?.found?.value ?? []).toString(), 'a');
});

t.test(
  'a load that nobody waits for any more keeps no commit in memory, and leaves nothing there',
  async (t) => {
    const { objects, commit, loadSlowly } = await openObjects(0);
    await commit(object('a'));
    const { held, loading, release } = await loadSlowly();
    await commit(object('b'));
    t.ok(objects.peek(key), 'the load may give what was there before');
    held.end();
    t.equal(objects.peek(key), undefined, 'as if it had ended');
    const kept: string[] = [];
    objects.hot.keep = (of) => void kept.push(of);
    release();
    await t.rejects(loading, refusal('DEADLINE'), 'nobody can use it');
    t.same(kept, [], 'it is older than what the store holds');
    held.end();
    const next = objects.hold();
    t.equal(Buffer.from((await objects.load(key, next))?.value ?? []).toString(), 'b');
    next.end();
  },
);

t.test(
  'what is kept in memory stays within its bound, and what is used stays longest',
  async (t) => {
    const hot = new HotObjects(20_000);
    hot.keep('used', object('u', 100));
    for (let i = 0; i < 1_000; i += 1) {
      hot.keep(`key ${i}`, object('x', 100));
      t.ok(hot.find('used'), 'it is used all the time');
      if (hot.bytes > 20_000) t.fail(`${hot.bytes} bytes`);
    }
    t.equal(hot.find('key 0'), undefined);
    t.ok(hot.find('key 999'));
    t.ok(hot.hits > 1_000);
  },
);

t.test('an object too large to keep is not kept, and neither is its older version', async (t) => {
  const hot = new HotObjects(16_000);
  hot.keep('key', object('small'));
  hot.keep('key', object('x', 5_000));
  t.equal(hot.find('key'), undefined);
});

t.test('a value is copied: it may be a view of a whole block', async (t) => {
  const hot = new HotObjects(1 << 20);
  const block = Buffer.alloc(64_000, 'a');
  hot.keep('key', { ...object('a'), value: block.subarray(0, 3) });
  t.equal(hot.find('key')?.found?.value.buffer.byteLength, 3);
});

t.test(
  'R17: nothing is in memory of what a snapshot has replaced, or was read while it came',
  async (t) => {
    const { objects, commit, loadSlowly } = await openObjects(1 << 20);
    await commit(object('old'));
    objects.forgetAll();
    t.equal(objects.peek(key), undefined);
    const { held, loading, release } = await loadSlowly();
    objects.forgetAll();
    release();
    await loading;
    held.end();
    t.equal(objects.peek(key), undefined, 'that read was under way');
  },
);

import t from 'tap';
import { toMapKey } from '../../src/base/bytes.js';
import { CommitChanges } from '../../src/chain/commit-changes.js';
import { storeDelayMs, unstoredBytesMax } from '../../src/chain/limits.js';
import { watermarkKey } from '../../src/chain/node-store.js';
import { decodeObject, Objects } from '../../src/chain/objects.js';
import { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import type { WriteOp } from '../../src/log/engine.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';

const key = Buffer.from('key');
const client = toMapKey(Buffer.alloc(16, 7));

/** A store, and what each batch has put and deleted of objects, sessions and the watermark. */
async function openChanges() {
  const engine = new MemoryEngine();
  const batches: (readonly WriteOp[])[] = [];
  const write = engine.write.bind(engine);
  engine.write = (ops, options) => {
    batches.push(ops.filter(({ key: of }) => of[0] !== 'b'.charCodeAt(0)));
    return write(ops, options);
  };
  const { log } = await openLog({ engine, fatal: (error) => t.fail(String(error)) });
  const objects = new Objects(log, 0);
  const changes = new CommitChanges(objects);
  batches.length = 0;
  let revision = 0;
  const commit = (text: string, now = 0): void => {
    revision += 1;
    const version = { revision, value: Buffer.from(text), createRevision: 1, version: revision };
    changes.object(key, version);
    changes.committed({ generation: 1, index: revision }, now);
  };
  const stored = async () => {
    await log.settled();
    const mark = await log.get(watermarkKey);
    const bytes = await log.get(Buffer.concat([Buffer.from('o'), key]));
    return {
      watermark: mark === undefined ? 0 : EntryId.decode(mark).index,
      value: bytes === undefined ? undefined : Buffer.from(decodeObject(bytes).value).toString(),
    };
  };
  return { log, objects, changes, batches, commit, stored };
}

const kinds = (ops: readonly WriteOp[] | undefined): string =>
  (ops ?? [])
    .map(({ type, key: of }) => `${type} ${String.fromCharCode(of[0] ?? 0)}`)
    .sort()
    .join();

t.test(
  'a commit is visible at once, and stored with its watermark when its time is over',
  async (t) => {
    const { objects, changes, batches, commit, stored } = await openChanges();
    commit('a', 1_000);
    commit('b', 1_050);
    t.equal(Buffer.from(objects.peek(key)?.found?.value ?? []).toString(), 'b');
    t.equal(
      Buffer.from(objects.fresh(key, undefined)?.value ?? []).toString(),
      'b',
      'for a request that has loaded an older one, too',
    );
    changes.look(1_000 + storeDelayMs - 1);
    t.same(await stored(), { watermark: 0, value: undefined });
    changes.look(1_000 + storeDelayMs);
    t.same(await stored(), { watermark: 2, value: 'b' });
    t.equal(batches.length, 1);
    t.equal(kinds(batches[0]), 'put m,put o', 'one object, however often it was written');
    changes.look(9_000);
    await stored();
    t.equal(batches.length, 1, 'nothing is stored twice');
  },
);

t.test('what is committed meanwhile is not lost to what was handed over', async (t) => {
  const { objects, changes, commit, stored } = await openChanges();
  commit('a');
  changes.store();
  commit('b');
  t.same(await stored(), { watermark: 1, value: 'a' });
  t.equal(Buffer.from(objects.peek(key)?.found?.value ?? []).toString(), 'b');
  changes.store();
  t.same(await stored(), { watermark: 2, value: 'b' });
});

t.test('so much is stored before its time, as it is kept in memory', async (t) => {
  const { commit, stored } = await openChanges();
  const text = 'x'.repeat(unstoredBytesMax / 4);
  for (let i = 0; i < 3; i += 1) commit(text);
  t.equal((await stored()).watermark, 0);
  commit('the last');
  commit(text);
  t.equal((await stored()).watermark, 5);
});

t.test('an outcome that is forgotten before it is stored, is not stored', async (t) => {
  const { log, changes, batches } = await openChanges();
  const outcome = { revision: 1, generation: 1, existed: false };
  changes.outcome(client, 1, outcome);
  changes.outcome(client, 2, outcome);
  changes.outcome(client, 1, undefined);
  changes.committed({ generation: 1, index: 2 }, 0);
  changes.store();
  await log.settled();
  t.equal(kinds(batches[0]), 'put m,put s');
  changes.outcome(client, 2, undefined);
  changes.committed({ generation: 1, index: 3 }, 0);
  changes.store();
  await log.settled();
  t.equal(kinds(batches[1]), 'del s,put m', 'one that is stored is deleted');
});

t.test('an outcome that was forgotten and came again, stays', async (t) => {
  const { log, changes, batches } = await openChanges();
  const outcome = { revision: 1, generation: 1, existed: false };
  changes.outcome(client, 1, outcome);
  changes.committed({ generation: 1, index: 1 }, 0);
  changes.store();
  changes.outcome(client, 1, undefined);
  changes.outcome(client, 1, { ...outcome, revision: 2 });
  changes.committed({ generation: 1, index: 2 }, 0);
  changes.store();
  await log.settled();
  t.equal(kinds(batches.at(-1)?.slice(-2)), 'put m,put s');
});

t.test(
  'R17: nothing is stored of what was committed before a snapshot took its place',
  async (t) => {
    const { objects, changes, commit, stored } = await openChanges();
    commit('a');
    changes.outcome(client, 1, { revision: 1, generation: 1, existed: false });
    changes.forgetAll();
    t.equal(objects.peek(key), undefined);
    changes.store();
    changes.look(9_000);
    t.same(await stored(), { watermark: 0, value: undefined });
  },
);

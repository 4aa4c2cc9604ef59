import { deepEqual } from 'node:assert/strict';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { ScanRange, StorageEngine, WriteOp } from '../../src/log/engine.js';
import { endOfPrefix } from '../../src/log/keys.js';
import { all, key, text } from './support.js';

export interface OpenStore {
  readonly engine: StorageEngine;
  /** The same store again, after its engine was closed. */
  reopen(): Promise<StorageEngine>;
}

const put = (name: string, value: string): WriteOp => ({
  type: 'put',
  key: key(name),
  value: key(value),
});
const del = (name: string): WriteOp => ({ type: 'del', key: key(name) });
const everything: ScanRange = { gte: Uint8Array.of(0), lt: Uint8Array.of(255) };
const synced = { sync: true };
const unsynced = { sync: false };

/** What every StorageEngine promises. `open` gives an empty store. */
export function contract(name: string, open: (t: Test) => Promise<OpenStore>): void {
  const test = (says: string, body: (t: Test, store: OpenStore) => Promise<void>): void => {
    void t.test(`${name}: ${says}`, async (t) => body(t, await open(t)));
  };

  async function pairs(engine: StorageEngine, range: ScanRange): Promise<readonly string[]> {
    return (await all(engine.scan(range))).map(([k, v]) => `${text(k)}=${text(v)}`);
  }

  test('what was put is read, what was not put is undefined', async (t, { engine }) => {
    await engine.write([put('a', '1')], synced);
    t.same(await engine.get(key('a')), key('1'));
    t.equal(await engine.get(key('b')), undefined);
    t.equal(await engine.get(key('aa')), undefined);
    await engine.close();
  });

  test('an empty value is a value', async (t, { engine }) => {
    await engine.write([put('a', '')], synced);
    t.same(await engine.get(key('a')), key(''));
    t.same(await pairs(engine, everything), ['a=']);
    await engine.close();
  });

  test('a batch puts and deletes at once, the later change of a key wins', async (t, store) => {
    const { engine } = store;
    await engine.write([put('a', '1'), put('b', '1')], synced);
    await engine.write([put('b', '2'), del('a'), put('c', '1'), del('c'), put('d', '1')], synced);
    t.same(await pairs(engine, everything), ['b=2', 'd=1']);
    await engine.write([del('b'), put('b', '3'), del('missing')], synced);
    t.same(await pairs(engine, everything), ['b=3', 'd=1']);
    await engine.close();
  });

  test('an empty batch changes nothing and resolves', async (t, { engine }) => {
    await engine.write([], synced);
    await engine.write([], unsynced);
    t.same(await pairs(engine, everything), []);
    await engine.close();
  });

  test('writes take effect in the order of the calls, synced or not', async (t, { engine }) => {
    const writes = Array.from({ length: 20 }, (_, i) =>
      engine.write([put('a', `${i}`)], { sync: i % 3 === 0 }),
    );
    await Promise.all(writes);
    t.same(await engine.get(key('a')), key('19'));
    await engine.close();
  });

  test('a write is visible when it has resolved, unsynced too', async (t, { engine }) => {
    for (const sync of [true, false]) {
      await engine.write([put('a', `${sync}`)], { sync });
      t.same(await engine.get(key('a')), key(`${sync}`));
      t.same(await pairs(engine, everything), [`a=${sync}`]);
    }
    await engine.close();
  });

  test('the caller may use its bytes again once the write has resolved', async (t, { engine }) => {
    const value = key('1');
    await engine.write([{ type: 'put', key: key('a'), value }], synced);
    value.fill(0);
    t.same(await engine.get(key('a')), key('1'));
    await engine.close();
  });

  test('a scan takes the first bound and not the last one', async (t, { engine }) => {
    await engine.write(
      [...'dbac'].map((k) => put(k, '1')),
      synced,
    );
    const range = { gte: key('b'), lt: key('d') };
    t.same(await pairs(engine, range), ['b=1', 'c=1']);
    t.same(await pairs(engine, { ...range, reverse: true }), ['c=1', 'b=1']);
    t.same(await pairs(engine, { ...range, limit: 1 }), ['b=1']);
    t.same(await pairs(engine, { ...range, reverse: true, limit: 1 }), ['c=1']);
    t.same(await pairs(engine, { ...range, limit: 0 }), []);
    t.same(await pairs(engine, { gte: key('bb'), lt: key('bc') }), []);
    t.same(await pairs(engine, { gte: key('d'), lt: key('b') }), [], 'bounds the wrong way round');
    await engine.close();
  });

  test('a scan gives what stood there when it began', async (t, { engine }) => {
    await engine.write([put('a', '1'), put('b', '1'), put('c', '1')], synced);
    const seen: string[] = [];
    for await (const [k, v] of engine.scan(everything)) {
      if (seen.length === 0) await engine.write([put('b', '2'), del('c'), put('d', '1')], synced);
      seen.push(`${text(k)}=${text(v)}`);
    }
    t.same(seen, ['a=1', 'b=1', 'c=1']);
    t.same(await pairs(engine, everything), ['a=1', 'b=2', 'd=1']);
    await engine.close();
  });

  test('a scan that is left early frees the store', async (t, { engine }) => {
    await engine.write([put('a', '1'), put('b', '1')], synced);
    for await (const [k] of engine.scan(everything)) {
      t.equal(text(k), 'a');
      break;
    }
    await engine.close();
  });

  test('random batches leave what a sorted map would hold', async (_, { engine }) => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 3 });
    // Few different bytes, 0 and 255 among them, so that keys meet and prefixes occur.
    const someKey = fc.array(fc.constantFrom(0, 1, 127, 128, 255), { maxLength: 3 });
    const op = fc.record({ key: someKey, value: fc.option(bytes) });
    const range = fc.record({ gte: someKey, lt: someKey, reverse: fc.boolean() });
    const within = (k: readonly number[]): Uint8Array => Uint8Array.of(0x6f, ...k);
    const batches = fc.array(fc.tuple(fc.array(op, { maxLength: 6 }), fc.boolean()), {
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(
        batches,
        fc.array(fc.tuple(range, fc.option(fc.nat(4))), { maxLength: 5 }),
        async (writes, scans) => {
          const model = new Map<string, Uint8Array>();
          for (const [changes, sync] of writes) {
            const ops = changes.map(({ key, value }): WriteOp => {
              const at = within(key);
              if (value === null) model.delete(hex(at));
              else model.set(hex(at), value);
              return value === null
                ? { type: 'del', key: at }
                : { type: 'put', key: at, value: value };
            });
            await engine.write(ops, { sync });
          }
          for (const [{ gte, lt, reverse }, limit] of scans) {
            const asked = { gte: within(gte), lt: within(lt), reverse };
            const expected = [...model]
              .filter(([k]) => k >= hex(asked.gte) && k < hex(asked.lt))
              .sort(([a], [b]) => (a < b ? -1 : 1));
            if (reverse) expected.reverse();
            const range: ScanRange = limit === null ? asked : { ...asked, limit };
            const found = (await all(engine.scan(range))).map(([k, v]) => [hex(k), hex(v)]);
            const wanted = expected.slice(0, limit ?? undefined).map(([k, v]) => [k, hex(v)]);
            deepEqual(found, wanted);
          }
          const rest = { gte: within([]), lt: endOfPrefix(within([])) };
          const left = await all(engine.scan(rest));
          deepEqual(
            left.map(([k]) => hex(k)),
            [...model.keys()].sort(),
          );
          await engine.write(
            left.map(([k]) => ({ type: 'del', key: k })),
            unsynced,
          );
        },
      ),
      { numRuns: 60 },
    );
    await engine.close();
  });

  test('what was written is there after close and reopen', async (t, { engine, reopen }) => {
    await engine.write([put('a', '1'), put('b', '1')], synced);
    await engine.write([del('a'), put('c', '1')], unsynced);
    await engine.writeHighWater(key('high'));
    await engine.close();
    const again = await reopen();
    t.same(await pairs(again, everything), ['b=1', 'c=1']);
    t.same(await again.readHighWater(), key('high'));
    await again.close();
  });

  test('a high-water that was never written is undefined', async (t, { engine }) => {
    t.equal(await engine.readHighWater(), undefined);
    await engine.close();
  });

  test('the high-water is the last one written, shorter or longer', async (t, { engine }) => {
    for (const value of ['some', 'longer than that', 'short', '']) {
      await engine.writeHighWater(key(value));
      t.same(await engine.readHighWater(), key(value));
    }
    t.same(await pairs(engine, everything), [], 'it stands beside the store');
    await engine.close();
  });

  test('closing twice is closing once', async (t, { engine, reopen }) => {
    await engine.write([put('a', '1')], unsynced);
    await engine.close();
    await engine.close();
    const again = await reopen();
    t.same(await again.get(key('a')), key('1'));
    await again.close();
  });
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

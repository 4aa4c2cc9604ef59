import t from 'tap';
import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import { BlocksDropped, type EventLog, origin } from '../../src/log/event-log.js';
import { metaKey } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { SeededRandom } from '../sim/schedule.js';
import { all, block, blocks, ends, key, nameOf, text } from './support.js';

const at = (index: number, generation = 1): EntryId => ({ generation, index });

async function open(engine: MemoryEngine): Promise<EventLog> {
  const { log, damage } = await openLog({
    engine,
    fatal: (error) => {
      throw error;
    },
  });
  t.equal(damage, undefined);
  return log;
}

async function filled(count: number): Promise<{ engine: MemoryEngine; log: EventLog }> {
  const engine = new MemoryEngine();
  const log = await open(engine);
  log.append(blocks(origin, count));
  await log.settled();
  return { engine, log };
}

t.test('a log goes on after what was dropped, also after a restart', async (t) => {
  const { engine, log } = await filled(6);
  log.drop(at(4));
  log.append([block(at(6))]);
  await log.settled();
  t.same([log.start, log.last], [at(4), at(7)]);
  t.equal(ends(await all(log.read(at(4)))), '1/5 1/6 1/7');
  const again = await open(engine.crash({ power: true }));
  t.same([again.start, again.last], [at(4), at(7)]);
  t.equal(ends(await all(again.read(at(4)))), '1/5 1/6 1/7');
});

t.test('a log of which all was dropped goes on after its end', async (t) => {
  const { engine, log } = await filled(3);
  log.drop(at(3));
  await log.close();
  const again = await open(engine.copy());
  t.same([again.start, again.last], [at(3), at(3)]);
  again.append([block(at(3))]);
  await again.settled();
  t.equal(ends(await all(again.read(at(3)))), '1/4');
});

t.test('who reads what was dropped is told so, before it and while it reads', async (t) => {
  const { log } = await filled(200);
  await t.rejects(
    (async () => {
      for await (const { end } of log.read(at(1))) if (end.index === 3) log.drop(at(150));
    })(),
    BlocksDropped,
  );
  await t.rejects(all(log.read(at(10))), BlocksDropped);
  await t.rejects(all(log.follow(origin, new AbortController().signal)), BlocksDropped);
});

t.test('what is not on the disk is not dropped', async (t) => {
  const { log } = await filled(2);
  log.append([block(at(2))]);
  t.throws(() => log.drop(at(3)), /on the disk/);
  log.drop(at(1));
  log.drop(at(1));
  await log.settled();
  t.same(log.start, at(1));
  t.throws(() => log.cut(origin), /was dropped/);
});

t.test('a reset puts another state in the place of the log, in one batch', async (t) => {
  for (const to of [at(2, 7), at(40, 7)]) {
    const { engine, log } = await filled(5);
    const durable: string[] = [];
    log.durable$.subscribe(({ synced }) => durable.push(nameOf(synced)));
    log.append([block(at(5))]);
    log.record([{ type: 'put', key: metaKey('snapshot'), value: key('there') }], { sync: true });
    const before = engine.copy();
    log.reset(to);
    log.append([block(to, 1, 7)]);
    await log.settled();
    t.same(durable, [nameOf(log.last)], 'what was replaced is not said to be durable');
    for (const store of [engine.copy(), engine.crash({ power: true })]) {
      const again = await open(store);
      t.same([again.start, again.last.index], [to, to.index + 1]);
      t.equal(ends(await all(again.read(to))), `7/${to.index + 1}`);
      t.equal(text((await again.get(metaKey('snapshot'))) ?? key('')), 'there');
    }
    const old = await open(before);
    t.same([old.start, old.last], [origin, at(5)], 'or nothing of it');
    t.equal(await old.get(metaKey('snapshot')), undefined);
  }
});

t.test('a first block that is gone without having been dropped is damage', async (t) => {
  const { engine, log } = await filled(4);
  log.drop(at(2));
  await log.settled();
  const lost = engine.copy();
  await lost.write([{ type: 'del', key: metaKey('log-start') }], { sync: true });
  const { damage } = await openLog({ engine: lost, fatal: () => undefined });
  t.match(damage, { kind: 'gap' });
  const rotten = engine.copy();
  await rotten.write([{ type: 'put', key: metaKey('log-start'), value: key('?') }], { sync: true });
  t.match((await openLog({ engine: rotten, fatal: () => undefined })).damage, { kind: 'checksum' });
});

const seed = Number(process.env['KEYCHAINDB_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

t.test(`after a power cut anywhere the log is one that was (seed ${seed})`, async (t) => {
  const random = new SeededRandom(seed);
  for (let run = 0; run < 200; run += 1) {
    const engine = new MemoryEngine({ survivors: (batches) => random.int(batches + 1) });
    const log = await open(engine);
    let synced: EntryId = origin;
    log.durable$.subscribe((batch) => {
      synced = batch.synced;
    });
    let term = 1;
    for (let i = 0; i < 12; i += 1) {
      const choice = random.int(6);
      if (choice < 3) log.append([block(log.last, 1, term)]);
      else if (choice === 3 && log.synced.index > log.start.index) {
        const kept = await all(log.read(log.start));
        const through = kept[random.int(kept.length)]?.end;
        if (through !== undefined && through.index <= log.synced.index) log.drop(through);
      } else if (choice === 4) {
        term += 1;
        log.reset({ generation: term, index: log.start.index + 1 + random.int(9) });
      } else await log.settled();
      if (random.chance(0.3)) await log.settled();
    }
    const after = engine.crash({ power: true });
    const { log: found, damage } = await openLog({ engine: after, fatal: () => undefined });
    t.equal(damage, undefined, `run ${run}`);
    t.ok(found.last.index >= found.start.index);
    t.ok(
      found.last.generation > synced.generation || found.last.index >= synced.index,
      'what was synced is there',
    );
    for (const { previous, end } of await all(found.read(found.start))) {
      t.ok(previous.index < end.index);
    }
  }
});

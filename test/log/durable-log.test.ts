import { deepEqual, equal } from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { AssertionError } from '../../src/base/assert.js';
import { toHex } from '../../src/base/bytes.js';
import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import type { StorageEngine, WriteOp } from '../../src/log/engine.js';
import {
  type DurableBatch,
  type EventLog,
  type LogBlock,
  origin,
} from '../../src/log/event-log.js';
import { blockKey, metaKey } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { HeldEngine, turns } from './held-engine.js';
import { all, block, blocks, ends, key, nameOf, text } from './support.js';

interface Opened {
  readonly log: EventLog;
  /** What durable$ said, as `blocks | synced`. */
  readonly durable: string[];
}

async function open(
  engine: StorageEngine,
  fatal: (error: unknown) => void = (error) => {
    throw error;
  },
): Promise<Opened> {
  const { log, damage } = await openLog({ engine, fatal });
  equal(damage, undefined);
  const durable: string[] = [];
  log.durable$.subscribe((batch: DurableBatch) => {
    durable.push(`${ends(batch.blocks)} | ${nameOf(batch.synced)}`);
  });
  return { log, durable };
}

async function openHeld(): Promise<Opened & { readonly engine: HeldEngine }> {
  const engine = new HeldEngine();
  return { engine, ...(await open(engine)) };
}

function at(index: number, generation = 1): EntryId {
  return index === 0 ? origin : { generation, index };
}

function vote(value: string): readonly WriteOp[] {
  return [{ type: 'put', key: metaKey('vote'), value: key(value) }];
}

async function voteOf(log: EventLog): Promise<string | undefined> {
  const value = await log.get(metaKey('vote'));
  return value && text(value);
}

/** Follows in the background; `seen` grows. */
function following(log: EventLog, after: EntryId) {
  const stop = new AbortController();
  const seen: LogBlock[] = [];
  const ended = (async () => {
    for await (const b of log.follow(after, stop.signal)) seen.push(b);
    return 'ended';
  })();
  const state = async (): Promise<string> => {
    await turns();
    return Promise.race([ended, 'follows']);
  };
  return { stop, seen, ended, state };
}

t.test('what comes in one turn is one batch, and is durable when it is synced', async (t) => {
  const { engine, log, durable } = await openHeld();
  const [a, b, c] = blocks(origin, 3, { size: 2 }) as [LogBlock, LogBlock, LogBlock];
  log.append([a]);
  log.append([b, c], vote('x'));
  await turns();
  t.equal(engine.held.length, 1);
  t.equal(engine.held[0]?.sync, true);
  t.equal(engine.held[0]?.ops.length, 4, 'three blocks and a record');
  t.same([nameOf(log.last), nameOf(log.synced)], ['1/6', '0/0']);
  t.same(durable, []);
  await engine.release();
  t.equal(nameOf(log.synced), '1/6');
  t.same(durable, ['1/2 1/4 1/6 | 1/6']);
  t.match(log.meter, { batches: 1, entries: 6 });
});

t.test('one batch is in flight, the next one collects', async (t) => {
  const { engine, log, durable } = await openHeld();
  const [first, ...rest] = blocks(origin, 11) as [LogBlock, ...LogBlock[]];
  log.append([first]);
  await turns();
  for (const b of rest) {
    log.append([b]);
    await turns();
    t.equal(engine.held.length, 1);
  }
  await engine.release();
  t.same(durable, ['1/1 | 1/1']);
  t.equal(engine.held.length, 1);
  t.equal(engine.held[0]?.ops.length, 10, 'all that came meanwhile');
  await engine.release();
  t.same(durable[1], `${ends(rest)} | 1/11`);
  t.equal(engine.seen.length, 2);
  t.equal(engine.held.length, 0, 'an idle log writes nothing');
});

t.test('a block that does not follow the last one is refused', async (t) => {
  const { log } = await open(new MemoryEngine());
  t.throws(() => log.append([block(at(1))]), AssertionError);
  log.append([block(origin, 2)]);
  t.throws(() => log.append([block(at(1))]), AssertionError, 'not in the middle of a block');
  t.throws(() => log.append([block(at(2, 2))]), AssertionError, 'not after another generation');
  await log.settled();
  t.equal(nameOf(log.synced), '1/2');
});

t.test('a cut takes the end of the log, durable or not', async (t) => {
  const engine = new MemoryEngine();
  const { log, durable } = await open(engine);
  log.append(blocks(origin, 5));
  await log.settled();
  log.cut(at(3));
  t.same([nameOf(log.last), nameOf(log.synced)], ['1/3', '1/3'], 'at once');
  await log.settled();
  t.same(durable.slice(1), [' | 1/3']);
  t.equal(ends(await all(log.read(origin))), '1/1 1/2 1/3');
  t.equal(await engine.get(blockKey(4)), undefined);
  const again = await open(engine.crash({ power: true }));
  t.equal(ends(await all(again.log.read(origin))), '1/1 1/2 1/3');
});

t.test('a cut to the end changes nothing, a cut beyond it is refused', async (t) => {
  const { engine, log } = await openHeld();
  log.append(blocks(origin, 3));
  await engine.releaseAll();
  log.cut(at(3));
  await turns();
  t.equal(engine.held.length, 0);
  t.throws(() => log.cut(at(4)), AssertionError);
  t.throws(() => log.cut(at(3, 2)), AssertionError);
});

t.test('a cut of what only collects writes none of it', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.append(blocks(origin, 4), vote('x'));
  log.cut(at(2));
  log.append([block(at(2), 1, 2)]);
  await engine.releaseAll();
  t.equal(engine.seen.length, 1);
  t.same(durable, ['1/1 1/2 2/3 | 2/3']);
  t.equal(ends(await all(log.read(origin))), '1/1 1/2 2/3');
  t.equal(await engine.get(blockKey(4)), undefined);
  t.equal(await voteOf(log), 'x', 'records are not cut');
});

t.test('a cut while its blocks are in flight: they never count as durable', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.append(blocks(origin, 5));
  await turns();
  log.cut(at(3));
  log.append([block(at(3), 1, 2)]);
  t.equal(nameOf(log.last), '2/4');
  await engine.release();
  t.same(durable, ['1/1 1/2 1/3 | 1/3']);
  t.equal(nameOf(log.synced), '1/3');
  t.equal(ends(await all(log.read(origin))), '1/1 1/2 1/3', 'though more is on the disk');
  await engine.release();
  t.same(durable.slice(1), ['2/4 | 2/4']);
  t.equal(ends(await all(log.read(origin))), '1/1 1/2 1/3 2/4');
  t.equal(await engine.get(blockKey(5)), undefined);
});

t.test('a cut below what is in flight leaves nothing of it', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.append(blocks(origin, 3));
  await engine.releaseAll();
  log.append(blocks(at(3), 2));
  await turns();
  log.cut(at(1));
  t.same([nameOf(log.last), nameOf(log.synced)], ['1/1', '1/1']);
  await engine.release();
  t.same(durable.slice(1), [' | 1/1'], 'its sync ended, its blocks are cut');
  t.equal(nameOf(log.synced), '1/1', 'it does not come back up');
  await engine.release();
  t.same(durable.slice(2), [' | 1/1']);
  t.equal(ends(await all(log.read(origin))), '1/1');
  const again = await open(engine.memory.crash({ power: true }));
  t.equal(nameOf(again.log.last), '1/1');
});

t.test('the lowest of two cuts counts, with what was appended in between', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.append(blocks(origin, 5));
  await engine.releaseAll();
  log.cut(at(2));
  log.append(blocks(at(2), 2, { size: 2, generation: 2 }));
  log.cut(at(4, 2));
  log.append([block(at(4, 2), 1, 3)]);
  await engine.releaseAll();
  t.same(durable.slice(1), ['2/4 3/5 | 3/5']);
  t.equal(ends(await all(log.read(origin))), '1/1 1/2 2/4 3/5');
  for (const gone of [3, 6]) t.equal(await engine.get(blockKey(gone)), undefined);
});

t.test('everything may be cut, and written anew', async (t) => {
  const engine = new MemoryEngine();
  const { log } = await open(engine);
  log.append(blocks(origin, 3));
  await log.settled();
  log.cut(origin);
  await log.settled();
  t.equal(nameOf((await open(engine.crash({ power: true }))).log.last), '0/0');
});

t.test('a record without sync goes unsynced when the disk is idle', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.record(vote('x'), { sync: false });
  await turns();
  t.equal(engine.held[0]?.sync, false);
  await engine.release();
  t.equal(await voteOf(log), 'x');
  t.same(durable, [], 'it makes nothing durable');
  t.equal(log.meter.batches, 0);
});

t.test('a record without sync goes with the next synced batch', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.append([block(origin)]);
  await turns();
  log.record(vote('x'), { sync: false });
  log.append([block(at(1))]);
  await engine.release();
  t.equal(engine.held[0]?.sync, true);
  await engine.release();
  t.same(durable, ['1/1 | 1/1', '1/2 | 1/2']);
  t.equal(await voteOf((await open(engine.memory.crash({ power: true }))).log), 'x');
});

t.test('a record with sync is one durable batch without blocks', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.record(vote('x'), { sync: true });
  t.equal(await voteOf(log), undefined, 'what collects is not read');
  await turns();
  t.equal(engine.held[0]?.sync, true);
  await engine.release();
  t.same(durable, [' | 0/0']);
  log.record([{ type: 'del', key: metaKey('vote') }], { sync: true });
  await engine.releaseAll();
  t.equal(await voteOf(log), undefined);
});

t.test('records are scanned by prefix, without their checksums', async (t) => {
  const { log } = await open(new MemoryEngine());
  log.record([...vote('x'), { type: 'put', key: key('n'), value: key('') }], { sync: false });
  await log.settled();
  const found = await all(log.scan(key('m')));
  t.same(
    found.map(([k, v]) => `${text(k)}=${text(v)}`),
    ['mvote=x'],
  );
});

t.test('settled waits for what was handed over before, and for nothing else', async (t) => {
  const { engine, log } = await openHeld();
  await log.settled();
  const done: string[] = [];
  const note = (name: string) => void log.settled().then(() => done.push(name));
  log.append([block(origin)]);
  note('first');
  await turns();
  note('first again');
  log.append([block(at(1))]);
  note('second');
  await turns();
  t.same(done, []);
  await engine.release();
  t.same(done, ['first', 'first again']);
  log.append([block(at(2))]);
  await engine.release();
  t.same(done, ['first', 'first again', 'second'], 'the third has not been written');
});

t.test('what is settled is announced: settled and durable$ agree', async (t) => {
  const { engine, log, durable } = await openHeld();
  log.append([block(origin)]);
  const seen = log.settled().then(() => durable.slice());
  await engine.releaseAll();
  t.same(await seen, ['1/1 | 1/1']);
});

t.test('read gives what is durable, from any block’s end', async (t) => {
  const { engine, log } = await openHeld();
  log.append(blocks(origin, 200, { size: 3 }));
  await engine.releaseAll();
  log.append(blocks(at(600), 3));
  await turns();
  t.equal((await all(log.read(origin))).length, 200);
  t.equal(ends(await all(log.read(at(594)))), '1/597 1/600');
  t.equal(ends(await all(log.read(at(600)))), '');
  const again = await open(engine.memory.crash({ power: true }));
  t.equal((await all(again.log.read(origin))).length, 200, 'from the disk too');
  t.equal(ends(await all(again.log.read(at(594)))), '1/597 1/600');
  t.same((await all(again.log.read(at(597))))[0]?.bytes, block(at(597), 3).bytes, 'as received');
});

t.test('a read that a cut overtakes ends there, it finds no damage', async (t) => {
  for (const after of [0, 1, 2, 150]) {
    const { log } = await open((await filled(300)).crash({ power: true }));
    const seen: LogBlock[] = [];
    for await (const b of log.read(origin)) {
      seen.push(b);
      if (seen.length === 2) log.cut(at(after));
    }
    t.equal(seen.length, Math.max(2, after));
  }
});

async function filled(count: number): Promise<MemoryEngine> {
  const engine = new MemoryEngine();
  const { log } = await open(engine);
  log.append(blocks(origin, count));
  await log.settled();
  return engine;
}

t.test('follow gives history, then what becomes durable', async (t) => {
  const engine = new HeldEngine((await filled(150)).crash({ power: true }));
  const { log } = await open(engine);
  const f = following(log, at(100));
  t.equal(await f.state(), 'follows');
  t.equal(ends(f.seen), ends(blocks(at(100), 50)));
  log.append(blocks(at(150), 2));
  await turns();
  t.equal(f.seen.length, 50, 'not before the sync');
  await engine.release();
  t.equal(ends(f.seen.slice(50)), '1/151 1/152');
  log.record(vote('x'), { sync: true });
  await engine.release();
  t.equal(await f.state(), 'follows');
  t.equal(f.seen.length, 52);
});

t.test('two followers each get everything', async (t) => {
  const { log } = await open(await filled(3));
  const [f, g] = [following(log, origin), following(log, at(2))];
  log.append([block(at(3))]);
  await turns();
  t.equal(ends(f.seen), '1/1 1/2 1/3 1/4');
  t.equal(ends(g.seen), '1/3 1/4');
});

t.test('follow ends when it is aborted, waiting or reading', async (t) => {
  const { log } = await open(await filled(3));
  const f = following(log, origin);
  t.equal(await f.state(), 'follows');
  f.stop.abort();
  t.equal(await f.state(), 'ended');
  log.append([block(at(3))]);
  await turns();
  t.equal(f.seen.length, 3);
  const stop = new AbortController();
  const seen: LogBlock[] = [];
  for await (const b of log.follow(origin, stop.signal)) {
    seen.push(b);
    if (seen.length === 2) stop.abort();
  }
  t.equal(seen.length, 2);
  t.same(await all(log.follow(origin, AbortSignal.abort())), []);
});

t.test('follow ends when its position is cut away, and only then', async (t) => {
  const { log } = await open(await filled(5));
  const [f, g, h] = [following(log, at(2)), following(log, at(5)), following(log, at(3))];
  t.equal(await f.state(), 'follows');
  log.cut(at(4));
  log.append([block(at(4), 1, 2)]);
  t.equal(await f.state(), 'ended', 'it had read 5');
  t.equal(await g.state(), 'ended');
  t.equal(await h.state(), 'ended');
  t.equal(ends(f.seen), '1/3 1/4 1/5');
  const k = following(log, at(4));
  t.equal(await k.state(), 'follows');
  t.equal(ends(k.seen), '2/5');
});

t.test('a follower that stands where the log is cut goes on', async (t) => {
  const { engine, log } = await openHeld();
  log.append(blocks(origin, 2));
  await engine.releaseAll();
  const f = following(log, origin);
  log.append([block(at(2))]);
  await turns();
  log.cut(at(2));
  log.append([block(at(2), 1, 2)]);
  await engine.releaseAll();
  t.equal(await f.state(), 'follows');
  t.equal(ends(f.seen), '1/1 1/2 2/3');
});

t.test('a follower below a cut goes on with what came instead', async (t) => {
  const { log } = await open(await filled(5));
  const seen: string[] = [];
  const stop = new AbortController();
  for await (const { end } of log.follow(origin, stop.signal)) {
    seen.push(nameOf(end));
    if (seen.length === 2) {
      log.cut(at(3));
      log.append([block(at(3), 1, 2)]);
    }
    if (end.generation === 2) stop.abort();
  }
  t.same(seen, ['1/1', '1/2', '1/3', '2/4'], '4 and 5 of the old ones are not among them');
});

t.test('a follower that reads the disk while a cut comes gets nothing that was cut', async (t) => {
  const engine = new HeldEngine((await filled(5)).crash({ power: true }));
  engine.holds = false;
  const { log } = await open(engine);
  let go = (): void => undefined;
  engine.scanGate = new Promise((resolve) => {
    go = resolve;
  });
  const f = following(log, at(1));
  await turns();
  engine.scanGate = undefined;
  log.cut(at(3));
  log.append([block(at(3), 1, 2)]);
  await turns();
  go();
  t.equal(await f.state(), 'follows');
  t.equal(ends(f.seen), '1/2 1/3 2/4');
});

t.test('a failed sync ends the process: nothing after it is durable or settled', async (t) => {
  const memory = new MemoryEngine();
  const errors: unknown[] = [];
  const { log, durable } = await open(memory, (error) => errors.push(error));
  log.append([block(origin)]);
  await log.settled();
  memory.failSyncs(new Error('the disk is gone'));
  log.append([block(at(1))]);
  const settled = log.settled().then(() => 'settled');
  await turns();
  log.append([block(at(2))]);
  log.record(vote('x'), { sync: false });
  await turns();
  t.match(errors, [{ message: 'the disk is gone' }]);
  t.same(durable, ['1/1 | 1/1']);
  t.equal(nameOf(log.synced), '1/1');
  t.equal(await Promise.race([settled, turns().then(() => 'waits')]), 'waits');
  const { log: again } = await open(memory.crash({ power: true }));
  t.equal(nameOf(again.last), '1/1');
});

t.test('a power cut leaves what was synced, a kill what was written', async (t) => {
  for (const power of [true, false]) {
    const { engine, log } = await openHeld();
    log.append(blocks(origin, 3), vote('synced'));
    await engine.releaseAll();
    log.record(vote('written'), { sync: false });
    await engine.releaseAll();
    log.append([block(at(3))]);
    await turns();
    const again = await open(engine.memory.crash({ power }));
    t.equal(ends(await all(again.log.read(origin))), '1/1 1/2 1/3');
    t.equal(await voteOf(again.log), power ? 'synced' : 'written');
  }
});

t.test('close writes what collects, ends followers and completes', async (t) => {
  const { engine, log, durable } = await openHeld();
  engine.holds = false;
  let completed = false;
  log.durable$.subscribe({ complete: () => (completed = true) });
  const f = following(log, origin);
  log.append(blocks(origin, 2));
  await log.close();
  await log.close();
  t.equal(await f.state(), 'ended');
  t.same(durable, ['1/1 1/2 | 1/2']);
  t.ok(completed);
  t.throws(() => log.append([block(at(2))]), AssertionError);
  const again = await open(engine.memory.crash({ power: true }));
  t.equal(nameOf(again.log.last), '1/2');
});

type Step =
  | { readonly do: 'append'; readonly count: number; readonly size: number }
  | { readonly do: 'cut'; readonly to: number }
  | { readonly do: 'record'; readonly sync: boolean }
  | { readonly do: 'release' }
  | { readonly do: 'crash'; readonly power: boolean };

const step: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: appends(), weight: 4 },
  { arbitrary: fc.record({ do: fc.constant('cut' as const), to: fc.nat(30) }), weight: 2 },
  { arbitrary: fc.record({ do: fc.constant('record' as const), sync: fc.boolean() }), weight: 2 },
  { arbitrary: fc.constant({ do: 'release' as const }), weight: 5 },
  { arbitrary: fc.record({ do: fc.constant('crash' as const), power: fc.boolean() }), weight: 1 },
);

function appends(): fc.Arbitrary<Step> {
  const [count, size] = [fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 })];
  return fc.record({ do: fc.constant('append' as const), count, size });
}

/** What the log must be: a plain list and a number. */
interface Model {
  readonly list: readonly LogBlock[];
  readonly vote: number;
}

/** Against a list: what is there after each crash is a state that the log had, and no older than the newest synced one. */
class Checked {
  #engine = new HeldEngine();
  #log!: EventLog;
  #now: Model = { list: [], vote: 0 };
  /** Every state since the last crash, and how many of them each write that came has made. */
  #states: Model[] = [this.#now];
  #generation = 0;
  /** The state that each write under way, or done, leaves. */
  #writes: { readonly state: number; readonly sync: boolean; done: boolean }[] = [];
  #announced: string[] = [];

  async open(): Promise<void> {
    this.#generation += 1;
    const { log, damage } = await openLog({
      engine: this.#engine,
      fatal: (error) => {
        throw error;
      },
    });
    equal(damage, undefined);
    this.#log = log;
    this.#announced = ends(await all(log.read(origin)))
      .split(' ')
      .filter(Boolean);
    log.durable$.subscribe(({ blocks, synced }) => {
      // Read as a follower would: what was cut goes, what is announced stays.
      const list = this.#now.list.map(({ end }) => nameOf(end));
      for (const b of blocks) {
        equal(list.includes(nameOf(b.end)), true, `${nameOf(b.end)} was cut`);
        this.#announced.push(nameOf(b.end));
      }
      equal(nameOf(synced), nameOf(log.synced));
    });
  }

  async step(step: Step): Promise<void> {
    const last = this.#log.last;
    switch (step.do) {
      case 'append': {
        const added = blocks(last, step.count, { size: step.size, generation: this.#generation });
        this.#log.append(added);
        this.#moved({ ...this.#now, list: [...this.#now.list, ...added] });
        break;
      }
      case 'cut': {
        const list = this.#now.list.slice(0, step.to);
        if (list.length === this.#now.list.length) break;
        this.#generation += 1;
        this.#log.cut(list.at(-1)?.end ?? origin);
        this.#announced = this.#announced.slice(0, list.length);
        this.#moved({ ...this.#now, list });
        break;
      }
      case 'record': {
        const vote = this.#now.vote + 1;
        this.#log.record([{ type: 'put', key: metaKey('vote'), value: Uint8Array.of(vote) }], {
          sync: step.sync,
        });
        this.#moved({ ...this.#now, vote });
        break;
      }
      case 'release':
        await this.#release();
        break;
      case 'crash':
        await this.#crash(step.power);
    }
    await turns();
    this.#noteWrites();
    equal(this.#engine.held.length <= 1, true, 'one in flight');
    equal(nameOf(this.#log.last), nameOf(this.#now.list.at(-1)?.end ?? origin));
    deepEqual(
      (await all(this.#log.read(origin))).map(({ end }) => nameOf(end)),
      this.#announced,
      'what is read is what was announced',
    );
  }

  #moved(state: Model): void {
    this.#now = state;
    this.#states.push(state);
  }

  /** A write takes everything that was handed over before it left. */
  #noteWrites(): void {
    while (this.#writes.length < this.#engine.seen.length) {
      const { sync } = this.#engine.seen[this.#writes.length] ?? { sync: false };
      this.#writes.push({ state: this.#states.length - 1, sync, done: false });
    }
  }

  async #release(): Promise<void> {
    const write = this.#writes.find(({ done }) => !done);
    await this.#engine.release();
    if (write !== undefined) write.done = true;
  }

  async #crash(power: boolean): Promise<void> {
    const kept = this.#writes.findLast(({ sync, done }) => done && (sync || !power));
    const state = this.#states[kept?.state ?? 0] as Model;
    this.#engine = new HeldEngine(this.#engine.memory.crash({ power }));
    this.#now = state;
    this.#states = [state];
    this.#writes = [];
    await this.open();
    deepEqual(
      (await all(this.#log.read(origin))).map(({ bytes }) => toHex(bytes)),
      state.list.map(({ bytes }) => toHex(bytes)),
    );
    equal((await this.#log.get(metaKey('vote')))?.[0] ?? 0, state.vote);
  }
}

t.test('random appends, cuts, records and crashes leave what a list would hold', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const checked = new Checked();
      await checked.open();
      for (const s of steps) await checked.step(s);
      await checked.step({ do: 'crash', power: true });
    }),
    { numRuns: 150 },
  );
  t.pass('every one of them');
});

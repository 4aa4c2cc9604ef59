import { cpSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { LogBlock } from '../../src/log/event-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { writeSampleLog } from '../../tools/lab/sample-log.js';
import { LogFolder } from '../../tools/log/folder.js';
import { follow } from '../../tools/log/follow.js';
import { logNumbers, WriteAheadLog } from '../../tools/log/write-ahead-log.js';
import { SeededRandom } from '../sim/schedule.js';
import { appendPut, openForWriting } from './append.js';
import { dumped, lines } from './support.js';

/* `dump --follow`: the log of a running process, as it grows. */

const root = t.testdir();
const sample = join(root, 'sample');
await writeSampleLog(sample, { entries: 50, blockSize: 7, keys: 5 });

/** What a follower shows, entry by entry. */
class Follower {
  readonly notices: string[] = [];
  readonly #blocks: AsyncIterator<readonly LogBlock[]>;
  #waiting: string[] = [];

  private constructor(folder: LogFolder, from: number) {
    const options = { from, skipped: undefined, say: (text: string) => this.notices.push(text) };
    this.#blocks = follow(folder, options)[Symbol.asyncIterator]();
  }

  static async open(dir: string, from = 1): Promise<Follower> {
    return new Follower(await LogFolder.open(dir), from);
  }

  /** The next `count` entries, as `generation/index`. */
  async next(count: number): Promise<readonly string[]> {
    while (this.#waiting.length < count) {
      const { value } = (await this.#blocks.next()) as { value: readonly LogBlock[] };
      for (const { entries } of value) {
        this.#waiting.push(...entries.map(({ generation, index }) => `${generation}/${index}`));
      }
    }
    return this.#waiting.splice(0, count);
  }

  /** A store that is open when it is forgotten ends the process. */
  async close(): Promise<void> {
    await this.#blocks.return?.();
  }
}

function range(generation: number, from: number, to: number): readonly string[] {
  return Array.from({ length: to - from + 1 }, (_, i) => `${generation}/${from + i}`);
}

function copyTo(name: string): string {
  const dir = join(root, name);
  cpSync(sample, dir, { recursive: true });
  return dir;
}

t.test('what is appended is shown once, in order', async (t) => {
  const dir = copyTo('appended');
  const log = await openForWriting(dir);
  const follower = await Follower.open(dir);
  t.same(await follower.next(50), range(1, 1, 50));
  for (let i = 0; i < 30; i += 1) {
    appendPut(log, Buffer.from(`key ${i}`), Buffer.alloc(i * 3_000, 'x'));
    if (i % 3 === 0) await log.settled();
  }
  await log.settled();
  t.same(await follower.next(30), range(1, 51, 80));
  appendPut(log, Buffer.from('key'), Buffer.from('one more'));
  await log.settled();
  t.same(await follower.next(1), ['1/81']);
  const late = await Follower.open(dir, 70);
  const shown = await late.next(12);
  t.same(shown.at(-1), '1/81', 'one that begins late shows the block that holds its first entry');
  await late.close();
  await follower.close();
  await log.close();
});

t.test('entries that were cut are followed by what took their place', async (t) => {
  const dir = copyTo('cut');
  const log = await openForWriting(dir);
  const follower = await Follower.open(dir);
  await follower.next(50);
  for (let i = 0; i < 4; i += 1) appendPut(log, Buffer.from('a'), Buffer.from('b'));
  await log.settled();
  t.same(await follower.next(4), range(1, 51, 54));
  log.cut({ generation: 1, index: 52 });
  appendPut(log, Buffer.from('a'), Buffer.from('c'), 2);
  await log.settled();
  t.same(await follower.next(1), ['2/53']);
  t.same(follower.notices, ['the log was cut after entry 52 of generation 1']);
  await follower.close();
  await log.close();
});

t.test('a process that stops and starts again is followed on', async (t) => {
  const dir = copyTo('restarted');
  const follower = await Follower.open(dir);
  t.same(await follower.next(50), range(1, 1, 50));
  for (let start = 0; start < 3; start += 1) {
    const log = await openForWriting(dir);
    appendPut(log, Buffer.from('a'), Buffer.from('b'));
    await log.close();
    t.same(await follower.next(1), [`1/${51 + start}`]);
  }
  await follower.close();
});

t.test('the write-ahead log gives back every change in order', async (t) => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1_000_000));
  t.comment(`SEED=${seed}`);
  const random = new SeededRandom(seed);
  const dir = t.testdir();
  const engine = await RocksEngine.open(dir);
  const store = join(dir, 'store');
  const [number = 0] = await logNumbers(store);
  const reader = await WriteAheadLog.open(store, number);
  const written: string[] = [];
  const read: string[] = [];
  const say = (key: Uint8Array, value: Uint8Array | undefined): string =>
    `${Buffer.from(key).toString('hex')}=${value === undefined ? '' : Buffer.from(value).toString('hex')}`;
  for (let batch = 0; batch < 200; batch += 1) {
    const ops = Array.from({ length: 1 + Math.floor(random.float() * 4) }, () => {
      const key = random.bytes(1 + Math.floor(random.float() * 40));
      // Now and then longer than a block of 32 KiB, and around its end.
      const size = random.float() < 0.2 ? 32_700 + random.float() * 80_000 : random.float() * 300;
      return random.float() < 0.2
        ? ({ type: 'del', key } as const)
        : ({ type: 'put', key, value: random.bytes(Math.floor(size)) } as const);
    });
    for (const op of ops) written.push(say(op.key, op.type === 'put' ? op.value : undefined));
    await engine.write(ops, { sync: batch % 10 === 0 });
    if (random.float() < 0.5) continue;
    for await (const changes of reader.added()) {
      for (const { key, value } of changes) read.push(say(key, value));
    }
    t.equal(read.length, written.length);
  }
  for await (const changes of reader.added()) {
    for (const { key, value } of changes) read.push(say(key, value));
  }
  t.ok(
    written.every((change, i) => change === read[i]),
    'every one, in order',
  );
  await reader.close();
  await engine.close();
});

t.test('a fragment ends anywhere in a block of the write-ahead log', async (t) => {
  const dir = t.testdir();
  const engine = await RocksEngine.open(dir);
  const store = join(dir, 'store');
  const [number = 0] = await logNumbers(store);
  const file = join(store, `${String(number).padStart(6, '0')}.log`);
  const reader = await WriteAheadLog.open(store, number);
  let written = 0;
  for (let left = 0; left <= 40; left += 1) {
    // Header of a fragment, of a batch, tag, two lengths, a key of one byte.
    const overhead = 7 + 12 + 1 + 1 + 1 + 2;
    // First so that 8,000 bytes of a block are left, then so that `left` are.
    for (const room of [8_000, left]) {
      const free = 32_768 - (statSync(file).size % 32_768);
      const value = Buffer.alloc((free - room - overhead + 32_768) % 32_768, 'x');
      await engine.write([{ type: 'put', key: Buffer.from('a'), value }], { sync: false });
      written += 1;
    }
  }
  let read = 0;
  for await (const changes of reader.added()) read += changes.length;
  t.equal(read, written);
  await reader.close();
  await engine.close();
});

t.test('a table that its writer removes is read on', async (t) => {
  const dir = copyTo('merged');
  // An open and a close write the log to a table.
  for (let i = 0; i < 2; i += 1) await (await openForWriting(dir)).close();
  const store = join(dir, 'store');
  const folder = await LogFolder.open(dir);
  const tables = readdirSync(store).filter((name) => name.endsWith('.sst'));
  t.ok(tables.length > 0);
  for (const name of tables) rmSync(join(store, name));
  let entries = 0;
  for await (const block of folder.blocks()) entries += block.entries.length;
  t.equal(entries, 50);
  await folder.close();
});

t.test(
  'a folder is read whole while it is written, whatever RocksDB does with its files',
  async (t) => {
    const dir = copyTo('busy');
    const log = await openForWriting(dir);
    let looks = 0;
    let count = 0;
    const writer = (async () => {
      while (looks < 5 && count < 4_000) {
        appendPut(log, Buffer.from(`key ${count}`), Buffer.alloc(60_000, `${count}`));
        count += 1;
        if (count % 20 === 0) await log.settled();
      }
      await log.settled();
    })();
    while (looks < 5 && count < 4_000) {
      const shown = lines((await dumped(dir, { prefix: Buffer.from('none') })).stdout);
      t.same(shown, [], 'no gap, no damage');
      looks += 1;
    }
    await writer;
    const follower = await Follower.open(dir, count);
    t.same((await follower.next(51)).at(-1), `1/${count + 50}`);
    await follower.close();
    await log.close();
  },
);

import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { hashStored } from '../../src/chain/state-hash.js';
import { DataFolder } from '../../src/log/data-folder.js';
import { metaKey, metaPrefix, sessionPrefix } from '../../src/log/keys.js';
import { seal } from '../../src/log/record.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { writeSampleLog } from '../../tools/lab/sample-log.js';
import { LogFolder } from '../../tools/log/folder.js';
import { SeededRandom } from '../sim/schedule.js';
import {
  bisected,
  change,
  compared,
  contentOf,
  dumped,
  historyOf,
  lines,
  replayed,
  verified,
} from './support.js';

/* The verbs of `keychaindb log` on folders that are whole. */

const fixtures = fileURLToPath(new URL('../../../test/fixtures/0.1.0', import.meta.url));
const root = t.testdir();
const sample = join(root, 'sample');
/** 500 entries in blocks of seven, one in ten a delete. */
await writeSampleLog(sample, { entries: 500, blockSize: 7, keys: 20, deleteEvery: 10 });
const coordinator = join(root, 'coordinator-1');
cpSync(join(fixtures, 'coordinator-1'), coordinator, { recursive: true });

t.test('dump prints every entry, as one object a line and as a table', async (t) => {
  const { code, stdout } = await dumped(sample);
  t.equal(code, 0);
  const entries = lines(stdout);
  t.equal(entries.length, 500);
  t.same(
    entries.map(({ revision }) => revision),
    Array.from({ length: 500 }, (_, i) => i + 1),
  );
  t.match(entries[0], {
    epoch: 1,
    time: '2026-09-21T14:13:20.001Z',
    type: 'put',
    value: 'value 1',
    valueBytes: 7,
    createRevision: 1,
    version: 1,
    request: `${'02'.repeat(16)}:1`,
  });
  t.match(entries[9], { type: 'delete', existed: Boolean });
  const table = (await dumped(sample, { output: 'table' })).stdout.split('\n');
  t.match(table[0], /^REVISION +EPOCH +TIME +TYPE +KEY +WHAT +REQUEST$/);
  t.match(table[1], /^1 +1 +2026-09-21T14:13:20.001Z +put +key\/\d+ +value 1 +0202/);
  t.equal(table.length, 502);
});

t.test('dump shows what is asked for alone', async (t) => {
  const all = lines((await dumped(sample)).stdout);
  const key = Buffer.from(String(all[0]?.['key']));
  const at = 1_790_000_000_000;
  const cases: readonly [Parameters<typeof dumped>[1], (e: Record<string, unknown>) => boolean][] =
    [
      [{ key }, (e) => e['key'] === key.toString()],
      [{ prefix: Buffer.from('key/1') }, (e) => String(e['key']).startsWith('key/1')],
      [
        { from: 100, until: 120 },
        (e) => Number(e['revision']) >= 100 && Number(e['revision']) <= 120,
      ],
      [{ epoch: 1 }, () => true],
      [{ epoch: 2 }, () => false],
      [{ type: ['delete'] }, (e) => e['type'] === 'delete'],
      [{ request: { clientId: '02'.repeat(16), seq: 42 } }, (e) => e['revision'] === 165],
      [
        { request: { clientId: '02'.repeat(16), seq: undefined } },
        (e) => Number(e['revision']) % 4 === 1,
      ],
      [{ request: { clientId: '08'.repeat(16), seq: undefined } }, () => false],
      [{ trace: 'ab'.repeat(16) }, () => false],
      [{ since: at + 490 }, (e) => Number(e['revision']) >= 490],
      [{ before: at + 10 }, (e) => Number(e['revision']) < 10],
    ];
  for (const [flags, isWanted] of cases) {
    const shown = lines((await dumped(sample, flags ?? {})).stdout);
    t.same(shown, all.filter(isWanted), JSON.stringify(flags));
  }
});

t.test('a coordinator’s log says who was named, in terms', async (t) => {
  const entries = lines((await dumped(coordinator)).stdout);
  t.match(entries[0], { index: 1, term: Number, type: 'leader' });
  t.ok(entries.some(({ type, id }) => type === 'add-member' && id === 'node-1'));
  t.ok(entries.some(({ type }) => type === 'create-cluster'));
  t.match(
    (await dumped(coordinator, { output: 'table' })).stdout,
    /^INDEX +TERM +TIME +TYPE +MEMBER +WHAT\n/,
  );
  const member = lines((await historyOf(coordinator, 'node-1')).stdout);
  t.ok(member.length > 1);
  t.ok(member.every(({ id }) => id === 'node-1'));
});

t.test(
  'keys and values that are no text stand in base64, and are shown in hexadecimal',
  async (t) => {
    const dir = join(t.testdir(), 'bytes');
    const odd = (index: number) => (index === 3 ? 'line\nbreak \u001b[31m' : undefined);
    await writeSampleLog(dir, { entries: 5, keys: 1, value: odd });
    await writeBytes(dir);
    const entries = lines((await dumped(dir)).stdout);
    t.match(entries[2], { value: 'line\nbreak \u001b[31m' });
    t.match(entries[5], { keyBase64: '/wA=', valueBase64: '/v8=' });
    const table = (await dumped(dir, { output: 'table' })).stdout;
    t.match(table, /0xff00 +0xfeff/);
    t.notOk(table.includes('\u001b'), 'nothing steers the terminal');
    t.equal(table.split('\n').length, 8, 'one line an entry');
    const { stdout } = await replayed(dir, { state: true, until: 6 });
    t.match(stdout, /\{"keyBase64":"\/wA=","valueBase64":"\/v8="/);
  },
);

/** Adds an entry whose key and value are no UTF-8. */
async function writeBytes(dir: string): Promise<void> {
  const { appendEntry } = await import('./append.js');
  await appendEntry(dir, Uint8Array.of(0xff, 0), Uint8Array.of(0xfe, 0xff));
}

t.test('verify finds nothing in a folder that is whole', async (t) => {
  for (const dir of [sample, coordinator, join(fixtures, 'node-1')]) {
    const { code, stdout } = await verified(dir);
    t.equal(code, 0, stdout);
    for (const check of ['records', 'order', 'high-water', 'invariants', 'state']) {
      t.match(stdout, new RegExp(`^${check} +ok`, 'm'));
    }
  }
  const [report] = lines((await verified(sample, { output: 'json' })).stdout);
  t.match(report, {
    kind: 'node',
    id: 'node-1',
    entries: 500,
    blocks: 72,
    faults: [],
    faultCount: 0,
  });
});

t.test('replay gives the state at any entry', async (t) => {
  const entries = lines((await dumped(sample)).stdout);
  const state = new Map<string, unknown>();
  const hashes = new Set<unknown>();
  for (const [i, entry] of entries.entries()) {
    const key = String(entry['key']);
    if (entry['type'] === 'put') {
      const { value, valueBytes, createRevision, version } = entry;
      state.set(key, { key, value, valueBytes, createRevision, modRevision: i + 1, version });
    } else state.delete(key);
    if (i % 37 !== 0 && i !== entries.length - 1) continue;
    const { stdout } = await replayed(sample, { until: i + 1, state: true });
    t.same(JSON.parse(stdout), {
      revision: i + 1,
      epoch: 1,
      objects: [...state.keys()].sort().map((name) => state.get(name)),
    });
    const [summary] = lines((await replayed(sample, { until: i + 1 })).stdout);
    t.match(summary, { revision: i + 1, keys: state.size });
    hashes.add(summary?.['hash']);
  }
  t.equal(hashes.size, 15, 'every state has its own hash');
});

t.test('the hash of the replay is that of what the store holds', async (t) => {
  const folder = await LogFolder.open(sample);
  const { hash, watermark } = await hashStored(folder.scan(metaPrefix, sessionPrefix));
  await folder.close();
  t.equal(watermark.index, 500);
  t.equal(lines((await replayed(sample)).stdout)[0]?.['hash'], hash);
});

t.test('replay shows each entry with what stood there before and after', async (t) => {
  const printed = lines((await replayed(sample, { step: true })).stdout);
  const steps = printed.slice(0, -1);
  const summary = printed.at(-1);
  t.equal(steps.length, 500);
  t.equal(steps.at(-1)?.['hash'], summary?.['hash']);
  const last = new Map<string, unknown>();
  for (const step of steps) {
    const key = String(step['key']);
    t.same(step['before'], last.get(key) ?? null);
    last.set(key, step['after']);
  }
  const [key = ''] = last.keys();
  const own = lines((await replayed(sample, { step: true, key: Buffer.from(key) })).stdout);
  t.ok(own.slice(0, -1).every((step) => step['key'] === key));
  t.same(own.at(-1)?.['found'], last.get(key));
  const views = lines((await replayed(coordinator, { step: true })).stdout);
  t.match(views.at(-1), { id: 'coordinator-1', members: 1, hash: String });
});

t.test(
  'the same writes give the same output and hash, however they were put into blocks',
  async (t) => {
    const other = join(t.testdir(), 'other');
    await writeSampleLog(other, { entries: 500, blockSize: 50, keys: 20, deleteEvery: 10 });
    t.equal((await replayed(other)).stdout, (await replayed(sample)).stdout);
    t.equal((await dumped(other)).stdout, (await dumped(sample)).stdout);
    const { code, stdout } = await compared(sample, other);
    t.equal(code, 0);
    t.match(stdout, /the logs are the same through entry 500\nthe states are the same: \d+ keys/);
  },
);

t.test('diff of one that is behind finds no fault', async (t) => {
  const behind = join(t.testdir(), 'behind');
  await writeSampleLog(behind, { entries: 350, blockSize: 7, keys: 20, deleteEvery: 10 });
  for (const [a, b] of [
    [sample, behind],
    [behind, sample],
  ] as const) {
    const { code, stdout } = await compared(a, b);
    t.equal(code, 0, stdout);
    t.match(stdout, /same through entry 350\nnode-1 goes on alone with 150 more/);
    t.match(stdout, /the states are the same: \d+ keys/);
  }
  t.equal((await compared(coordinator, coordinator)).code, 0);
});

t.test('bisect finds the first entry after which a command fails', async (t) => {
  const random = new SeededRandom(5);
  for (const at of [1, 2, 500, 1 + Math.floor(random.float() * 500)]) {
    const dir = join(t.testdir(), `wrong-${at}`);
    const value = (index: number) => (index === at ? 'WRONG' : undefined);
    await writeSampleLog(dir, { entries: 500, blockSize: 7, keys: 400, value });
    const until = Math.max(at, Math.min(500, at + 20));
    const found = await bisected(dir, { check: '! grep -q WRONG', until });
    t.equal(found.code, 0, found.stderr);
    t.match(lines(found.stdout)[0], { revision: at, value: 'WRONG', after: { value: 'WRONG' } });
  }
  const view = await bisected(coordinator, { check: '! grep -q node-1' });
  t.match(lines(view.stdout)[0], { type: 'add-member', id: 'node-1' });
});

t.test('bisect that has nothing to find, or a check that can’t be run, says so', async (t) => {
  const passes = await bisected(sample, { check: 'true' });
  t.equal(passes.reason, 'CONDITION_FAILED');
  t.match(passes.message, /passes at entry 500 too/);
  const fails = await bisected(sample, { check: 'false' });
  t.equal(fails.reason, 'CONDITION_FAILED');
  t.match(fails.message, /fails at entry 0 already/);
  const turned = await bisected(sample, { check: 'true', from: 5, until: 3 });
  t.match(turned, { reason: 'BAD_REQUEST', message: '--from: 5 lies behind --until, 3' });
  const none = await bisected(sample, { check: 'no-such-command-here' });
  t.equal(none.reason, 'BAD_REQUEST');
  t.match(none.message, /no-such-command-here: it ended with 127: there is no such command/);
  const hangs = await bisected(sample, { check: 'exec sleep 60', checkTimeout: 50 });
  t.equal(hangs.reason, 'BAD_REQUEST');
  t.match(hangs.message, /ended by SIGKILL; it may take 50 ms/);
});

t.test('history shows every write of a key', async (t) => {
  const all = lines((await dumped(sample)).stdout);
  for (const key of ['key/3', 'key/11']) {
    const { code, stdout } = await historyOf(sample, key);
    t.equal(code, 0);
    t.same(
      lines(stdout),
      all.filter((entry) => entry['key'] === key),
    );
  }
  const none = await historyOf(sample, 'nobody');
  t.equal(none.code, 3);
  t.match(none.stderr, /KEY_NOT_FOUND: the log of node-1 has no write of nobody/);
});

t.test('what is not a folder of ours, or newer, or not there, is refused', async (t) => {
  const dir = t.testdir({ empty: {}, demo: { 'cluster.json': '{}' } });
  for (const verb of [dumped, verified, replayed] as const) {
    const cases: readonly [string, RegExp][] = [
      [
        join(dir, 'nothing'),
        /nothing is not the data folder of a node or coordinator: there is no such folder/,
      ],
      [join(dir, 'empty'), /it has no store/],
      [join(dir, 'demo'), /it is a demo's; the folders in it are, .*node-1 for one/],
    ];
    for (const [path, message] of cases) {
      const { reason, message: text } = await verb(path);
      t.equal(reason, 'BAD_REQUEST');
      t.match(text, message);
    }
  }
  const foreign = join(dir, 'foreign');
  mkdirSync(foreign);
  await change(foreign, (engine) =>
    engine.write([{ type: 'put', key: Buffer.from('a'), value: Buffer.from('b') }], { sync: true }),
  );
  t.match(await dumped(foreign), { reason: 'BAD_REQUEST', message: /no identity/ });
  const newer = join(dir, 'newer');
  cpSync(sample, newer, { recursive: true });
  await change(newer, async (engine) => {
    const key = metaKey('identity');
    const identity = JSON.parse(
      Buffer.from((await engine.get(key)) ?? [])
        .subarray(0, -4)
        .toString(),
    );
    const value = Buffer.from(JSON.stringify({ ...identity, format: 99 }));
    await engine.write([{ type: 'put', key, value: seal(key, value) }], { sync: true });
  });
  t.match(await verified(newer), {
    reason: 'BAD_REQUEST',
    message: /was written in format 99; this program knows/,
  });
  const broken = join(dir, 'broken');
  cpSync(sample, broken, { recursive: true });
  writeFileSync(join(broken, 'store', 'CURRENT'), 'MANIFEST-999999\n');
  t.match(await verified(broken), { reason: 'CORRUPT', message: /can't be opened/ });
});

t.test('flags that don’t fit the log are refused', async (t) => {
  t.match(await dumped(sample, { term: 1 }), {
    reason: 'BAD_REQUEST',
    message: /--term: this is a node's log/,
  });
  t.match(await dumped(coordinator, { epoch: 1 }), { reason: 'BAD_REQUEST', message: /--epoch/ });
  t.match(await dumped(sample, { type: ['promote'] }), {
    reason: 'BAD_REQUEST',
    message: /"promote" is none; a node's log has put, delete/,
  });
  t.match(await replayed(sample, { until: 501 }), {
    reason: 'REVISION_NOT_FOUND',
    message: /entry 501 is not in the log of node-1: it ends at 500/,
  });
  t.match(await compared(sample, coordinator), {
    reason: 'BAD_REQUEST',
    message: /can't be compared: node-1 is a node, coordinator-1 a coordinator/,
  });
});

t.test('no verb changes a folder', async (t) => {
  for (const dir of [sample, coordinator]) {
    const before = contentOf(dir);
    await dumped(dir);
    await verified(dir);
    await replayed(dir, { step: true });
    await compared(dir, dir);
    await bisected(dir, { check: '! grep -q .' });
    await historyOf(dir, 'key/1');
    t.same(contentOf(dir), before);
  }
});

t.test('a folder whose process runs is read beside it', async (t) => {
  const dir = join(t.testdir(), 'running');
  cpSync(sample, dir, { recursive: true });
  const { engine } = await DataFolder.open({
    dir,
    kind: 'node',
    id: 'node-1',
    random: new SeededRandom(1),
    openEngine: (path) => RocksEngine.open(path),
  });
  t.equal(lines((await dumped(dir)).stdout).length, 500);
  t.equal((await verified(dir)).code, 0);
  await engine.close();
});

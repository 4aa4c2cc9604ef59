import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { blockKey } from '../../src/log/keys.js';
import { writeFor } from '../../tools/bench/writers.js';
import { Lab, main } from '../../tools/lab/cluster.js';
import { writeSampleLog } from '../../tools/lab/sample-log.js';
import { flipByte } from '../log-tools/support.js';

/* `keychaindb log …` beside a running cluster, and as a program: exit codes, pipes, streams. */

const root = t.testdir();

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [main, 'log', ...args],
      { maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : Number(error.code ?? -1), stdout, stderr });
      },
    );
  });
}

t.test('under load', async (t) => {
  const lab = await Lab.start({ nodes: 3 });
  t.teardown(() => lab.stop());
  const client = lab.client();
  let isOver = false;
  const load = (async () => {
    while (!isOver) await writeFor(client, 500, 16);
  })();
  const nodes = lab.of('node');
  const folderOf = (id: string): string => lab.named(id).dataDir;

  await t.test('the replay of each log gives the hash that its node reports', async (t) => {
    for (const { id, grpc } of nodes) {
      const { code, stderr } = await run('replay', folderOf(id), '--live', grpc);
      t.equal(code, 0, stderr);
      t.match(stderr, new RegExp(`${id} at revision \\d+ of epoch \\d+ has the same hash`));
    }
  });

  await t.test('every folder passes, and no two nodes differ', async (t) => {
    for (const { id } of [...nodes, ...lab.of('coordinator')]) {
      const { code, stdout } = await run('verify', folderOf(id));
      t.equal(code, 0, stdout);
    }
    for (const [one, other] of [
      ['node-1', 'node-2'],
      ['node-3', 'node-2'],
      ['node-1', 'node-3'],
      ['coordinator-1', 'coordinator-3'],
    ] as const) {
      const { code, stdout } = await run('diff', folderOf(one), folderOf(other));
      t.equal(code, 0, stdout);
      if (one.startsWith('node')) t.match(stdout, /the states are the same: \d/);
    }
  });

  await t.test('dump --follow shows every write from where it began', async (t) => {
    const args = [main, 'log', 'dump', folderOf('node-3'), '--follow', '-o', 'json'];
    const follower = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => ended(follower));
    await client.put('marker', 'first');
    let before = 0;
    let seen = 0;
    for await (const line of createInterface({ input: follower.stdout })) {
      const { revision, key, value } = JSON.parse(line) as Record<string, unknown>;
      if (revision !== before + 1) t.fail(`revision ${String(revision)} follows ${before}`);
      before = Number(revision);
      if (key !== 'marker') continue;
      seen += 1;
      t.equal(value, seen === 1 ? 'first' : 'second');
      if (seen === 2) break;
      await client.put('marker', 'second');
    }
    t.equal(seen, 2);
  });

  isOver = true;
  await load;

  await t.test('export gives the spans that the nodes tell themselves', async (t) => {
    const traceId = 'ab'.repeat(16);
    const traceparent = `00-${traceId}-${'cd'.repeat(8)}-01`;
    const { revision } = await client.put('traced', 'v', { traceparent });
    const dirs = nodes.map(({ dataDir }) => dataDir);
    let spans: readonly ExportedSpan[] = [];
    await lab.until('every node has kept its part', async () => {
      spans = spansIn((await run('export', ...dirs, '--trace', traceId)).stdout);
      return spans.filter(({ name }) => /^chain\.(write|apply)$/.test(name)).length === 3;
    });
    const told = (await client.trace(traceId)).spans.filter(
      ({ service, name }) => service === 'keychaindb-node' && name !== 'chain.group_commit',
    );
    t.same(
      spans.map(({ spanId, parentSpanId, name }) => `${spanId} ${parentSpanId} ${name}`).sort(),
      told.map(({ spanId, parentId, name }) => `${spanId} ${parentId} ${name}`).sort(),
    );
    const byRevision = await run('export', ...dirs, '--revision', `${revision}`);
    t.same(spansIn(byRevision.stdout), spans);
    const jaeger = await run('export', ...dirs, '--revision', `${revision}`, '--format', 'jaeger');
    const { data } = JSON.parse(jaeger.stdout) as { data: { traceID: string; spans: unknown[] }[] };
    t.equal(data[0]?.traceID, traceId);
    t.equal(data[0]?.spans.length, spans.length);
  });

  await t.test('a write whose passing was not kept has no trace, and why', async (t) => {
    const { revision } = await client.put('plain', 'v');
    const none = await run('export', folderOf('node-1'), '--revision', `${revision}`);
    t.equal(none.code, 3);
    t.match(
      none.stderr,
      /TRACE_NOT_FOUND: node-1: revision \d+ is there, but no record of how it passed/,
    );
    const beyond = await run('export', folderOf('node-1'), '--revision', '999999999');
    t.match(
      beyond.stderr,
      /TRACE_NOT_FOUND: node-1: revision 999999999 is not in its log, which ends at/,
    );
    const both = await run(
      'export',
      folderOf('node-1'),
      '--revision',
      '1',
      '--trace',
      'ab'.repeat(16),
    );
    t.equal(both.code, 2);
    t.match(both.stderr, /one of them/);
    const coordinator = await run('export', folderOf('coordinator-1'), '--revision', '1');
    t.equal(coordinator.code, 2);
  });
});

t.test('a log that begins later: its base stands for what was before', async (t) => {
  const lab = await Lab.start({ nodes: 2, args: ['--log-entries-max', '200'] });
  t.teardown(() => lab.stop());
  const client = lab.client();
  const dirs = lab.of('node').map(({ dataDir }) => dataDir);
  const beginning =
    /the log of node-\d begins after entry (\d+): what was before it is in a snapshot/;
  let start = 0;
  await client.put('first', 'v');
  await lab.until('both logs have lost their beginning', async () => {
    await writeFor(client, 200, 16);
    const dumps = await Promise.all(dirs.map((dir) => run('dump', dir, '--key', 'first')));
    const starts = dumps.map(({ stderr }) => Number(beginning.exec(stderr)?.[1] ?? 0));
    start = Math.max(...starts);
    return starts.every((each) => each > 0);
  });
  const [one = '', other = ''] = dirs;
  for (const [i, { grpc }] of lab.of('node').entries()) {
    const dir = dirs[i] ?? '';
    const verified = await run('verify', dir);
    t.equal(verified.code, 0, verified.stdout + verified.stderr);
    const live = await run('replay', dir, '--live', grpc);
    t.equal(live.code, 0, live.stderr);
    t.match(live.stderr, /has the same hash/);
    const before = await run('replay', dir, '--until', '1');
    t.equal(before.code, 3);
    t.match(before.stderr, /REVISION_NOT_FOUND/);
  }
  const diff = await run('diff', one, other);
  t.equal(diff.code, 0, diff.stdout + diff.stderr);
  t.match(diff.stdout, /the states are the same: \d/);
  const dumped = await run('dump', one, '-o', 'json');
  const [line = ''] = dumped.stdout.split('\n');
  const { revision } = JSON.parse(line) as { revision: number };
  t.ok(revision > 1 && revision <= start + 1, `the dump begins with ${revision}`);
  const history = await run('history', one, 'first');
  t.equal(history.code, 3, 'its write is not in the log any more');
  t.match(history.stderr, beginning);
});

t.test('exit codes tell bad input, what is not there, and damage apart', async (t) => {
  const sample = join(root, 'sample');
  await writeSampleLog(sample, { entries: 3_000, keys: 20 });
  const cases: readonly [readonly string[], number, RegExp][] = [
    [['dump', join(root, 'nowhere')], 2, /BAD_REQUEST: .*there is no such folder/],
    [['dump', sample, '--term', '1'], 2, /BAD_REQUEST: --term/],
    [['dump', sample, '--since', 'yesterday'], 2, /--since.*is wanted/],
    [['dump', sample, '--request', 'xyz'], 2, /CLIENT\[:SEQ\] is wanted/],
    [['dump', sample, '--key', '@', '--base64'], 2, /BAD_REQUEST: "@" is not base64/],
    [['replay', sample, '--until', '3001'], 3, /REVISION_NOT_FOUND: entry 3001/],
    [['replay', sample, '--live', '127.0.0.1:1'], 4, /NOT_SERVING: 127.0.0.1:1 could not be asked/],
    [['replay', sample, '--live', '127.0.0.1:1', '--until', '5'], 2, /--until/],
    [['bisect', sample, '--check', 'true'], 3, /CONDITION_FAILED: /],
    [['bisect', sample, '--check', 'no-such-command'], 2, /BAD_REQUEST: --check: no-such-command/],
    [['bisect', sample], 2, /--check/],
    [['history', sample, 'nobody'], 3, /KEY_NOT_FOUND/],
    [['nonsense', sample], 2, /unknown command/],
  ];
  for (const [args, code, message] of cases) {
    const ended = await run(...args);
    t.equal(ended.code, code, args.join(' '));
    t.match(ended.stderr, message);
  }
  const encoded = Buffer.from('key/7').toString('base64');
  const byText = await run('history', sample, 'key/7');
  t.equal((await run('history', sample, encoded, '--base64')).stdout, byText.stdout);
  await flipByte(sample, blockKey(1_000), 9);
  for (const args of [
    ['dump', sample],
    ['dump', sample, '--skip-damaged'],
    ['history', sample, 'key/7', '--skip-damaged'],
    ['verify', sample],
    ['replay', sample],
    ['diff', sample, sample],
  ]) {
    const ended = await run(...args);
    t.equal(ended.code, 6, args.join(' '));
    t.match(ended.stdout + ended.stderr, /record l\/1000, entries 981 to 1000: its checksum/);
  }
});

t.test('a reader that has gone ends the dump without a word', async (t) => {
  const sample = join(root, 'long');
  await writeSampleLog(sample, { entries: 20_000, keys: 20 });
  const child = spawn(process.execPath, [main, 'log', 'dump', sample], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  await once(child.stdout, 'data');
  child.stdout.destroy();
  const [code] = (await once(child, 'close')) as [number];
  t.equal(code, 0);
  t.equal(stderr, '');
});

interface ExportedSpan {
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
}

/** Of OTLP's JSON. */
function spansIn(text: string): readonly ExportedSpan[] {
  if (text === '') return [];
  const { resourceSpans } = JSON.parse(text) as {
    resourceSpans: { scopeSpans: { spans: ExportedSpan[] }[] }[];
  };
  return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans));
}

async function ended(child: ChildProcess): Promise<void> {
  child.kill();
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

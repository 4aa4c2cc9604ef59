import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Lab } from '../../tools/lab/cluster.js';

const main = fileURLToPath(new URL('../../src/cmd/main.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], input = ''): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [main, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on('close', (code) => resolve({ code, stdout, stderr }));
    child.stdin.end(input);
  });
}

/** The arguments of a process of the lab, with some of them changed. */
function argsOf(lab: Lab, id: string, changes: Readonly<Record<string, string>> = {}): string[] {
  const args = lab.named(id).argv.slice(2);
  for (const [flag, value] of Object.entries(changes)) {
    const at = args.indexOf(flag);
    if (at >= 0) args[at + 1] = value;
    else args.push(flag, value);
  }
  return args;
}

t.test('usage errors say what is meant and end with 2', async (t) => {
  const verb = await run(['stauts']);
  t.equal(verb.code, 2);
  t.match(verb.stderr, /Did you mean status\?/);
  const option = await run(['get', 'key', '--endpoint', 'x:1']);
  t.equal(option.code, 2);
  t.match(option.stderr, /Did you mean --endpoints\?/);
  const missing = await run(['node', '--id', 'n1']);
  t.equal(missing.code, 2);
  t.match(missing.stderr, /--listen/);
  for (const id of ['nπ', '__proto__', 'n 1', '']) {
    const named = await run(['node', '--id', id, '--listen', 'h:1', '--http', 'h:2']);
    t.equal(named.code, 2, id);
    t.match(named.stderr, /'--id <id>'.* wanted: 1 to 64 letters, digits/, id);
  }
  const bad = await run(['demo', '--nodes', 'many']);
  t.equal(bad.code, 2);
  t.match(bad.stderr, /whole number from 1 to 16/);
});

t.test('every verb has help', async (t) => {
  const verbs = ['coordinator', 'node', 'proxy', 'demo', 'get', 'put', 'del', 'status', 'version'];
  const helps = await Promise.all(
    [...verbs.map((v) => [v]), ['chain', 'members'], ['chain', 'add'], ['chain', 'remove']].map(
      (words) => run([...words, '--help']),
    ),
  );
  for (const { code, stdout } of helps) {
    t.equal(code, 0);
    t.match(stdout, /^Usage: keychaindb /);
  }
});

t.test('without a proxy the client verbs end with 4', async (t) => {
  const ended = await run(['get', 'key', '--endpoints', '127.0.0.1:1', '--timeout', '300ms']);
  t.equal(ended.code, 4);
});

t.test('a cluster by its verbs', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const [proxy] = lab.of('proxy');
  const at = ['--endpoints', proxy?.grpc ?? ''];

  t.test('put, get and del', async (t) => {
    t.match(await run(['put', 'greeting', 'hello', ...at]), {
      code: 0,
      stdout: /^revision \d+\n$/,
    });
    t.match(await run(['put', 'piped', '-', ...at], 'from stdin'), { code: 0 });
    t.match(await run(['get', 'greeting', ...at]), { code: 0, stdout: 'hello\n' });
    t.match(await run(['get', 'piped', ...at]), { code: 0, stdout: 'from stdin\n' });
    const json = await run(['get', 'greeting', ...at, '-o', 'json']);
    t.match(JSON.parse(json.stdout), { value: Buffer.from('hello').toString('base64') });
    t.match(await run(['del', 'greeting', ...at]), { code: 0 });
    t.match(await run(['get', 'greeting', ...at]), { code: 3, stdout: '' });
    t.match(await run(['put', '', 'x', ...at]), { code: 2, stderr: /KEY_EMPTY/ });
  });

  t.test('status and members', async (t) => {
    const status = await run(['status', ...at, '-o', 'json']);
    t.equal(status.code, 0);
    t.match(JSON.parse(status.stdout), { problems: [] });
    const members = await run(['chain', 'members', ...at]);
    t.match(members.stdout, /node-1 .*SERVING\s+head\n.*\n.*tail/s);
    t.match(await run(['chain', 'remove', 'nobody', ...at]), {
      code: 3,
      stderr: /MEMBER_NOT_FOUND/,
    });
    t.match(await run(['chain', 'add', 'node-1', '127.0.0.1:1', ...at]), {
      code: 1,
      stderr: /MEMBER_EXISTS/,
    });
  });

  t.test('the chain is changed', async (t) => {
    const chain = (...args: string[]) => run(['chain', ...args, ...at]);
    t.match(await chain('reorder', 'node-3', 'node-1', 'node-2'), { code: 0, stderr: /→ node-1/ });
    const members = await chain('members');
    t.match(members.stdout, /node-3 .*head\n.*node-1 .*\n.*node-2 .*tail/);
    t.match(await chain('reorder', 'node-1'), { code: 2, stderr: /not named: node-3, node-2/ });
    const stale = await chain('reorder', 'node-1', 'node-2', 'node-3', '--expected-epoch', '1');
    t.match(stale, { code: 1, stderr: /STALE_EPOCH/ });
    t.match(await chain('drain', 'node-2'), { code: 0, stderr: /node-2 was drained/ });
    t.match((await chain('members')).stdout, /node-2 .*drained/);
    const recover = await chain('recover', 'node-2', '--lose', 'node-1,node-3');
    t.match(recover, { code: 1, stderr: /LAST_SERVING: .* is heard/ });
    t.match(await chain('add', 'node-2', lab.named('node-2').grpc), { code: 0 });
    t.match(await chain('length', '3'), { code: 0, stderr: /up to 3/ });
    t.match(await chain('length', 'many'), { code: 2 });
    await lab.serving(['node-1', 'node-2', 'node-3']);
  });

  t.test('a port in use names its flag', async (t) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => server.close());
    const address = server.address();
    const used = `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    const dir = t.testdir();
    for (const id of ['coordinator-1', 'node-1', 'proxy-1']) {
      const folder: Record<string, string> =
        id === 'proxy-1' ? {} : { '--data-dir': join(dir, id) };
      // A group of its own: it would be known in the other one, and its folder is new.
      if (id === 'coordinator-1') folder['--initial-cluster'] = `${id}=127.0.0.1:7100`;
      for (const flag of ['--listen', '--http']) {
        const other = flag === '--listen' ? '--http' : '--listen';
        const changes = { ...folder, [flag]: used, [other]: '127.0.0.1:0' };
        const ended = await run(argsOf(lab, id, changes));
        t.equal(ended.code, 1, `${id} ${flag}`);
        t.match(ended.stderr, new RegExp(`ADDRESS_IN_USE: ${used} .* with ${flag}`));
      }
    }
  });

  t.test('a folder that is locked, or of another process, is refused', async (t) => {
    const free = { '--listen': '127.0.0.1:0', '--http': '127.0.0.1:0' };
    const locked = await run(argsOf(lab, 'node-1', free));
    t.equal(locked.code, 2);
    t.match(locked.stderr, /is in use by another process/);
    await lab.kill('node-3');
    const { dataDir } = lab.named('node-3');
    const other = await run(argsOf(lab, 'node-1', { ...free, '--data-dir': dataDir }));
    t.match(other, { code: 2, stderr: /was written by node node-3; this is node node-1/ });
    const kind = await run(argsOf(lab, 'coordinator-1', { ...free, '--data-dir': dataDir }));
    t.match(kind, { code: 2, stderr: /was written by a node; this is a coordinator/ });
    lab.start('node-3');
    await lab.serving(['node-1', 'node-2', 'node-3']);
  });

  t.test('a node of another cluster is refused', async (t) => {
    const strange = await Lab.start({ nodes: 1, coordinators: 1 });
    t.teardown(() => strange.stop());
    await lab.kill('node-3');
    const [coordinator] = strange.of('coordinator');
    const ended = await run(argsOf(lab, 'node-3', { '--coordinators': coordinator?.grpc ?? '' }));
    t.equal(ended.code, 1);
    t.match(ended.stderr, /belongs to cluster [0-9a-f]{32}/);
    lab.start('node-3');
    await lab.serving(['node-1', 'node-2', 'node-3']);
  });
});

/** The write-ahead log that holds the newest synced data. */
function newestWal(dataDir: string): string {
  const store = join(dataDir, 'store');
  const logs = readdirSync(store).filter((name) => /^\d+\.log$/.test(name));
  return join(store, logs.sort().at(-1) ?? '');
}

t.test('damage on the disk is noticed, named, and never served', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const client = lab.client();
  for (let i = 0; i < 200; i += 1) await client.put(`key-${i}`, `value-${i}`);

  t.test('a node with a flipped byte in its write-ahead log is synced anew', async (t) => {
    await lab.kill('node-2');
    await lab.serving(['node-1', 'node-3']);
    const wal = newestWal(lab.named('node-2').dataDir);
    const bytes = readFileSync(wal);
    const middle = Math.floor(bytes.byteLength / 2);
    bytes[middle] = (bytes[middle] ?? 0) ^ 0xff;
    writeFileSync(wal, bytes);
    const begun = new Promise<string>((resolve) => {
      const [command = '', ...args] = lab.named('node-2').argv;
      const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      lab.adopt('node-2', child);
      let text = '';
      child.stderr.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes('damaged')) resolve(text);
      });
    });
    t.match(await begun, /the store in .* is damaged .*synced anew/);
    await lab.serving(['node-1', 'node-2', 'node-3']);
    let right = 0;
    for (let i = 0; i < 200; i += 1) {
      const read = await client.get(`key-${i}`, { node: 'node-2' });
      if (Buffer.from(read?.value ?? []).toString() === `value-${i}`) right += 1;
    }
    t.equal(right, 200);
  });

  t.test('a coordinator with a damaged log does not vote', async (t) => {
    await lab.kill('coordinator-2');
    await rm(newestWal(lab.named('coordinator-2').dataDir));
    const [, ...args] = lab.named('coordinator-2').argv;
    const ended = await run(args.slice(1));
    t.equal(ended.code, 1);
    t.match(ended.stderr, /CORRUPT: the log in .* is damaged/);
    await client.put('still', 'there');
  });
});

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { KeychainError } from '../../src/base/errors.js';
import { type ClusterVerbs, clusterVerbs } from '../../src/retry/cluster-verbs.js';
import { Lab, main, servingIds } from '../../tools/lab/cluster.js';
import { Load } from '../../tools/lab/load.js';
import { refusal } from '../refusal.js';

const timeoutMs = 15_000;

async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${port}`;
}

interface Coordinator {
  readonly id: string;
  readonly address: string;
  readonly args: readonly string[];
  readonly child: ChildProcess;
  /** The reason of its last message, when it has ended. */
  readonly ended: Promise<string>;
}

/** One more coordinator, which asks to be taken in. */
async function joining(
  t: { teardown(work: () => unknown): void },
  id: string,
  at: readonly string[],
  flags: readonly string[] = [],
): Promise<Coordinator> {
  const address = await freeAddress();
  const dir = await mkdtemp(join(tmpdir(), 'keychaindb-'));
  const args = ['coordinator', '--id', id, '--listen', address, '--http', '127.0.0.1:0'];
  args.push('--data-dir', join(dir, id), '--join', at.join(), ...flags);
  const { child, ended } = running(t, args);
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return { id, address, args, child, ended };
}

function running(
  t: { teardown(work: () => unknown): void },
  args: readonly string[],
): Pick<Coordinator, 'child' | 'ended'> {
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let reason = '';
  createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', (line) => {
    reason = (JSON.parse(line) as { reason?: string }).reason ?? reason;
  });
  t.teardown(() => child.kill('SIGKILL'));
  return { child, ended: once(child, 'exit').then(() => reason) };
}

/** Asked again where the outcome is unknown, e.g. since the leader died on the way: a change that was made succeeds. */
async function asked<T>(change: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await change();
    } catch (error) {
      const isUnknown = error instanceof KeychainError && error.reason === 'OUTCOME_UNKNOWN';
      if (!isUnknown || attempt === 5) throw error;
    }
  }
}

/** Resolves when the group is these, all of them with a vote, and says so at each of them. */
async function untilGroup(verbs: ClusterVerbs, ids: readonly string[]): Promise<void> {
  const wanted = [...ids].sort().join();
  const deadline = performance.now() + 60_000;
  let last = '';
  while (performance.now() < deadline) {
    // Between two leaders nobody may answer for a while.
    const answer = await verbs.status(timeoutMs).catch((error: unknown) => String(error));
    if (typeof answer === 'string') {
      last = answer;
      continue;
    }
    const { coordinators } = answer;
    last = coordinators.map((c) => `${c.id}:${c.learner ? 'learner' : c.role}`).join();
    const voting = coordinators.filter((c) => !c.learner && c.answered).map((c) => c.id);
    if (voting.sort().join() === wanted && coordinators.length === ids.length) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`the coordinators are not ${wanted}: ${last}`);
}

t.test(
  'the coordinators become five, move to new addresses and folders, and are three again',
  async (t) => {
    const lab = await Lab.start();
    t.teardown(() => lab.stop());
    const load = new Load({ clients: [lab.client()], readsPerSecond: 200, writesPerSecond: 50 });
    await load.prepare();
    load.start();
    t.teardown(() => load.stop());
    const first = lab.of('coordinator').map(({ grpc }) => grpc);
    const verbs = clusterVerbs({
      addresses: lab.of('proxy').map((p) => p.grpc),
      clock: systemClock,
    });
    t.teardown(() => verbs.close());
    const [fourth, fifth] = [
      await joining(t, 'coordinator-4', first),
      await joining(t, 'coordinator-5', first),
    ];
    const old = ['coordinator-1', 'coordinator-2', 'coordinator-3'];
    await untilGroup(verbs, [...old, fourth.id, fifth.id]);

    // The leader goes first, and tells it to who asked.
    const { leader } = await verbs.status(timeoutMs);
    const named = old.includes(leader) ? leader : (old[0] ?? '');
    await asked(() => verbs.transferLeadership(named, timeoutMs));
    await asked(() => verbs.removeFromCluster(named, timeoutMs));
    await asked(() => verbs.removeFromCluster(named, timeoutMs));
    const [second = '', third = ''] = old.filter((id) => id !== named);
    await asked(() => verbs.removeFromCluster(second, timeoutMs));
    await untilGroup(verbs, [third, fourth.id, fifth.id]);
    const sixth = await joining(t, 'coordinator-6', [fourth.address]);
    await untilGroup(verbs, [third, fourth.id, fifth.id, sixth.id]);
    await asked(() => verbs.removeFromCluster(third, timeoutMs));
    await untilGroup(verbs, [fourth.id, fifth.id, sixth.id]);

    await t.rejects(
      asked(async () => verbs.joinCluster(second, await freeAddress(), timeoutMs)),
      refusal('MEMBER_REMOVED'),
    );
    await t.rejects(
      asked(async () => verbs.joinCluster(fifth.id, await freeAddress(), timeoutMs)),
      refusal('MEMBER_EXISTS'),
    );
    await t.rejects(
      asked(async () => verbs.joinCluster('coordinator-7', sixth.address, timeoutMs)),
      refusal('ADDRESS_IN_USE'),
    );
    await t.rejects(
      asked(async () => verbs.removeFromCluster('nobody', timeoutMs)),
      refusal('MEMBER_NOT_FOUND'),
    );
    await t.rejects(
      asked(async () => verbs.transferLeadership('nobody', timeoutMs)),
      refusal('MEMBER_NOT_FOUND'),
    );

    // Nodes and proxies have followed: the chain changes with none of the old ones there.
    await lab.kill('node-1');
    const direct = lab.client({ endpoints: [fourth.address, fifth.address, sixth.address] });
    const deadline = performance.now() + 20_000;
    while (servingIds(await direct.members()).includes('node-1')) {
      if (performance.now() > deadline) throw new Error('node-1 is not taken out');
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    // In any order, and in the end: on a starved machine one of them may lose its place, and comes back behind the other.
    const throughProxy = lab.client();
    const others = async (): Promise<string> =>
      [...servingIds(await throughProxy.members())].sort().join();
    while ((await others()) !== 'node-2,node-3') {
      if (performance.now() > deadline) break;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    t.equal(await others(), 'node-2,node-3');

    // One of three may go, not two.
    sixth.child.kill('SIGKILL');
    await sixth.ended;
    await t.rejects(
      asked(async () => verbs.removeFromCluster(fifth.id, 3_000)),
      refusal('LAST_MAJORITY'),
    );
    await asked(() => verbs.removeFromCluster(sixth.id, timeoutMs));
    await untilGroup(verbs, [fourth.id, fifth.id]);
    const report = await load.stop();
    t.same(report.failedReads, []);
    t.same(report.failedWrites, []);
    t.same(report.staleReads, []);
  },
);

t.test('a coordinator that is removed while it is down says so when it comes back', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const [{ grpc: proxy = '' } = {}] = lab.of('proxy');
  const verbs = clusterVerbs({ addresses: [proxy], clock: systemClock });
  t.teardown(() => verbs.close());
  const fourth = await joining(t, 'coordinator-4', [proxy]);
  await untilGroup(verbs, [...lab.of('coordinator').map(({ id }) => id), fourth.id]);
  fourth.child.kill('SIGSTOP');
  await asked(() => verbs.removeFromCluster(fourth.id, timeoutMs));
  fourth.child.kill('SIGCONT');
  t.equal(await fourth.ended, 'MEMBER_REMOVED');
});

t.test('a coordinator whose folder is gone does not vote again under its old id', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const [{ grpc: proxy = '' } = {}] = lab.of('proxy');
  const verbs = clusterVerbs({ addresses: [proxy], clock: systemClock });
  t.teardown(() => verbs.close());
  const ids = lab.of('coordinator').map(({ id }) => id);
  const fourth = await joining(t, 'coordinator-4', [proxy]);
  await untilGroup(verbs, [...ids, fourth.id]);
  // The leader: the next one has nothing from it, and would feed it as a new one.
  const { leader } = await verbs.status(timeoutMs);
  const lost = lab.named(ids.includes(leader) ? leader : 'coordinator-1');
  await lab.kill(lost.id);
  fourth.child.kill('SIGKILL');
  await fourth.ended;
  for (const [id, args] of [
    [lost.id, lost.argv.slice(2)],
    [fourth.id, fourth.args],
  ] as const) {
    const empty = await mkdtemp(join(tmpdir(), 'keychaindb-'));
    t.teardown(() => rm(empty, { recursive: true, force: true }));
    const again = spawnSync(process.execPath, [main, ...args, '--data-dir', empty], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    t.equal(again.status, 1, id);
    t.match(again.stderr, /MEMBER_EXISTS: .*cluster remove/, id);
  }
});

t.test('a coordinator that lost its folder in a power cut of all takes no part', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const ids = lab.of('coordinator').map(({ id }) => id);
  for (const id of ids) await lab.kill(id);
  const [lost = '', ...others] = ids;
  const empty = await mkdtemp(join(tmpdir(), 'keychaindb-'));
  t.teardown(() => rm(empty, { recursive: true, force: true }));
  // Nobody answers it: it waits. The others know it by their logs: they have not heard of it since they started.
  const args = [...lab.named(lost).argv.slice(2), '--data-dir', empty];
  const { child, ended } = running(t, args);
  await once(child, 'message');
  for (const id of others) lab.start(id);
  await until(async () => child.exitCode !== null);
  t.equal(await ended, 'MEMBER_EXISTS');
  const verbs = clusterVerbs({
    addresses: lab.of('proxy').map((p) => p.grpc),
    clock: systemClock,
  });
  t.teardown(() => verbs.close());
  await until(async () => {
    const { leader } = await verbs.status(timeoutMs);
    return others.includes(leader);
  });
  // Started again while they run, it does not begin at all.
  const again = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', timeout: 60_000 });
  t.match(again, { status: 1, stderr: /MEMBER_EXISTS: .*cluster remove/ });
});

t.test('a new group begins without one of its three founders, which comes later', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'keychaindb-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const founders: [string, string][] = [];
  for (const id of ['c1', 'c2', 'c3']) founders.push([id, await freeAddress()]);
  const initial = founders.map(([id, address]) => `${id}=${address}`).join();
  const start = ([id, address]: [string, string]) => {
    const args = ['coordinator', '--id', id, '--listen', address, '--http', '127.0.0.1:0'];
    return running(t, [...args, '--data-dir', join(dir, id), '--initial-cluster', initial]);
  };
  const [first, second, third] = founders as [[string, string], [string, string], [string, string]];
  start(first);
  start(second);
  const verbs = clusterVerbs({ addresses: [first[1], second[1]], clock: systemClock });
  t.teardown(() => verbs.close());
  await until(async () => (await verbs.status(timeoutMs)).leader !== '');
  const { child } = start(third);
  await untilGroup(verbs, ['c1', 'c2', 'c3']);
  t.equal(child.exitCode, null);
});

t.test('a coordinator that was down past the kept log comes back by a snapshot', async (t) => {
  process.env['KEYCHAINDB_SNAPSHOT_ENTRIES'] = '20';
  process.env['KEYCHAINDB_KEPT_ENTRIES'] = '2';
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const [{ grpc: proxy = '' } = {}] = lab.of('proxy');
  const verbs = clusterVerbs({ addresses: [proxy], clock: systemClock });
  t.teardown(() => verbs.close());
  const { leader } = await verbs.status(timeoutMs);
  const down = lab.of('coordinator').find(({ id }) => id !== leader);
  t.ok(down);
  const id = down?.id ?? '';
  const before = (await verbs.status(timeoutMs)).coordinators.find((c) => c.id === id);
  await lab.kill(id);
  for (let i = 0; i < 40; i += 1) {
    const spare = { id: 'spare', address: '127.0.0.1:1', spare: true, expectedEpoch: 0 };
    await verbs.addMember(spare, timeoutMs);
    await verbs.removeMember({ id: 'spare', expectedEpoch: 0 }, timeoutMs);
  }
  lab.start(id);
  await untilGroup(
    verbs,
    lab.of('coordinator').map((c) => c.id),
  );
  const deadline = performance.now() + 20_000;
  for (;;) {
    const { coordinators } = await verbs.status(timeoutMs);
    const own = coordinators.find((c) => c.id === id);
    if (own?.answered === true && own.lag === 0 && own.snapshot > (before?.last ?? 0)) break;
    if (performance.now() > deadline) throw new Error(JSON.stringify(coordinators));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  // It shows the same as the others, once it has heard the nodes.
  const [own, others] = [lab.client({ endpoints: [down?.grpc ?? ''] }), lab.client()];
  await until(async () => isDeepStrictEqual(await own.members(), await others.members()));
});

t.test(
  'after a majority is lost for ever one coordinator begins anew from a snapshot',
  async (t) => {
    const lab = await Lab.start();
    t.teardown(() => lab.stop());
    const dir = await mkdtemp(join(tmpdir(), 'keychaindb-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    const client = lab.client();
    await client.put('key', 'value');
    const [proxy] = lab.of('proxy');
    const saved = join(dir, 'saved');
    const run = (...args: readonly string[]) =>
      spawnSync(process.execPath, [main, 'cluster', ...args], { encoding: 'utf8' });
    t.equal(run('snapshot', saved, '--endpoints', proxy?.grpc ?? '').status, 0);
    t.match(run('snapshot', saved, '--endpoints', proxy?.grpc ?? ''), {
      status: 2,
      stderr: /exist/,
    });
    const [first, ...lost] = lab.of('coordinator');
    for (const { id } of [first, ...lost].flatMap((c) => (c === undefined ? [] : [c]))) {
      await lab.kill(id);
    }
    const listen = first?.grpc ?? '';
    const restore = (from: string, id: string, ...more: readonly string[]) => {
      const to = ['--id', id, '--listen', listen, '--data-dir', join(dir, id)];
      return run('restore', '--from', from, ...to, ...more);
    };
    t.match(restore(saved, 'c9'), { status: 2, stderr: /--lossy/ });
    t.match(restore(saved, 'coordinator-2', '--lossy'), { status: 1, stderr: /MEMBER_REMOVED/ });
    t.match(restore(main, 'c9', '--lossy'), { status: 2, stderr: /no snapshot of coordinators/ });
    const [node] = lab.of('node');
    t.match(restore(node?.dataDir ?? '', 'c9', '--lossy'), { status: 2, stderr: /by node node-1/ });
    t.match(restore(dir, 'c9', '--lossy'), { status: 2, stderr: /it has no store/ });
    // The folder of one that is left says the same as what was saved.
    t.match(restore(first?.dataDir ?? '', 'c8', '--lossy'), { status: 0, stderr: /Start it/ });
    t.match(restore(saved, 'c9', '--lossy'), { status: 0, stderr: /Start it/ });
    t.match(restore(saved, 'c9', '--lossy'), { status: 2, stderr: /not empty/ });
    const args = ['coordinator', '--id', 'c9', '--listen', listen, '--http', '127.0.0.1:0'];
    args.push('--data-dir', join(dir, 'c9'), '--initial-cluster', `c9=${listen}`);
    const child = spawn(process.execPath, [main, ...args], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    // Nodes and proxy find it where the old one was; the chain changes again, and has lost nothing.
    const direct = lab.client({ endpoints: [listen] });
    await until(async () => servingIds(await direct.members()).length === 3);
    await lab.kill('node-2');
    await until(async () => !servingIds(await direct.members()).includes('node-2'));
    t.equal(Buffer.from((await client.get('key'))?.value ?? []).toString(), 'value');
    await client.put('key', 'newer');
  },
);

t.test(
  'what is asked through a proxy is not done by another cluster that got an address of its own',
  async (t) => {
    const lab = await Lab.start({ nodes: 1 });
    t.teardown(() => lab.stop());
    const [{ grpc = '', http = '' } = {}] = lab.of('proxy');
    const own = clusterVerbs({ addresses: [grpc], clock: systemClock });
    t.teardown(() => own.close());
    const { members } = await own.status(timeoutMs);
    const ids = lab.of('coordinator').map(({ id }) => id);
    for (const id of ids) await lab.kill(id);
    // The last one's address passes on.
    const [first = '', second = '', last = ''] = ids;
    const { grpc: address } = lab.named(last);
    const dir = await mkdtemp(join(tmpdir(), 'keychaindb-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    const args = ['coordinator', '--id', 'other', '--listen', address, '--http', '127.0.0.1:0'];
    running(t, [...args, '--data-dir', dir, '--initial-cluster', `other=${address}`]);
    const theirs = clusterVerbs({ addresses: [address], clock: systemClock });
    t.teardown(() => theirs.close());
    await until(async () => (await theirs.members(timeoutMs)).epoch >= 0);

    const stray = { id: 'stray', address: '127.0.0.1:1', spare: true, expectedEpoch: 0 };
    const change = (path: string, body: object) =>
      fetch(`http://${http}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-keychaindb-timeout': '1s' },
        body: JSON.stringify(body),
      });
    for (const answer of [
      await change('/v1/chain/members', stray),
      await change('/v1/cluster/members', { id: 'c9', address: '127.0.0.1:1' }),
    ]) {
      t.equal(answer.status, 503);
      t.match(await answer.text(), /NO_LEADER/);
    }
    await t.rejects(own.addMember(stray, 2_000), { name: 'KeychainError' });
    await t.rejects(own.status(1_000), refusal('NO_LEADER'));

    // With two of its own the proxy's cluster does as it is told, and is the only one.
    for (const id of [first, second]) lab.start(id);
    await until(async () => (await own.status(timeoutMs)).leader !== '');
    await asked(() => own.addMember(stray, timeoutMs));
    t.match((await own.members(timeoutMs)).others, [{ id: 'stray' }]);
    t.same((await own.status(timeoutMs)).members, members);
    t.same((await theirs.members(timeoutMs)).others, []);
    t.same(Object.keys((await theirs.status(timeoutMs)).members), ['other']);
  },
);

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    if (await isSo().catch(() => false)) return;
    if (performance.now() > deadline) throw new Error('not in time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

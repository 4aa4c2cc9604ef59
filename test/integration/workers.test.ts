import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import t from 'tap';
import type { ReadyNotice } from '../../src/cmd/process.js';
import { KVClient } from '../../src/gen/keychaindb/v1/kv.js';
import { Lab, main } from '../../tools/lab/cluster.js';
import { childrenOf } from '../../tools/lab/usage.js';

/* Several processes are one proxy: on one address, with one count, one end. */

const lab = await Lab.start({ nodes: 1, coordinators: 1, workers: 2 });
t.teardown(() => lab.stop());
const proxy = lab.named('proxy-1');
const coordinators = lab
  .of('coordinator')
  .map(({ grpc }) => grpc)
  .join();
const asker = lab.client();
await asker.put('key', 'value');

/** A traceparent that says "recorded", and its trace. */
function traced(): { readonly traceId: string; readonly traceparent: string } {
  const traceId = randomBytes(16).toString('hex');
  return { traceId, traceparent: `00-${traceId}-${randomBytes(8).toString('hex')}-01` };
}

/** Which worker answered what belongs to the trace. */
async function workerOf(traceId: string, at = asker): Promise<string | undefined> {
  const { spans } = await at.trace(traceId);
  return spans.find(({ service }) => service === 'keychaindb-proxy')?.instance;
}

interface Asked {
  readonly method?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Without one on a connection of its own. */
  readonly agent?: Agent;
}

function ask(
  address: string,
  path: string,
  { method = 'GET', body, headers = {}, agent }: Asked = {},
): Promise<{ readonly status: number; readonly text: string }> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const options = { host, port, method, path, headers, agent: agent ?? (false as const) };
    const sent = request(options, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

/** A read over gRPC on a connection that nobody shares. */
function overOwnConnection(traceparent: string): Promise<unknown> {
  const local = { 'grpc.use_local_subchannel_pool': 1 };
  const client = new KVClient(proxy.grpc, ChannelCredentials.createInsecure(), local);
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent);
  return new Promise((resolve, reject) => {
    client.get({ key: Buffer.from('key'), node: '' }, metadata, (error, answer) => {
      client.close();
      if (error === null) resolve(answer);
      else reject(error);
    });
  });
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** A proxy of its own for the cluster, with what it said. */
interface OwnProxy {
  readonly child: ChildProcess;
  readonly said: () => string;
  readonly ended: Promise<number | null>;
}

function start(args: readonly string[], detached = false): OwnProxy {
  const line = [main, 'proxy', '--id', 'own', '--coordinators', coordinators, ...args];
  const child = spawn(process.execPath, line, {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached,
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await ended;
  });
  return { child, said: () => said, ended };
}

const anywhere = ['--listen', '127.0.0.1:0', '--http', '127.0.0.1:0'];

async function ready({ child, ended, said }: OwnProxy): Promise<ReadyNotice> {
  const gone = ended.then(() => Promise.reject(new Error(said())));
  const [notice] = (await Promise.race([once(child, 'message'), gone])) as [ReadyNotice];
  await until('it serves', async () => (await ask(notice.http, '/readyz')).status === 200);
  return notice;
}

t.test('connections go to one worker after the other, over gRPC and HTTP', async (t) => {
  const overHttp = new Set<string | undefined>();
  for (let n = 0; n < 4; n += 1) {
    const { traceId, traceparent } = traced();
    await ask(proxy.http, '/v1/keys/key', { headers: { traceparent } });
    overHttp.add(await workerOf(traceId));
  }
  t.same([...overHttp].sort(), ['proxy-1/1', 'proxy-1/2']);
  const overGrpc = new Set<string | undefined>();
  for (let n = 0; n < 4; n += 1) {
    const { traceId, traceparent } = traced();
    await overOwnConnection(traceparent);
    overGrpc.add(await workerOf(traceId));
  }
  t.same([...overGrpc].sort(), ['proxy-1/1', 'proxy-1/2']);
});

t.test('metrics are the sum over all workers, whichever is asked', async (t) => {
  const answered = async (): Promise<number> => {
    const { text } = await ask(proxy.http, '/metrics');
    const found = [...text.matchAll(/^keychaindb_requests_total\{verb="get",code="OK".* (\d+)$/gm)];
    t.equal(found.length, 1, 'one series');
    t.match(found[0]?.[0], 'id="proxy-1"');
    return Number(found[0]?.[1]);
  };
  const before = await answered();
  for (let n = 0; n < 10; n += 1) await ask(proxy.http, '/v1/keys/key');
  for (let n = 0; n < 3; n += 1) t.equal(await answered(), before + 10);
});

t.test('a log level is that of every worker', async (t) => {
  t.match(await asker.setLogLevel('debug', 'proxy-1'), { before: 'info' });
  for (let n = 0; n < 4; n += 1) await ask(proxy.http, '/v1/keys/key');
  const lines = readFileSync(join(lab.dir, 'proxy-1.log'), 'utf8').split('\n');
  for (const instance of ['proxy-1/1', 'proxy-1/2']) {
    const isOf = (line: string): boolean => line.includes(`"instance":"${instance}"`);
    t.ok(
      lines.some((line) => isOf(line) && line.includes('"msg":"answered"')),
      instance,
    );
  }
  await asker.setLogLevel('info', 'proxy-1');
});

t.test('a worker that dies is replaced, and the others fail no request', async (t) => {
  const own = start([...anywhere, '--workers', '2']);
  const { grpc, http } = await ready(own);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const pid = own.child.pid ?? 0;
  const gets = async (): Promise<number> => {
    const { text } = await ask(http, '/metrics', { agent });
    return Number(/^keychaindb_requests_total\{verb="get",code="OK".* (\d+)$/m.exec(text)?.[1]);
  };
  for (let n = 0; n < 8; n += 1) await ask(http, '/v1/keys/key');
  t.equal(await gets(), 8);
  const [first = 0, second = 0] = childrenOf(pid);
  const { traceId, traceparent } = traced();
  await ask(http, '/v1/keys/key', { agent, headers: { traceparent } });
  const isFirst = (await workerOf(traceId, lab.client({ endpoints: [grpc] }))) === 'own/1';
  const victim = isFirst ? second : first;
  let isOver = false;
  let answered = 0;
  const load = (async () => {
    while (!isOver) {
      const { status } = await ask(http, '/v1/keys/key', { agent });
      if (status !== 200) throw new Error(`answered with ${status}`);
      answered += 1;
    }
  })();
  process.kill(victim, 'SIGKILL');
  await until('it is replaced', () => / serves"/.test(own.said()));
  isOver = true;
  await t.resolves(load);
  t.ok(answered > 0);
  t.equal(await gets(), 9 + answered, 'what it had counted stays in the sum');
  t.equal(childrenOf(pid).length, 2);
  t.match(own.said(), /was ended by SIGKILL; it is started again in 100 ms/);

  for (const worker of childrenOf(pid)) process.kill(worker, 'SIGKILL');
  await until('all came back', () => (own.said().match(/ serves"/g) ?? []).length === 3);
  await until('they serve', async () => (await ask(http, '/readyz')).status === 200);
  t.equal((await ask(http, '/v1/keys/key')).status, 200, 'at the same address');
});

for (const [signal, isGroup] of [
  ['SIGTERM', false],
  ['SIGINT', true],
] as const) {
  t.test(
    `${signal}${isGroup ? ' to the whole group' : ''}: what was taken is finished`,
    async (t) => {
      const own = start([...anywhere, '--workers', '2'], true);
      const { http } = await ready(own);
      t.equal((own.said().match(/gRPC on/g) ?? []).length, 1, 'it says once that it is ready');
      const workers = childrenOf(own.child.pid ?? 0);
      lab.signal('node-1', 'SIGSTOP');
      const writes = Array.from({ length: 4 }, (_, n) =>
        ask(http, `/v1/keys/${signal}-${n}`, { method: 'PUT', body: '{"value":"dg=="}' }),
      );
      // They wait for the node now, at both workers.
      await until('they wait', async () => {
        const { text } = await ask(http, '/metrics');
        return /^keychaindb_node_in_flight\{.* 4$/m.test(text);
      });
      process.kill((isGroup ? -1 : 1) * (own.child.pid ?? 0), signal);
      await until('nothing is taken any more', () =>
        ask(http, '/livez').then(
          () => false,
          () => true,
        ),
      );
      lab.signal('node-1', 'SIGCONT');
      t.same(
        (await Promise.all(writes)).map(({ status }) => status),
        [200, 200, 200, 200],
      );
      t.equal(await own.ended, 0);
      t.notOk(workers.some(isRunning));
    },
  );
}

t.test('connections that wait for a worker at the end are served', async (t) => {
  const own = start([...anywhere, '--workers', '2']);
  const { http } = await ready(own);
  const workers = childrenOf(own.child.pid ?? 0);
  for (const pid of workers) process.kill(pid, 'SIGSTOP');
  const reads = Array.from({ length: 12 }, () => ask(http, '/v1/keys/key'));
  const sockets = `:${Number(http.split(':')[1]).toString(16).toUpperCase().padStart(4, '0')}`;
  await until('all are connected, and accepted', () => {
    const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n');
    const ours = lines
      .map((line) => line.trim().split(/\s+/))
      .filter(([, at]) => at?.endsWith(sockets));
    const listening = ours.find(([, , , state]) => state === '0A');
    // Of a listening socket the receive queue is what waits to be accepted.
    return (
      ours.filter(([, , , state]) => state === '01').length === 12 &&
      /:0+$/.test(listening?.[4] ?? '')
    );
  });
  own.child.kill('SIGTERM');
  await until('it was told', () => /SIGTERM: the workers finish/.test(own.said()));
  for (const pid of workers) process.kill(pid, 'SIGCONT');
  const statuses = (await Promise.all(reads)).map(({ status }) => status);
  t.same(new Set(statuses), new Set([200]));
  t.equal(await own.ended, 0);
});

t.test('a second SIGTERM ends all of them at once', async (t) => {
  const own = start([...anywhere, '--workers', '2']);
  const { http } = await ready(own);
  const workers = childrenOf(own.child.pid ?? 0);
  lab.signal('node-1', 'SIGSTOP');
  t.teardown(() => lab.signal('node-1', 'SIGCONT'));
  const write = ask(http, '/v1/keys/second', { method: 'PUT', body: '{"value":"dg=="}' });
  const lost = write.then(
    () => 'answered',
    () => 'lost',
  );
  await until('it waits', async () => {
    const { text } = await ask(http, '/metrics');
    return /^keychaindb_node_in_flight\{.* 1$/m.test(text);
  });
  own.child.kill('SIGTERM');
  await until('nothing is taken any more', () =>
    ask(http, '/livez').then(
      () => false,
      () => true,
    ),
  );
  own.child.kill('SIGTERM');
  t.equal(await own.ended, null);
  t.equal(own.child.signalCode, 'SIGTERM');
  t.equal(await lost, 'lost');
  await until('they are gone', () => !workers.some(isRunning));
});

t.test('workers end when the primary is gone', async () => {
  const own = start([...anywhere, '--workers', '2']);
  await ready(own);
  const workers = childrenOf(own.child.pid ?? 0);
  own.child.kill('SIGKILL');
  await until('they are gone', () => !workers.some(isRunning));
});

t.test('what keeps one from starting keeps all, and is said once', async (t) => {
  for (const [flag, args] of [
    ['--http', ['--listen', '127.0.0.1:0', '--http', proxy.http]],
    ['--listen', ['--listen', proxy.grpc, '--http', '127.0.0.1:0']],
  ] as const) {
    const own = start([...args, '--workers', '3']);
    t.equal(await own.ended, 1);
    t.equal((own.said().match(/ADDRESS_IN_USE/g) ?? []).length, 1, own.said());
    t.match(own.said(), flag);
  }
});

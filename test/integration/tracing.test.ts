import { execFile, spawn } from 'node:child_process';
import { access, chmod } from 'node:fs/promises';
import t from 'tap';
import { findJaeger } from '../../src/cmd/jaeger.js';
import { Lab, main } from '../../tools/lab/cluster.js';
import { type CollectedSpan, startCollector } from '../telemetry/collector.js';

/* What the processes of a real demo export, as a collector with OpenTelemetry's own definitions reads it. */

const collector = await startCollector();
const lab = await Lab.start({ nodes: 5, args: ['--otlp', collector.httpUrl] });
t.teardown(async () => {
  await lab.stop();
  await collector.close();
});
const [proxy] = lab.of('proxy');
const http = proxy?.http ?? '';
const client = lab.client();
// Head first: whoever is up first comes next.
const nodes = (await client.members()).members.map(({ id }) => id);
const [head = ''] = nodes;

const ofTrace =
  (traceId: string) =>
  (spans: readonly CollectedSpan[]): readonly CollectedSpan[] =>
    spans.filter((span) => span.traceId === traceId);

/** The tree as text: children below their parent, in the order in which they began. */
function treeOf(spans: readonly CollectedSpan[], parentId: string, depth = 0): readonly string[] {
  return spans
    .filter((span) => span.parentId === parentId)
    .sort((a, b) => (a.startNs < b.startNs ? -1 : 1))
    .flatMap((span) => [
      `${'  '.repeat(depth)}${span.name} ${span.instance}`,
      ...treeOf(spans, span.spanId, depth + 1),
    ]);
}

async function put(
  key: string,
  headers: Readonly<Record<string, string>>,
): Promise<{ readonly revision: string; readonly traceId: string }> {
  const response = await fetch(`http://${http}/v1/keys/${key}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream', ...headers },
    body: 'value',
  });
  const { revision } = (await response.json()) as { revision: string };
  return { revision, traceId: response.headers.get('x-keychaindb-trace-id') ?? '' };
}

/** A node's own part, and what hangs on its forwarding. */
function hopTree(index: number): readonly string[] {
  const node = nodes[index] ?? '';
  const isTail = index === nodes.length - 1;
  const name = index === 0 ? 'chain.write' : 'chain.apply';
  const rest = isTail
    ? [`  chain.commit ${node}`]
    : [`  chain.forward ${node}`, ...hopTree(index + 1).map((line) => `    ${line}`)];
  return [
    `${name} ${node}`,
    `  chain.inbox ${node}`,
    `  rocksdb.write ${node}`,
    ...rest,
    ...(index === 0 ? [] : [`  chain.ack ${node}`]),
  ];
}

t.test('a write through HTTP with a traceparent is one trace of the whole way', async (t) => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const caller = 'b7ad6b7169203331';
  const { revision } = await put('traced', { traceparent: `00-${traceId}-${caller}-01` });
  // Two at the proxy; four at the head, five at each other node.
  await collector.until((all) => ofTrace(traceId)(all).length >= 2 + 4 + 4 * 5);
  const spans = ofTrace(traceId)(collector.spans);
  t.strictSame(treeOf(spans, caller), [
    'keychaindb.v1.KV/Put proxy-1',
    '  chain.route proxy-1',
    ...hopTree(0).map((line) => `    ${line}`),
  ]);
  t.equal(new Set(spans.map(({ spanId }) => spanId)).size, spans.length);
  const byName = (name: string): readonly CollectedSpan[] =>
    spans
      .filter((span) => span.name === name)
      .sort(
        (a, b) =>
          Number(a.attributes['keychaindb.position']) - Number(b.attributes['keychaindb.position']),
      );

  const [root] = byName('keychaindb.v1.KV/Put');
  t.match(root, {
    kind: 'SERVER',
    service: 'keychaindb-proxy',
    error: '',
    attributes: {
      'rpc.status_code': 'OK',
      'db.operation.name': 'put',
      'keychaindb.edge': 'http',
      'keychaindb.revision': Number(revision),
      'keychaindb.chain.id': 1,
      'keychaindb.node': head,
    },
  });
  t.match(byName('chain.route')[0], {
    kind: 'CLIENT',
    attributes: { 'keychaindb.node': head },
  });

  const hops = [...byName('chain.write'), ...byName('chain.apply')];
  t.strictSame(
    hops.map(({ instance }) => instance),
    nodes,
  );
  t.match(hops[0]?.attributes['keychaindb.request.id'], /^[0-9a-f]{32}:\d+$/);
  t.equal(hops[0]?.attributes['db.operation.name'], 'put');
  hops.forEach((hop, index) => {
    t.equal(hop.service, 'keychaindb-node');
    t.equal(hop.kind, index === 0 ? 'SERVER' : 'CONSUMER');
    const { attributes } = hop;
    t.equal(attributes['keychaindb.revision'], Number(revision));
    t.equal(attributes['keychaindb.position'], index + 1);
    t.equal(attributes['keychaindb.role'], index === 0 ? 'head' : index === 4 ? 'tail' : 'middle');
    t.equal(attributes['keychaindb.epoch'], root?.attributes['keychaindb.epoch']);
    t.equal(attributes['keychaindb.batch.size'], 1);
    t.notOk('keychaindb.key' in attributes, 'no key, no value');
  });
  // Down the chain and up again, on the clocks of one machine.
  const inOrder = [
    ...hops.map(({ startNs }) => startNs),
    ...byName('chain.commit').map(({ endNs }) => endNs),
    ...spans
      .filter(({ name }) => name === 'chain.ack')
      .sort((a, b) => nodes.indexOf(b.instance) - nodes.indexOf(a.instance))
      .map(({ endNs }) => endNs),
    root?.endNs ?? 0n,
  ];
  const slackNs = 5_000_000n;
  inOrder.forEach((time, index) => {
    t.ok(index === 0 || time + slackNs >= (inOrder[index - 1] ?? 0n), `step ${index} in order`);
  });
});

t.test(
  'the group commit is a trace of its own, linked to its writes, which carry its times',
  async (t) => {
    const traceId = '1af7651916cd43dd8448eb211c80319c';
    await put('grouped', { traceparent: `00-${traceId}-b7ad6b7169203331-01` });
    const groupsOf = (all: readonly CollectedSpan[]): readonly CollectedSpan[] =>
      all.filter(
        ({ name, links }) =>
          name === 'chain.group_commit' && links.some((link) => link.traceId === traceId),
      );
    await collector.until((all) => groupsOf(all).length >= 5);
    const writes = collector.spans.filter(
      (span) => span.traceId === traceId && span.name === 'rocksdb.write',
    );
    t.equal(writes.length, 5);
    for (const group of groupsOf(collector.spans)) {
      t.equal(group.parentId, '');
      const write = writes.find(({ instance }) => instance === group.instance);
      t.ok(group.links.some((link) => link.spanId === write?.spanId));
      t.equal(write?.startNs, group.startNs, 'its times are copied onto the write');
      t.equal(write?.endNs, group.endNs);
    }
  },
);

t.test('over gRPC a traceparent is continued too', async (t) => {
  const traceId = '2af7651916cd43dd8448eb211c80319c';
  const caller = 'c7ad6b7169203331';
  await client.put('k', 'v', { traceparent: `00-${traceId}-${caller}-01` });
  await collector.until((all) => ofTrace(traceId)(all).length >= 26);
  const [root] = ofTrace(traceId)(collector.spans).filter(({ parentId }) => parentId === caller);
  t.match(root, { name: 'keychaindb.v1.KV/Put', attributes: { 'keychaindb.edge': 'grpc' } });
});

t.test('every write is traced where a collector is named, and so is a read', async (t) => {
  const before = collector.spans.length;
  await client.put('plain', 'v');
  await client.get('plain');
  const fresh = (name: string): CollectedSpan | undefined =>
    collector.spans.slice(before).find((span) => span.name === name && span.parentId === '');
  await collector.until(
    () =>
      fresh('keychaindb.v1.KV/Put') !== undefined && fresh('keychaindb.v1.KV/Get') !== undefined,
  );
  const traceId = fresh('keychaindb.v1.KV/Get')?.traceId ?? '';
  await collector.until((all) => ofTrace(traceId)(all).length === 3);
  const [read] = ofTrace(traceId)(collector.spans).filter(({ name }) => name === 'chain.read');
  t.equal(read?.attributes['keychaindb.asked_tail'], false);
});

t.test("a caller's decision not to record holds, unless the trace is forced", async (t) => {
  const traceId = '3af7651916cd43dd8448eb211c80319c';
  const traceparent = `00-${traceId}-b7ad6b7169203331-00`;
  const { revision } = await put('quiet', { traceparent });
  const forced = await put('loud', { traceparent, 'x-keychaindb-trace': '1' });
  t.equal(forced.traceId, traceId);
  await collector.until((all) => ofTrace(traceId)(all).length >= 26);
  const revisions = new Set(
    ofTrace(traceId)(collector.spans).map(({ attributes }) => attributes['keychaindb.revision']),
  );
  t.notOk(revisions.has(Number(revision)));
  t.ok(revisions.has(Number(forced.revision)));
});

t.test('a malformed traceparent counts as absent', async (t) => {
  for (const traceparent of ['nonsense', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`, 'ff-0-0-0']) {
    const { revision } = await put('odd', { traceparent });
    t.match(revision, /^\d+$/);
  }
});

t.test(
  'what wasn’t sampled is still remembered, by the id that its place in the log names',
  async (t) => {
    const { revision } = await put('remembered', {
      traceparent: '00-4af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00',
    });
    const { spans, silent } = await client.trace(Number(revision));
    t.strictSame(silent, []);
    t.strictSame(
      spans.filter(({ name }) => name === 'chain.write' || name === 'chain.apply').length,
      5,
    );
    const byId = await client.trace('4af7651916cd43dd8448eb211c80319c');
    t.equal(byId.spans.length, spans.length);
    t.strictSame((await client.trace('5af7651916cd43dd8448eb211c80319c')).spans, []);
  },
);

t.test('views, joins and elections are traces of their own', async (t) => {
  await collector.until((all) => all.some(({ name }) => name === 'raft.election'));
  await collector.until((all) => all.filter(({ name }) => name === 'chain.join').length >= 1);
  const [change] = collector.spans.filter(({ name }) => name === 'chain.view_change').slice(-1);
  t.equal(change?.parentId, '');
  t.equal(change?.service, 'keychaindb-coordinator');
  const activations = collector.spans.filter(
    ({ name, traceId }) => name === 'chain.activate' && traceId === change?.traceId,
  );
  t.strictSame(activations.map(({ instance }) => instance).sort(), [...nodes].sort());
  for (const activation of activations) t.equal(activation.parentId, change?.spanId);
  const [join] = collector.spans.filter(({ name }) => name === 'chain.join');
  t.ok(collector.spans.some(({ parentId }) => parentId === join?.spanId));
});

/** Runs a verb; what it printed and its exit code. */
function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env }, (error, out, err) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err });
    });
  });
}

const endpoints = ['--endpoints', proxy?.grpc ?? ''];

t.test('put --trace draws the whole way', async (t) => {
  const { code, out } = await run(['put', ...endpoints, '--trace', 'drawn', 'v']);
  t.equal(code, 0);
  for (const node of nodes) t.match(out, new RegExp(`chain\\.(write|apply) +${node} `));
  t.match(out, /^revision \d+\ntrace [0-9a-f]{32} /);
  const traceId = /trace ([0-9a-f]{32})/.exec(out)?.[1] ?? '';
  const drawn = await run(['trace', ...endpoints, traceId, '-o', 'json']);
  const { data } = JSON.parse(drawn.out) as { data: { traceID: string; spans: unknown[] }[] };
  t.equal(data[0]?.traceID, traceId);
  t.ok((data[0]?.spans.length ?? 0) >= 26);
});

t.test('what can’t be shown or set is said, with its exit code', async (t) => {
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['trace', ...endpoints, 'ffffffffffffffffffffffffffffffff'], 3, /TRACE_NOT_FOUND/],
    [['trace', ...endpoints, '99999999'], 3, /TRACE_NOT_FOUND: no process remembers the write/],
    [['trace', ...endpoints, 'xyz'], 2, /BAD_REQUEST: id: "xyz"/],
    [['log-level', ...endpoints, 'loud'], 2, /BAD_REQUEST: level: "loud" is none of/],
    [['log-level', ...endpoints, 'info', '--process', 'node-9'], 3, /MEMBER_NOT_FOUND/],
    [['proxy', '--trace-ratio', '1.5'], 2, /0 to 1 is wanted/],
    [['proxy', '--otlp', 'localhost:4318'], 2, /http:\/\/HOST:PORT is wanted/],
  ];
  for (const [args, code, message] of cases) {
    const ran = await run(args);
    t.equal(ran.code, code, args.join(' '));
    t.match(ran.err, message);
  }
});

t.test('the log level of every process changes while it runs', async (t) => {
  for (const id of ['proxy-1', 'node-3', 'coordinator-2']) {
    const there = await run(['log-level', ...endpoints, 'debug', '--process', id]);
    t.equal(there.out, `${id}: info → debug\n`);
    await run(['log-level', ...endpoints, 'info', '--process', id]);
  }
});

/** Stands in for Jaeger: takes the configuration, serves its two ports, counts what comes. */
const standIn = `#!${process.execPath}
const { readFileSync } = require('node:fs');
const { createServer } = require('node:http');
const config = readFileSync(process.argv[process.argv.indexOf('--config') + 1], 'utf8');
const ports = [...config.matchAll(/endpoint: 127\\.0\\.0\\.1:(\\d+)/g)].map(([, port]) => Number(port));
let received = 0;
for (const port of ports) {
  createServer((request, response) => {
    request.resume();
    if (request.url === '/v1/traces') received += 1;
    response.end(String(received));
  }).listen(port, '127.0.0.1');
}
`;

t.test(
  'demo --jaeger starts what is called jaeger, and links to the trace of a first write',
  async (t) => {
    const dir = t.testdir({ jaeger: standIn, 'package.json': '{}' });
    await chmod(`${dir}/jaeger`, 0o755);
    const args = ['demo', '--jaeger', '--json', '--data-dir', `${dir}/data`, '--nodes', '1'];
    const ports = [
      '--base-port',
      '0',
      '--grpc-port',
      '0',
      '--http-port',
      '0',
      '--coordinators',
      '1',
    ];
    const env = { ...process.env, JAEGER_BIN: `${dir}/jaeger` };
    const demo = spawn(process.execPath, [main, ...args, ...ports], { env });
    const ended = new Promise((resolve) => demo.once('exit', resolve));
    let said = '';
    const link = await new Promise<string>((resolve, reject) => {
      demo.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        const found = /hop by hop: (http:\S+\/trace\/[0-9a-f]{32})\n/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
      demo.once('exit', () => reject(new Error(said)));
    });
    const page = link.slice(0, link.indexOf('/trace/'));
    t.match(said, `Jaeger runs: ${page}`);
    const came = async (): Promise<number> => Number(await (await fetch(page)).text());
    const until = performance.now() + 10_000;
    while ((await came()) === 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    t.ok((await came()) > 0, 'spans came to its collector');
    demo.kill('SIGTERM');
    await ended;
    await t.rejects(fetch(page), 'it ends with the demo');
  },
);

t.test('demo --jaeger says what is missing, or runs it', async (t) => {
  const none = await run(['demo', '--jaeger', '--data-dir', t.testdir()], { PATH: '/nowhere' });
  t.equal(none.code, 2);
  t.match(none.err, /there is no `jaeger`.*JAEGER_BIN/);
  const binary = await findJaeger(process.env);
  if (binary === undefined) {
    t.comment('skipped: there is no jaeger on this machine, so nothing was seen in a real one');
    return;
  }
  await access(binary);
  const seen = await Lab.start({ args: ['--jaeger'] });
  await seen.stop();
});

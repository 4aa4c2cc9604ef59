import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { Lab } from '../../tools/lab/cluster.js';
import { metricNames } from '../metric-names.js';
import { findPromtool } from '../promtool.js';
import { refusal } from '../refusal.js';
import { type CollectedSpan, startCollector } from '../telemetry/collector.js';

/* Nothing is sampled here: what comes was kept because it was slow, failed or forced; and what can go wrong with a collector. */

const collector = await startCollector();
const lab = await Lab.start({
  args: [
    ...['--otlp', collector.grpcUrl, '--otlp-protocol', 'grpc', '--trace-ratio', '0'],
    // Who is stopped for more than the half second that makes a write slow keeps its place.
    ...['--detection-ms', '3000'],
  ],
});
t.teardown(async () => {
  await lab.stop();
  await collector.close();
});
const client = lab.client();
const promtool = findPromtool();

const isHop = ({ name }: CollectedSpan): boolean =>
  name === 'chain.write' || name === 'chain.apply';

async function metric(http: string, pattern: RegExp): Promise<number> {
  const text = await (await fetch(`http://${http}/metrics`)).text();
  return Number(pattern.exec(text)?.[1] ?? Number.NaN);
}

t.test('with a ratio of 0 a fast write leaves nothing behind', async (t) => {
  for (let n = 0; n < 20; n += 1) await client.put('fast', 'v');
  const forced = await fetch(`http://${lab.of('proxy')[0]?.http}/v1/keys/fast`, {
    headers: { 'x-keychaindb-trace': '1' },
  });
  const traceId = forced.headers.get('x-keychaindb-trace-id');
  await forced.arrayBuffer();
  await collector.until((all) => all.filter((span) => span.traceId === traceId).length === 3);
  // On a machine that stood still one may have been slow.
  const others = collector.spans.filter(
    ({ name, startNs, endNs }) => name === 'keychaindb.v1.KV/Put' && endNs - startNs < 500_000_000n,
  );
  t.strictSame(others, []);
});

t.test(
  'a slow write is kept whole, at every node, under the id that its place in the log names',
  async (t) => {
    // The tail stands still for longer than what counts as slow, and for less than what counts as dead.
    lab.signal('node-3', 'SIGSTOP');
    const written = client.put('slow', 'v');
    await new Promise((resolve) => setTimeout(resolve, 600));
    lab.signal('node-3', 'SIGCONT');
    const { revision } = await written;
    const slow = (all: readonly CollectedSpan[]): readonly CollectedSpan[] =>
      all.filter((span) => isHop(span) && span.attributes['keychaindb.revision'] === revision);
    await collector.until((all) => slow(all).length === 3);
    const [hop] = slow(collector.spans);
    await collector.until((all) =>
      all.some((span) => span.traceId === hop?.traceId && span.name === 'keychaindb.v1.KV/Put'),
    );
    t.strictSame(
      slow(collector.spans)
        .map(({ instance }) => instance)
        .sort(),
      ['node-1', 'node-2', 'node-3'],
    );
    const { spans } = await client.trace(revision);
    t.equal(spans[0]?.traceId, hop?.traceId);
  },
);

t.test('a write that fails is kept', async (t) => {
  for (const id of ['node-2', 'node-3']) lab.signal(id, 'SIGSTOP');
  const hasty = lab.client({ timeoutMs: 300 });
  await t.rejects(hasty.put('failing', 'v'), refusal('OUTCOME_UNKNOWN'));
  for (const id of ['node-2', 'node-3']) lab.signal(id, 'SIGCONT');
  const failed = (all: readonly CollectedSpan[]): CollectedSpan | undefined =>
    all.find(({ name, error }) => name === 'keychaindb.v1.KV/Put' && error !== '');
  await collector.until((all) => failed(all) !== undefined);
  t.match(failed(collector.spans)?.error, /^(OUTCOME_UNKNOWN|DEADLINE): /);
  await lab.serving(['node-1', 'node-2', 'node-3']);
});

t.test('a dirty read shows that it asked the tail', async (t) => {
  const { members } = await client.members();
  const before = collector.spans.length;
  let done = false;
  const writing = (async () => {
    while (!done) await client.put('hot', 'v');
  })();
  const [proxy] = lab.of('proxy');
  const asked = (all: readonly CollectedSpan[]): boolean =>
    all.slice(before).some(({ name }) => name === 'chain.tail_query');
  const reading = (async () => {
    while (!done) {
      const answer = await fetch(`http://${proxy?.http}/v1/keys/hot?node=node-1`, {
        headers: { 'x-keychaindb-trace': '1' },
      });
      await answer.arrayBuffer();
    }
  })();
  await collector.until(asked, 20_000).finally(() => {
    done = true;
  });
  await Promise.all([writing, reading]);
  const query = collector.spans.slice(before).find(({ name }) => name === 'chain.tail_query');
  t.equal(query?.attributes['keychaindb.tail'], members.at(-1)?.id);
  const read = collector.spans.find(({ spanId }) => spanId === query?.parentId);
  t.match(read, { name: 'chain.read', attributes: { 'keychaindb.asked_tail': true } });
});

t.test(
  'a collector that refuses, hangs or is gone costs counted spans, and no request',
  async (t) => {
    const [proxy] = lab.of('proxy');
    const lost = (): Promise<number> =>
      metric(proxy?.http ?? '', /^keychaindb_spans_dropped_total\{.*\} (\d+)/m);
    t.equal(await lost(), 0);
    collector.refuse(400);
    const traced = async (): Promise<void> => {
      const answer = await fetch(`http://${proxy?.http}/v1/keys/fast`, {
        headers: { 'x-keychaindb-trace': '1' },
      });
      await answer.arrayBuffer();
      t.equal(answer.status, 200);
    };
    await traced();
    const until = performance.now() + 20_000;
    while ((await lost()) === 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    t.ok((await lost()) >= 2);
    collector.hang();
    await traced();
    await client.put('still', 'written');
    collector.resume();
  },
);

t.test('every process shows its metrics, valid and with its own id', async (t) => {
  const shown = new Set<string>();
  for (const { http, id } of lab.processes) {
    const response = await fetch(`http://${http}/metrics`);
    t.match(response.headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    t.match(
      text,
      new RegExp(`^keychaindb_build_info\\{version="[^"]+",role="\\w+",id="${id}"\\} 1$`, 'm'),
    );
    const isRight = (line: string): boolean =>
      line === '' ||
      /^# (HELP|TYPE) [a-z_:0-9]+ .+/.test(line) ||
      /^[a-z_:0-9]+(\{([a-z_0-9]+="[^"]*",?)+\})? (-?[0-9.e+-]+|Nan|\+Inf)$/i.test(line);
    t.strictSame(
      text.split('\n').filter((line) => !isRight(line)),
      [],
      id,
    );
    for (const [, name] of text.matchAll(/^# TYPE (keychaindb_\w+)/gm)) shown.add(name ?? '');
    if (promtool !== undefined) execFileSync(promtool, ['check', 'metrics'], { input: text });
  }
  if (promtool === undefined) t.comment('skipped: there is no promtool on this machine');
  const listed = metricNames(
    readFileSync(new URL('../../../docs/names.md', import.meta.url), 'utf8'),
  );
  t.strictSame(
    [...shown].sort(),
    [...listed].sort(),
    'those that docs/names.md lists, and no others',
  );
});

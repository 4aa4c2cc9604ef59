import t from 'tap';
import { checkPerf, type PerfFlags } from '../../src/cmd/check-perf.js';
import { judged, perfLoads, WriteTimes } from '../../src/cmd/perf.js';
import { Lab } from '../../tools/lab/cluster.js';

function timesOf(milliseconds: readonly number[], failed = 0): WriteTimes {
  const times = new WriteTimes();
  for (const each of milliseconds) times.took(each);
  times.failed = failed;
  return times;
}

const load = { perSecond: 10, clients: 1, seconds: 1 };

t.test('a load passes at nine tenths of its rate, and not below', async (t) => {
  const nine = timesOf(Array.from({ length: 9 }, () => 5));
  t.equal(judged(load, nine, 1).passed, true);
  t.equal(judged(load, nine, 1.1).passed, false);
});

t.test('one slow write, a wide spread, or one that failed is a failure', async (t) => {
  const even = Array.from({ length: 100 }, () => 100);
  const failing = (times: WriteTimes): readonly string[] =>
    judged(load, times, 1)
      .checks.filter(({ isMet }) => !isMet)
      .map(({ name }) => name);
  t.same(failing(timesOf(even)), []);
  t.same(failing(timesOf([...even, 500])), []);
  t.same(failing(timesOf([...even, 501])), ['slowest']);
  t.same(failing(timesOf([...even, ...even.map(() => 350)])), ['standard deviation']);
  t.same(failing(timesOf(even, 1)), ['failed']);
});

t.test('the deviation is that of the whole', async (t) => {
  const times = timesOf([2, 4, 4, 4, 5, 5, 7, 9]);
  t.equal(times.mean, 5);
  t.equal(times.deviation, 2);
});

t.test("the loads are those of etcd's own check", async (t) => {
  const { s, m, l, xl } = perfLoads;
  t.same(
    [s, m, l, xl].map(({ perSecond, clients, seconds }) => [perSecond, clients, seconds]),
    [
      [150, 50, 60],
      [1_000, 200, 60],
      [8_000, 500, 60],
      [15_000, 1_000, 60],
    ],
  );
});

t.test('a cluster is checked, told of, and left as it was', async (t) => {
  const lab = await Lab.start({ nodes: 1, coordinators: 1 });
  t.teardown(() => lab.stop());
  const client = lab.client();
  await client.put('mine/kept', 'before');
  const flags: PerfFlags = {
    endpoints: lab.of('proxy').map(({ grpc }) => grpc),
    timeout: 5_000,
    output: 'json',
    prefix: 'mine/',
    load: 'tiny',
  };
  const run = async (perSecond: number): Promise<{ code: number; text: string }> => {
    const shown: string[] = [];
    const loads = { tiny: { perSecond, clients: 4, seconds: 0.2 } };
    const code = await checkPerf(flags, loads, (text) => shown.push(text));
    return { code, text: shown.join('') };
  };
  const { code, text } = await run(50);
  const report = JSON.parse(text) as { load: string; passed: boolean; failed: number };
  t.equal(report.load, 'tiny');
  t.equal(report.failed, 0);
  t.equal(code, report.passed ? 0 : 6, 'the exit code says what the report says');
  const key = (index: number): string => `mine/${index}/`.padEnd(256, 'k');
  t.equal(await client.get(key(0)), undefined, 'its keys are gone');
  t.equal(await client.get(key(9)), undefined);
  t.not(await client.get('mine/kept'), undefined, 'others are not');
  const revisions = (await client.put('mine/kept', 'after')).revision;
  t.ok(revisions > 10, 'it did write');
  const missed = await run(10_000_000);
  t.equal(missed.code, 6, 'a rate that no cluster reaches');
  t.match(missed.text, /"passed":false/);
});

import t from 'tap';
import { rowsOf } from '../../tools/bench/comparison.js';
import { byFunction, byOwner } from '../../tools/bench/cpu-profile.js';
import { goals, goalTable, limits } from '../../tools/bench/goals.js';
import { failoverGaps } from '../../tools/bench/parts/failures.js';
import { chosen, partNames } from '../../tools/bench/parts/parts.js';
import { memoryOf } from '../../tools/bench/parts/soak.js';
import { comparisonTable, markdown } from '../../tools/bench/report.js';
import { countsOf } from '../../tools/bench/systems/system.js';
import { difference, type Trial } from '../../tools/bench/trial.js';

function trialOf(perSecond: number, cpuMicros: number): Trial {
  return {
    ...{ perSecond, cpuMicros, cpuByRole: { node: cpuMicros }, generatorMicros: 10 },
    refused: { Unavailable: 2 },
  };
}

const cases = [
  { name: 'ours', isPeer: false },
  { name: 'slow peer', isPeer: true },
  { name: 'fast peer', isPeer: true },
];

t.test('ratios are to the fastest peer, round by round, and their medians', async (t) => {
  const rows = rowsOf(cases, [
    [trialOf(200, 50), trialOf(90, 60), trialOf(300, 40)],
    [trialOf(10, 200), trialOf(10, 200), trialOf(10, 200)],
    [trialOf(100, 100), trialOf(30, 120), trialOf(150, 100)],
  ]);
  const [ours, , peer] = rows;
  t.equal(ours?.throughputRatio, 2, 'a round that was slow for both counts as any other');
  t.equal(ours?.cpuRatio, 0.5);
  t.equal(ours?.perSecond, 200);
  t.same(ours?.refused, { Unavailable: 6 });
  t.equal(peer?.throughputRatio, 1);
  const alone = rowsOf([{ name: 'ours', isPeer: false }], [[trialOf(1, 1)]]);
  t.equal(alone[0]?.throughputRatio, undefined);
});

t.test(
  'a table names each system with its ratios, and gives the goals their figures',
  async (t) => {
    const rows = rowsOf(cases, [[trialOf(250, 50)], [trialOf(10, 90)], [trialOf(100, 100)]]);
    const found = comparisonTable('Reads', 'reads', rows, 'reads');
    t.match(
      markdown(found),
      '| ours | 250 | 2.50× | 50 µs | node 50 | 0.50× | 10 µs | Unavailable 2 |',
    );
    t.equal(found.figures?.['reads: ours'], 2.5);
  },
);

t.test('every goal stands beside what was reached, or that it was not measured', async (t) => {
  const reached = { 'unary reads: keychaindb, proxy': 1.19, 'longest write gap, ms': 500 };
  const text = markdown(
    goalTable([{ title: '', header: [], rows: [], data: 0, figures: reached }]),
  );
  t.match(text, '| unary read through a proxy, to etcd | ≥ 1.20× | 1.19× | missed |');
  t.match(text, '| ≤ 500 ms | 500 ms | met |');
  t.match(text, 'not measured');
  const names = [...goals, ...limits].map(({ figure }) => figure);
  t.equal(new Set(names).size, names.length);
});

t.test("the server's counts are summed by code, over processes", async (t) => {
  const text = [
    'keychaindb_requests_total{verb="get",code="OK",reason="",role="node",id="n"} 5',
    'keychaindb_requests_total{verb="put",code="RESOURCE_EXHAUSTED",reason="OVERLOADED"} 1e+3',
    'keychaindb_requests_total{verb="status",code="OK"} 9',
    'keychaindb_requests_total_other{verb="get",code="OK"} 9',
  ].join('\n');
  t.same(countsOf([text, text], 'keychaindb_requests_total', 'code', /verb="(get|put)"/), {
    OK: 10,
    RESOURCE_EXHAUSTED: 2_000,
  });
  t.same(difference({ OK: 12, GONE: 3 }, { OK: 10, GONE: 3 }), { OK: 2 });
});

t.test('a process that grows after its first quarter is not flat', async (t) => {
  const samples = (of: (i: number) => number): number[] =>
    Array.from({ length: 80 }, (_, i) => of(i));
  t.equal(
    memoryOf(
      'n',
      samples((i) => (i < 20 ? 50 + 10 * i : 250)),
    ).isFlat,
    true,
  );
  t.equal(
    memoryOf(
      'n',
      samples((i) => 100 + i),
    ).isFlat,
    false,
  );
  t.equal(
    memoryOf(
      'n',
      samples((i) => 100 + (i % 20)),
    ).isFlat,
    true,
    'a saw is flat',
  );
});

t.test('the gaps of a failover are read', async (t) => {
  const text = [
    'head   killed, node-1 of node-1 node-2: out after 301 ms; longest gap between answered writes 312 ms, reads 40 ms',
    '       back in the chain after 900 ms',
    'head   killed, node-2 of node-2 node-1: out after 310 ms; longest gap between answered writes 290 ms, reads 55 ms',
    '       back in the chain after 950 ms',
    '       900 reads, 200 writes, 3 failed reads, 1 failed writes, 2 stale or lost',
    '',
  ].join('\n');
  t.same(failoverGaps(text), [
    { position: 'head', writeMs: 312, readMs: 55, failedReads: 3, stale: 2 },
  ]);
  t.throws(() => failoverGaps('something else'), /printed no gap/);
});

t.test('parts are those named, or those of a default run, or all', async (t) => {
  t.same(chosen(['writes', 'reads'], false), ['reads', 'writes']);
  t.same(chosen([], true), partNames);
  t.ok(chosen([], false).length < partNames.length);
  t.throws(() => chosen(['raeds'], false), /there is no part "raeds"/);
});

t.test(
  'a CPU profile is summed up by package, room, Node and garbage, idle time apart',
  async (t) => {
    const frame = (id: number, functionName: string, url = '') => ({
      id,
      callFrame: { functionName, url, lineNumber: 9 },
    });
    const profile = {
      nodes: [
        frame(1, '(idle)'),
        frame(2, '(garbage collector)'),
        frame(3, 'send', 'file:///k/node_modules/@grpc/grpc-js/build/src/server.js'),
        frame(4, 'fold', 'file:///k/dist/src/chain/fold.js'),
        frame(5, 'request', 'node:internal/http2/core'),
        frame(6, 'tick', 'node:internal/timers'),
      ],
      samples: [1, 2, 3, 3, 4, 5, 6],
      timeDeltas: [900, 10, 20, 20, 30, 15, 5],
    };
    t.same(byOwner([profile]), [
      { name: '@grpc/grpc-js', part: 0.4 },
      { name: 'src/chain', part: 0.3 },
      { name: 'node: http2, http, net, streams', part: 0.15 },
      { name: 'garbage collection', part: 0.1 },
      { name: 'node: others', part: 0.05 },
    ]);
    t.equal(byFunction([profile])[0]?.name, 'send @grpc/grpc-js/build/src/server.js:10');
  },
);

import { readFileSync } from 'node:fs';
import t from 'tap';
import {
  type CoordinatorStatus,
  type Member,
  MemberState,
  type NodeStatus,
  type RefusedProcess,
} from '../../src/gen/keychaindb/v1/coordinator.js';
import { type StatusReport, statusReport } from '../../src/proxy/status.js';
import { memberOf, viewOf } from './views.js';

const node = (id: string, more: Partial<NodeStatus> = {}): NodeStatus => ({
  ...{ id, incarnation: 1, silentMs: 20, activeEpoch: 7, revision: 12, watermark: 12, lag: 0 },
  ...{ stagedKeys: 0, leaseMs: 800, bootWaitMs: 0, silentPeers: [], version: '0.1.0' },
  ...{ damage: '', outlier: '', comparedRevision: 9 },
  ...{ stuckMs: 0, idleMs: 0 },
  ...more,
});

const coordinator = (id: string, more: Partial<CoordinatorStatus> = {}): CoordinatorStatus => ({
  ...{ id, address: `${id}:1`, learner: false, answered: true, role: 'follower', term: 4 },
  ...{ leader: 'c1', commit: 9, applied: 9, last: 9, first: 1, snapshot: 0, lag: 0 },
  version: '0.1.0',
  ...more,
});

function reportOf(
  members: readonly Member[],
  nodes: readonly NodeStatus[],
  coordinators: readonly CoordinatorStatus[] = ['c1', 'c2', 'c3'].map((id) => coordinator(id)),
  leader = 'c1',
  refused: readonly RefusedProcess[] = [],
): StatusReport {
  const inChain: readonly MemberState[] = [
    ...[MemberState.SERVING, MemberState.LASTSRV, MemberState.JOINING, MemberState.SYNCING],
  ];
  const isMember = ({ state }: Member): boolean => inChain.includes(state);
  const view = {
    ...viewOf(7, []),
    members: members.filter(isMember),
    others: members.filter((m) => !isMember(m)),
  };
  return statusReport(
    { view, nodes, refused },
    { members: {}, leader, term: 4, coordinators, heard: [] },
  );
}

const serving = (id: string): Member => memberOf(id, MemberState.SERVING);
const problemsOf = ({ problems }: StatusReport): readonly string[] =>
  problems.map(({ kind, id }) => `${kind} ${id}`.trim());

t.test('a whole cluster is healthy, and each member has its place', async (t) => {
  const report = reportOf(
    ['a', 'b', 'c'].map(serving),
    ['a', 'b', 'c'].map((id) => node(id)),
  );
  t.equal(report.healthy, true);
  t.same(
    report.nodes.map(({ id, role }) => `${id} ${role}`),
    ['a head', 'b middle', 'c tail'],
  );
  t.match(report.nodes[0], {
    revision: '12',
    watermark: '12',
    lag: 0,
    leaseMs: 800,
    version: '0.1.0',
  });
});

t.test('each thing that is wrong is named, with what mends it', async (t) => {
  const two = ['a', 'b'].map(serving);
  const heard = ['a', 'b'].map((id) => node(id));
  const newer = {
    ...{ process: 'node d', version: '2.0' },
    ...{ message: 'node d speaks protocol 2.0', remedy: 'upgrade coordinator c1' },
  };
  const cases: readonly (readonly [string, StatusReport])[] = [
    ['no-chain', reportOf([], [])],
    ['node-silent c', reportOf([...two, memberOf('c', MemberState.OFFLINE)], heard)],
    ['node-silent b', reportOf(two, [node('a')])],
    ['node-waiting c', reportOf([...two, memberOf('c', MemberState.WAITING)], heard)],
    ['node-joining c', reportOf([...two, memberOf('c', MemberState.SYNCING)], heard)],
    ['peers-apart a', reportOf(two, [node('a', { silentPeers: ['b'] }), node('b')])],
    ['node-idle a', reportOf(two, [node('a', { activeEpoch: 6, idleMs: 501 }), node('b')])],
    ['disk-stuck b', reportOf(two, [node('a'), node('b', { stuckMs: 2_001 })])],
    ['last-serving a', reportOf([memberOf('a', MemberState.LASTSRV)], [])],
    ['no-leader', reportOf(two, heard, undefined, '')],
    ['version-unknown node d', reportOf(two, heard, undefined, 'c1', [newer])],
    [
      'coordinator-silent c2',
      reportOf(two, heard, [
        coordinator('c1'),
        coordinator('c2', { answered: false }),
        coordinator('c3'),
      ]),
    ],
    [
      'coordinator-learning c4',
      reportOf(two, heard, [
        ...['c1', 'c2', 'c3'].map((id) => coordinator(id)),
        coordinator('c4', { learner: true }),
      ]),
    ],
    [
      'coordinator-behind c2',
      reportOf(two, heard, [
        coordinator('c1'),
        coordinator('c2', { lag: 1_001 }),
        coordinator('c3'),
      ]),
    ],
    ['coordinators-few', reportOf(two, heard, [coordinator('c1'), coordinator('c2')])],
  ];
  for (const [wanted, report] of cases) {
    t.same(problemsOf(report), [wanted]);
    t.equal(report.healthy, false);
    for (const { message, command } of report.problems)
      t.ok(message !== '' && command !== '', wanted);
  }
});

t.test('while the newest view is taken up, and a disk syncs, nothing is wrong', async (t) => {
  const busy = { activeEpoch: 6, idleMs: 500, stuckMs: 2_000 };
  t.equal(reportOf(['a', 'b'].map(serving), [node('a', busy), node('b')]).healthy, true);
});

t.test('the way out of a chain that nobody serves names whom it would give up', async (t) => {
  const gone = ['a', 'b'].map((id) => memberOf(id, MemberState.LASTSRV));
  const { problems } = reportOf([...gone, memberOf('c', MemberState.WAITING)], []);
  t.same(
    problems.map(({ kind, id }) => `${kind} ${id}`),
    ['last-serving a', 'last-serving b', 'node-waiting c'],
  );
  t.match(problems[0]?.command, 'start a; ');
  t.match(problems[0]?.command, 'keychaindb chain recover ID --lose a,b');
});

t.test('of a process that is not heard nothing is claimed', async (t) => {
  const gone = memberOf('a', MemberState.OFFLINE);
  const { nodes } = reportOf([serving('b'), gone], [node('a'), node('b')]);
  t.match(
    nodes.find(({ id }) => id === 'a'),
    { revision: null, lag: null, leaseMs: null },
  );
});

t.test('every field and kind stands in docs/names.md', async (t) => {
  const names = readFileSync(new URL('../../../docs/names.md', import.meta.url), 'utf8');
  const [, section = ''] = names.split('\n## status\n');
  const report = reportOf([serving('a'), memberOf('c', MemberState.OFFLINE)], [node('a')]);
  const fields = [report, report.nodes[0], report.coordinators[0], report.problems[0]];
  for (const each of fields) {
    for (const field of Object.keys(each ?? {}))
      t.match(section, new RegExp(`\\b${field}\\b`), field);
  }
  const source = readFileSync(new URL('../../../src/proxy/status.ts', import.meta.url), 'utf8');
  const [kinds = ''] = /readonly kind:[^;]*;/.exec(source) ?? [];
  for (const [, kind = ''] of kinds.matchAll(/'([a-z-]+)'/g)) t.ok(section.includes(kind), kind);
});

t.test('a damaged store is shown, with what becomes of it', async (t) => {
  const serving = ['a', 'b'].map((id) => memberOf(id, MemberState.SERVING));
  const damage = 'record o/k: its checksum is another one';
  const one = reportOf(serving, [node('a', { damage }), node('b')]);
  t.match(one.problems, [{ kind: 'store-damaged', id: 'a', passing: true, command: /^wait/ }]);
  const last = reportOf(serving.slice(0, 1), [node('a', { damage })]);
  t.match(last.problems, [{ kind: 'store-damaged', id: 'a', passing: false }]);
  t.match(last.problems[0]?.command, /chain add/);
});

t.test(
  'a state that differs is shown at the one that is synced anew, whoever found it',
  async (t) => {
    const serving = ['a', 'b', 'c'].map((id) => memberOf(id, MemberState.SERVING));
    const found = { damage: 'its state differs from that of a', outlier: 'a' };
    const report = reportOf(serving, [node('a'), node('b', found), node('c')]);
    t.match(report.problems, [{ kind: 'state-differs', id: 'a', message: /^b found/ }]);
    t.match(report.nodes, [{ comparedRevision: '9' }, { outlier: 'a' }, {}]);
  },
);

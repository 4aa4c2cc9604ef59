import t from 'tap';
import { droppable, feedFrom, isBaseDue } from '../../src/chain/kept.js';
import { heartbeatOf } from '../../src/chain/report.js';
import { PureCluster, timing, view } from './pure-cluster.js';

/** `a` serves alone, and its log begins after entry 4; it has 8, and a base of 6. */
function shortened(): PureCluster {
  const c = new PureCluster();
  c.serve(view(1, 'a'));
  for (let i = 1; i <= 4; i += 1) c.put('a', `k${i}`, `v${i}`);
  c.base('a');
  c.put('a', 'k5', 'v5');
  c.put('a', 'k1', 'new');
  c.base('a');
  c.put('a', 'k7', 'v7');
  c.put('a', 'k8', 'v8');
  return c;
}

const marks = (c: PureCluster, id: string): readonly number[] => {
  const { start, base } = c.node(id).state.kept;
  return [start.id.index, base.id.index];
};

t.test('R17: the log begins one base before the newest', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a'));
  for (let i = 1; i <= 4; i += 1) c.put('a', `k${i}`, `v${i}`);
  c.base('a');
  t.same(marks(c, 'a'), [0, 4], 'the first base drops nothing');
  c.base('a');
  t.same(marks(c, 'a'), [0, 4], 'one of the same revision is none');
  c.put('a', 'k5', 'v5');
  c.base('a');
  t.same(marks(c, 'a'), [4, 5]);
});

t.test('a base is due when half of what the log may hold has come since the newest', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a'));
  const { state } = c.node('a');
  const bounded = (bounds: { bytesMax?: number; entriesMax?: number }): boolean =>
    isBaseDue({ ...state, bounds: { bytesMax: 1e9, entriesMax: 1e9, ...bounds } });
  t.notOk(bounded({ entriesMax: 0 }), 'of an empty log there is none');
  for (let i = 1; i <= 4; i += 1) c.put('a', `k${i}`, `v${i}`);
  t.ok(bounded({ entriesMax: 7 }));
  t.notOk(bounded({ entriesMax: 8 }));
  t.ok(bounded({ bytesMax: state.ledger.bytes * 2 - 1 }));
  t.notOk(bounded({ bytesMax: state.ledger.bytes * 2 }));
  t.notOk(isBaseDue({ ...state, incomplete: true, bounds: { bytesMax: 0, entriesMax: 0 } }));
  c.base('a');
  t.notOk(bounded({ entriesMax: 0 }), 'nothing is committed since');
});

t.test('the log stays for a follower that needs it, up to twice its bound', async (t) => {
  const c = shortened();
  const { state } = c.node('a');
  const { kept, ledger } = state;
  const down = {
    ...{ link: 1, session: 1, epoch: 1, from: { id: 'b', incarnation: 1 }, reconciled: true },
    fedAfter: { generation: 1, index: 5 },
    acked: undefined,
  };
  const bounds = { bytesMax: 1e9, entriesMax: 2 };
  t.equal(droppable({ ...state, down: undefined })?.id.index, 6);
  t.equal(droppable({ ...state, down }), undefined, 'it was fed from 5 on');
  const acked = { generation: 1, index: 6 };
  t.equal(droppable({ ...state, down: { ...down, acked } })?.id.index, 6, 'it has 6');
  t.equal(droppable({ ...state, down, bounds }), undefined, '4 entries are twice the bound');
  const longer = { ...ledger, last: { generation: 1, index: 9 } };
  t.equal(droppable({ ...state, down, bounds, ledger: longer })?.id.index, 6, '5 are more');
  const bytesMax = (ledger.bytes - kept.start.bytes) / 2;
  t.equal(droppable({ ...state, down, bounds: { ...bounds, bytesMax } }), undefined);
  t.equal(
    droppable({ ...state, down, bounds: { ...bounds, bytesMax: bytesMax - 1 } })?.id.index,
    6,
  );
});

t.test('R6, R17: how a follower is fed is decided by where its log ends', async (t) => {
  const { state } = shortened().node('a');
  const fed = (...ends: (readonly [number, number])[]) =>
    feedFrom(
      state,
      ends.map(([generation, index]) => ({ generation, index })),
    );
  const at = (generation: number, index: number, isSnapshot: boolean) => ({
    after: { generation, index },
    isSnapshot,
  });
  t.same(fed([1, 8], [1, 7]), at(1, 8, false), 'from the last common entry');
  t.same(fed([2, 9], [1, 4]), at(1, 4, false), 'the log is kept from there on');
  t.same(fed([2, 9], [1, 3]), at(1, 6, true), 'from there on it is not: the newest base');
  t.same(fed([0, 0]), at(1, 6, true), 'who has nothing');
  t.same(fed([7, 2]), at(0, 0, false), 'nothing in common: its store can’t be reconciled');
});

t.test('R17: a member that has nothing gets the base, and the log after it', async (t) => {
  const c = shortened();
  c.start('b');
  c.hold = (p) => p.text === 'chunk';
  c.show(view(2, 'a b~sync'), 'a', 'b');
  c.pass(timing.heartbeatMs);
  const { state } = c.node('b');
  t.equal(state.incomplete, true);
  const beat = heartbeatOf(state, true, new Uint8Array(16), c.now, 0);
  t.match(beat, { incomplete: true, last: { index: 0 } }, 'R10: the coordinators are told');
  const report = (): unknown =>
    heartbeatOf(c.node('a').state, true, new Uint8Array(16), c.now, 0).report;
  t.equal(report(), undefined, 'R9: nothing of it is acknowledged');
  c.release();
  c.pass(timing.heartbeatMs);
  t.equal(state.incomplete, false);
  t.same(marks(c, 'b'), [6, 6], 'its log begins there');
  t.equal(state.ledger.last.index, 8, 'what came after it is there too');
  t.match(report(), { next: 2 }, 'it may join');
});

t.test('R13: who is synced for long lacks nobody, as it asks for no promises', async (t) => {
  const c = shortened();
  c.start('b');
  c.hold = (p) => p.text === 'chunk';
  c.show(view(2, 'a b~sync'), 'a', 'b');
  c.pass(4 * timing.detectionMs);
  const { state } = c.node('b');
  t.equal(state.incomplete, true, 'it is still being synced');
  const { silentPeers } = heartbeatOf(state, true, new Uint8Array(16), c.now, 0);
  t.same(silentPeers, []);
});

t.test('R17: a chunk that is missing ends the link, and the snapshot begins anew', async (t) => {
  const c = shortened();
  c.start('b');
  let chunks = 0;
  c.hold = (p) => {
    chunks += p.text === 'chunk' ? 1 : 0;
    return p.text === 'chunk' && chunks === 1;
  };
  c.show(view(2, 'a b~sync'), 'a', 'b');
  t.equal(c.node('b').state.incomplete, true);
  const session = c.node('b').state.nextSession;
  c.hold = () => false;
  c.held.splice(0);
  c.pass(timing.heartbeatMs);
  t.ok(c.node('b').state.nextSession > session - 1);
  t.equal(c.node('b').state.incomplete, false);
  t.equal(c.node('b').state.ledger.last.index, 8);
});

t.test('R17: what an ended link installed is not taken for this one’s', async (t) => {
  const c = shortened();
  c.start('b');
  c.hold = (p) => p.text === 'installed';
  c.show(view(2, 'a b~sync'), 'a', 'b');
  const { state } = c.node('b');
  const session = state.up?.session ?? 0;
  c.give('b', { type: 'UpLinkClosed', session, now: c.now });
  c.release();
  t.equal(state.incomplete, true);
  t.equal(state.ledger.last.index, 0);
  c.pass(timing.heartbeatMs);
  t.equal(state.incomplete, false, 'the next one is taken');
});

t.test('R17: who holds a part of a snapshot takes part in nothing', async (t) => {
  const part = (): PureCluster => {
    const c = shortened();
    c.start('b');
    c.hold = (p) => p.text === 'chunk';
    c.show(view(2, 'a b~sync'), 'a', 'b');
    return c;
  };
  await t.test('it starts over where it is to count', async (t) => {
    const c = part();
    c.hold = () => false;
    c.show(view(3, 'a b~join'), 'b');
    t.match(c.node('b').stopped, { wipe: true });
    t.equal(c.node('b').state.active?.epoch, 2);
  });
  await t.test('it starts over where the chain goes on from the log', async (t) => {
    const c = part();
    const { up, self } = c.node('b').state;
    c.hold = (p) => p.text === 'chunk' || p.text === 'hello';
    const header = {
      ...{ chainId: 1, lineage: 1, epoch: 2, seenEpoch: 2 },
      from: up?.to,
      to: self,
    };
    const message = {
      ...{ header, session: up?.session ?? 0, items: [], snapshot: undefined },
      ...{ common: { generation: 0, index: 0 }, syncedThrough: undefined, watermark: undefined },
    };
    c.give('b', { type: 'UpLinkClosed', session: up?.session ?? 0, now: c.now });
    c.pass(10);
    const session = c.node('b').state.up?.session ?? 0;
    const said = { ...message, session };
    c.give('b', { type: 'PredecessorSaid', message: said, blocks: [], chunks: [], now: c.now });
    t.match(c.node('b').stopped, { wipe: true });
  });
});

t.test('R17: a member that counts for commits is given no snapshot', async (t) => {
  const c = shortened();
  c.start('b');
  c.show(view(2, 'a b~join'), 'a', 'b');
  c.pass(timing.heartbeatMs);
  t.match(c.node('b').stopped, { wipe: true }, 'its store starts from nothing');
  t.equal(c.node('b').state.incomplete, false);
});

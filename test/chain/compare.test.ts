import t from 'tap';
import { comparePaceDefault } from '../../src/chain/comparison.js';
import { heartbeatOf } from '../../src/chain/report.js';
import type { NodeHeartbeat } from '../../src/gen/keychaindb/v1/coordinator.js';
import { PureCluster, timing, view } from './pure-cluster.js';

/* R18: neighbours compare their states; who is the odd one, or can't read its store, is synced anew. */

const intervalMs = 200;

function cluster(): PureCluster {
  const c = new PureCluster();
  c.pace = { ...comparePaceDefault, intervalMs };
  return c;
}

const beatOf = (c: PureCluster, id: string): NodeHeartbeat =>
  heartbeatOf(c.node(id).state, false, new Uint8Array(16), c.now, 0);

t.test('equal states: each says through which revision it was compared', async (t) => {
  const c = cluster();
  c.serve(view(1, 'a b c'));
  for (let i = 0; i < 5; i += 1) c.put('a', `k${i}`, 'v');
  c.pass(2 * intervalMs);
  t.match(beatOf(c, 'b'), { comparedRevision: 5, damage: '', outlier: '' });
  t.match(beatOf(c, 'c'), { comparedRevision: 5, damage: '', outlier: '' });
  t.equal(beatOf(c, 'a').comparedRevision, 0, 'the head has nobody before it');
});

t.test(
  'of two the later one is the outlier, and is emptied when it is out, not before',
  async (t) => {
    const c = cluster();
    c.serve(view(1, 'a b'));
    c.put('a', 'k', 'v');
    c.altered.set('b', 'another');
    c.pass(2 * intervalMs);
    const { damage, outlier } = beatOf(c, 'b');
    t.equal(outlier, 'b');
    t.match(damage, /its state at revision 1 differs from that of a/);
    t.equal(c.node('b').stopped, undefined);
    t.equal(c.writeOf(c.put('a', 'k', 'w')), 'committed 2', 'it serves on until it is out');
    c.show(view(2, 'a', 'b'), 'b', 'a');
    t.match(c.node('b').stopped, { wipe: true });
  },
);

for (const [odd, finder] of [
  ['a', 'b'],
  ['b', 'b'],
  ['c', 'c'],
] as const) {
  t.test(
    `of {a b c} with another state at ${odd}, ${finder} finds that it is ${odd}`,
    async (t) => {
      const c = cluster();
      c.serve(view(1, 'a b c'));
      c.put('a', 'k', 'v');
      // The other one that would find it is slower.
      const other = finder === 'b' ? 'c' : 'b';
      c.hold = (p) => p.from === other && p.text === 'stateQuery';
      c.altered.set(odd, 'another');
      c.pass(2 * intervalMs);
      t.equal(beatOf(c, finder).outlier, odd);
      c.show(view(2, 'a b c'.replace(finder, '').trim(), finder), finder);
      t.match(c.node(finder).stopped, { wipe: odd === finder }, 'only the odd one is emptied');
    },
  );
}

t.test('a view change in the middle of a round ends it without a verdict', async (t) => {
  const c = cluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v');
  c.altered.set('b', 'another');
  c.hold = (p) => p.text === 'stateAnswer';
  c.pass(2 * intervalMs);
  t.ok(c.node('b').state.comparison.round !== undefined);
  c.altered.clear();
  c.start('c');
  c.show(view(2, 'a b c~sync'), 'a', 'b', 'c');
  t.equal(c.node('b').state.comparison.round, undefined);
  c.release();
  t.match(beatOf(c, 'b'), { damage: '', comparedRevision: 0 });
  c.pass(2 * intervalMs);
  t.equal(beatOf(c, 'b').comparedRevision, 1, 'the next one is of the new epoch');
});

t.test('a verdict is of one epoch: a reorder takes it back, a damaged record stays', async (t) => {
  const c = cluster();
  c.serve(view(1, 'a b'));
  c.altered.set('b', 'another');
  c.put('a', 'k', 'v');
  c.pass(2 * intervalMs);
  t.equal(beatOf(c, 'b').outlier, 'b');
  c.altered.clear();
  c.give('a', { type: 'DamageFound', what: 'record o/k', now: c.now });
  c.show(view(2, 'b a'), 'a', 'b');
  c.pass(timing.heartbeatMs * 2);
  t.match(beatOf(c, 'b'), { damage: '', outlier: '' });
  t.match(beatOf(c, 'a'), { damage: 'record o/k', outlier: '' });
});

t.test('an answer that is lost gives no verdict, and the part comes again', async (t) => {
  const c = cluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v');
  c.hold = (p) => p.text === 'stateAnswer';
  c.pass(2 * intervalMs);
  c.held.splice(0);
  c.hold = () => false;
  c.pass(9_000);
  t.equal(beatOf(c, 'b').comparedRevision, 0);
  c.pass(2_000);
  t.match(beatOf(c, 'b'), { comparedRevision: 1, damage: '' });
});

t.test('both are taken at one entry, though writes go on between them', async (t) => {
  const c = cluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1');
  c.hold = (p) => p.text === 'stateQuery' && p.from === 'b';
  c.pass(2 * intervalMs);
  for (let i = 0; i < 3; i += 1) c.put('a', 'k', `v${i}`);
  c.release();
  t.match(beatOf(c, 'b'), { damage: '', comparedRevision: 4 });
});

t.test('a sole member with a damaged record stays, says so, and is never emptied', async (t) => {
  const c = cluster();
  c.serve(view(1, 'a'));
  c.put('a', 'k', 'v');
  c.give('a', { type: 'DamageFound', what: 'record o/k', now: c.now });
  c.pass(2_000);
  t.equal(c.node('a').stopped, undefined);
  t.match(beatOf(c, 'a'), { damage: 'record o/k', outlier: '' });
  t.equal(c.writeOf(c.put('a', 'other', 'v')), 'committed 2');
});

t.test('with a share of 0 nothing is compared', async (t) => {
  const c = cluster();
  c.pace = { ...c.pace, share: 0 };
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v');
  c.pass(4 * intervalMs);
  t.equal(beatOf(c, 'b').comparedRevision, 0);
});

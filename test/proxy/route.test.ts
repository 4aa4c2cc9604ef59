import t from 'tap';
import { headOf, readRun, routeNamed, routeRead } from '../../src/proxy/route.js';
import { viewOf } from './views.js';

const well = { connected: true, suspected: false, inFlight: 0 };

t.test('the head is the first serving member', async (t) => {
  t.equal(headOf(viewOf(1, ['a', 'b']))?.id, 'a');
  t.equal(headOf(viewOf(1, [], ['c'])), undefined);
});

t.test(
  'reads are spread over all serving nodes in turn, in runs that share a message',
  async (t) => {
    const nodes = ['a', 'b', 'c'].map((id) => ({ ...well, id }));
    const turns = [0, readRun - 1, readRun, 2 * readRun, 3 * readRun];
    t.same(
      turns.map((turn) => routeRead(nodes, turn, undefined)?.id),
      ['a', 'a', 'b', 'c', 'a'],
    );
  },
);

t.test('the node with the fewest attempts in flight is asked', async (t) => {
  const nodes = [
    { ...well, id: 'a', inFlight: 3 * readRun },
    { ...well, id: 'b', inFlight: readRun },
    { ...well, id: 'c', inFlight: 2 * readRun },
  ];
  for (const turn of [0, readRun, 2 * readRun]) t.equal(routeRead(nodes, turn, undefined)?.id, 'b');
});

t.test('a suspected node, and the one to avoid, are asked only where no other is', async (t) => {
  const a = { ...well, id: 'a', suspected: true };
  const b = { ...well, id: 'b' };
  t.equal(routeRead([a, b], 0, undefined)?.id, 'b');
  t.equal(routeRead([a, b], 0, 'b')?.id, 'b');
  t.equal(routeRead([a], 0, undefined)?.id, 'a');
  t.equal(routeRead([b], 0, 'b')?.id, 'b');
});

t.test('a node without a link is never asked', async (t) => {
  t.equal(routeRead([{ ...well, id: 'a', connected: false }], 0, undefined), undefined);
  t.equal(routeRead([], 5, undefined), undefined);
});

t.test('a named node is asked where it serves, and refused by name where not', async (t) => {
  const view = viewOf(1, ['a', 'b'], ['c']);
  t.same(routeNamed(view, 'b'), { type: 'node', id: 'b' });
  t.same(routeNamed(view, 'c'), { type: 'refused', reason: 'NOT_SERVING' });
  t.same(routeNamed(view, 'z'), { type: 'refused', reason: 'MEMBER_NOT_FOUND' });
});

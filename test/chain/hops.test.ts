import t from 'tap';
import { Hops, type Passage, type Place } from '../../src/chain/hops.js';
import type { LogBlock } from '../../src/log/event-log.js';

const head: Place = { epoch: 3, position: 1, role: 'head', predecessor: '' };
const middle: Place = { epoch: 3, position: 2, role: 'middle', predecessor: 'node-1' };
const tail: Place = { epoch: 3, position: 3, role: 'tail', predecessor: 'node-2' };

/** A block of entries `first` to `last`. */
function block(first: number, last: number, generation = 3): LogBlock {
  return {
    bytes: new Uint8Array(0),
    chainId: 1,
    previous: { generation, index: first - 1 },
    end: { generation, index: last },
    entries: [],
  };
}

function start(capacity = 8) {
  const passed: Passage[] = [];
  const hops = new Hops((passage) => passed.push(passage), capacity);
  const add = (first: number, last: number, place: Place, now: number, kept = true): void =>
    hops.append(block(first, last), place, { arrived: now - 1, now }, kept, kept);
  return { hops, passed, add };
}

t.test(
  'a block passes a middle node: received, synced, forwarded, acknowledged, told',
  async (t) => {
    const { hops, passed, add } = start();
    add(1, 4, middle, 10);
    hops.sync(4, 12);
    hops.forward(4, 13);
    hops.ack(4, 17);
    hops.commit(4, 18);
    t.equal(passed.length, 0, 'it is over when the predecessor has been told');
    hops.acknowledge(4, 19);
    t.equal(passed.length, 1);
    t.match(hops.record(0, 'node-2', 1_000), {
      end: { generation: 3, index: 4 },
      first: 1,
      node: 'node-2',
      epoch: 3,
      position: 2,
      role: 'middle',
      predecessor: 'node-1',
      arrived: 1_009_000,
      appended: 1_010_000,
      writing: 1_010_000,
      synced: 1_012_000,
      forwarded: 1_013_000,
      acked: 1_017_000,
      committed: 1_018_000,
      acknowledged: 1_019_000,
      cut: false,
    });
    t.strictSame(hops.durations(0), { sync: 2, forward: 4, commit: 9, entries: 4 });
  },
);

t.test('at the head a block is over with its commit', async (t) => {
  const { hops, passed, add } = start();
  hops.stand(true);
  add(1, 1, head, 10);
  hops.commit(1, 20);
  t.equal(passed.length, 1);
  t.equal(passed[0]?.block?.end.index, 1);
  t.equal(hops.record(0, 'node-1', 0).synced, 0, 'what did not happen is 0');
});

t.test(
  'blocks of one batch begin to be written with its first, and not before the batch before',
  async (t) => {
    const { hops, add } = start();
    add(1, 1, middle, 10);
    hops.sync(1, 30);
    add(2, 2, middle, 15);
    add(3, 3, middle, 40);
    hops.sync(3, 50);
    t.equal(hops.record(1, 'n', 0).writing, 30_000);
    t.equal(hops.record(2, 'n', 0).writing, 40_000);
  },
);

t.test('acknowledgments are cumulative: one of them ends several blocks', async (t) => {
  const { hops, passed, add } = start();
  for (const n of [1, 2, 3]) add(n, n, middle, n);
  hops.commit(3, 9);
  hops.acknowledge(2, 10);
  t.equal(passed.length, 2);
  hops.acknowledge(3, 11);
  t.equal(passed.length, 3);
});

t.test('what is cut is told as cut, and its numbers are free for what follows', async (t) => {
  const { hops, passed, add } = start();
  add(1, 2, middle, 1);
  add(3, 4, middle, 2);
  hops.sync(4, 3);
  hops.forward(4, 3);
  hops.cut(2);
  t.match(passed, [{ cut: true, block: { end: { index: 4 } } }]);
  t.equal(hops.length, 1);
  hops.append(block(3, 3, 4), middle, { arrived: 5, now: 6 }, true, true);
  hops.sync(3, 8);
  t.equal(hops.record(1, 'n', 0).synced, 8_000);
  t.equal(hops.find({ generation: 3, index: 4 }), undefined);
  t.equal(hops.find({ generation: 4, index: 3 }), 1);
});

t.test('an entry is found in its block, of any generation where none is named', async (t) => {
  const { hops, add } = start();
  add(1, 5, middle, 1);
  add(6, 6, middle, 2);
  t.equal(hops.find({ generation: 3, index: 3 }), 0);
  t.equal(hops.find({ generation: 0, index: 6 }), 1);
  t.equal(hops.find({ generation: 2, index: 3 }), undefined);
  t.equal(hops.find({ generation: 3, index: 7 }), undefined);
});

t.test('the ring forgets the oldest, and tells what it forgets', async (t) => {
  const { hops, passed, add } = start(4);
  for (let n = 1; n <= 6; n += 1) add(n, n, middle, n);
  t.equal(passed.length, 2, 'the first two were not over');
  t.equal(hops.find({ generation: 3, index: 2 }), undefined);
  t.ok(hops.find({ generation: 3, index: 3 }) !== undefined);
  hops.sync(6, 10);
  hops.commit(6, 11);
  hops.acknowledge(6, 12);
  t.equal(passed.length, 6);
});

t.test('a tail that gets a successor did not forward what came before', async (t) => {
  const { hops, add } = start();
  add(1, 1, tail, 1);
  hops.sync(1, 2);
  hops.commit(1, 3);
  hops.acknowledge(1, 4);
  add(2, 2, middle, 5);
  hops.forward(2, 6);
  t.equal(hops.record(0, 'n', 0).forwarded, 0);
  t.equal(hops.record(1, 'n', 0).forwarded, 6_000);
});

t.test(
  'what is told to nobody is over when the node becomes the head, or commits as one',
  async (t) => {
    const { hops, passed, add } = start();
    add(1, 1, middle, 1);
    add(2, 2, middle, 2);
    hops.commit(1, 3);
    hops.stand(true);
    t.equal(passed.length, 1);
    hops.commit(2, 4);
    t.equal(passed.length, 2);
  },
);

t.test('nothing is told before it is committed', async (t) => {
  const { hops, passed, add } = start();
  add(1, 1, middle, 1);
  hops.acknowledge(1, 2);
  t.equal(passed.length, 0);
  hops.commit(1, 3);
  hops.acknowledge(1, 4);
  t.match(hops.record(0, 'n', 0), { committed: 3_000, acknowledged: 4_000 });
});

t.test('what is not over when the incarnation ends is told as it stands', async (t) => {
  const { hops, passed, add } = start();
  add(1, 1, middle, 1);
  add(2, 2, middle, 2, false);
  hops.close();
  t.equal(passed.length, 2);
  t.strictSame(
    passed.map(({ cut, block: kept }) => [cut, kept === undefined]),
    [
      [false, false],
      [false, true],
    ],
  );
});

t.test('blocks with a trace are listed, newest first', async (t) => {
  const { hops, add } = start();
  add(1, 1, middle, 1);
  add(2, 2, middle, 2, false);
  add(3, 3, middle, 3);
  t.strictSame([...hops.tracedSlots()], [2, 0]);
});

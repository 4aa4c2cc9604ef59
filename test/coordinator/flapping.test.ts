import t from 'tap';
import { type Flaps, heldForMs, noteView } from '../../src/coordinator/flapping.js';
import { heldMsMax, servedMs } from '../../src/coordinator/limits.js';
import { type Member, MemberState, type View } from '../../src/gen/keychaindb/v1/coordinator.js';

const { SERVING, WAITING, OFFLINE } = MemberState;

const member = (id: string, incarnation: number, state: MemberState, drained = false): Member => ({
  ...{ id, incarnation, state, address: `${id}:1`, storeId: Buffer.alloc(16, id) },
  ...{ drained, spare: false, note: '', since: 0 },
});
const view = (members: readonly Member[], others: readonly Member[] = []): View => ({
  ...{ chainId: 1, epoch: 1, lineage: 1, clusterId: Buffer.alloc(16), length: 0 },
  members,
  others,
});
const a = member('a', 1, SERVING);
const both = (incarnation: number) => view([a, member('b', incarnation, SERVING)]);
const without = (incarnation: number, state: MemberState = WAITING) =>
  view([a], [member('b', incarnation, state)]);

/** Node b is a new process again and again: it serves for a while, then it waits. */
class Flapping {
  readonly flaps: Flaps = new Map();
  now = 0;
  #incarnation = 1;

  /** Loses its place after it served so long; how long it is held back then. */
  again(served = 10): number {
    this.now += served;
    const before = both(this.#incarnation);
    this.#incarnation += 1;
    this.note(before, without(this.#incarnation));
    const held = heldForMs(this.flaps, 'b', this.now);
    this.note(without(this.#incarnation), both(this.#incarnation));
    return held;
  }

  note(before: View, after: View, heard = this.#incarnation): void {
    noteView(this.flaps, before, after, () => heard, this.now);
  }
}

t.test('a node that loses its place again and again is held back, longer each time', async (t) => {
  const b = new Flapping();
  t.same([b.again(), b.again(), b.again(), b.again()], [0, 1_000, 2_000, 4_000]);
  for (let i = 0; i < 30; i += 1) b.again();
  t.equal(b.again(), heldMsMax);
  t.equal(heldForMs(b.flaps, 'b', b.now + heldMsMax), 0, 'it has an end');
  t.equal(heldForMs(b.flaps, 'a', b.now), 0, 'nobody else is');
});

t.test('it is forgotten after it has served for long', async (t) => {
  const b = new Flapping();
  b.again();
  t.equal(b.again(servedMs - 1), 1_000);
  t.equal(b.again(servedMs), 0);
  t.equal(b.again(), 1_000);
});

t.test('a process that is replaced while it waits counts', async (t) => {
  const b = new Flapping();
  b.note(without(1), without(2), 2);
  b.note(without(2), without(3), 3);
  t.equal(heldForMs(b.flaps, 'b', b.now), 1_000);
});

t.test('to be taken out, and to return then, is one loss', async (t) => {
  const b = new Flapping();
  b.note(both(1), without(1, OFFLINE), 1);
  b.note(without(1, OFFLINE), without(2), 2);
  t.equal(b.flaps.get('b')?.times, 1);
});

t.test('what an operator does is no loss', async (t) => {
  const b = new Flapping();
  const drained = (incarnation: number) => view([a], [member('b', incarnation, WAITING, true)]);
  b.note(both(1), drained(1), 1);
  b.note(drained(1), drained(2), 2);
  t.equal(b.flaps.has('b'), false);
  b.again();
  b.note(both(2), view([a]), 2);
  t.equal(b.flaps.has('b'), false, 'who is removed is forgotten');
});

t.test('one that goes on alone under its next incarnation has lost nothing', async (t) => {
  const b = new Flapping();
  b.note(view([member('b', 1, SERVING)]), view([member('b', 2, SERVING)]), 2);
  t.equal(b.flaps.has('b'), false);
});

t.test('views of long ago, that a coordinator reads when it starts, are no losses', async (t) => {
  const b = new Flapping();
  for (let i = 1; i < 9; i += 1) {
    b.note(both(i), without(i + 1), 20);
    b.note(without(i + 1), both(i + 1), 20);
  }
  t.equal(b.flaps.has('b'), false);
});

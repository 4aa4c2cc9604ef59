import fc from 'fast-check';
import t from 'tap';
import {
  clientIdOf,
  confirm,
  isFull,
  nextId,
  requestIds,
  take,
} from '../../src/retry/request-ids.js';

const clientId = new Uint8Array(16).fill(7);

t.test('ids count from one and name the lowest without an answer', async (t) => {
  const ids = requestIds(clientId, 4);
  t.same(nextId(ids), { clientId, seq: 1, answeredBelow: 1 });
  take(ids);
  take(ids);
  take(ids);
  confirm(ids, 2);
  t.same(nextId(ids), { clientId, seq: 4, answeredBelow: 1 });
  confirm(ids, 1);
  t.same(nextId(ids), { clientId, seq: 4, answeredBelow: 3 });
});

t.test('one request without an answer holds up ids beyond the span', async (t) => {
  const ids = requestIds(clientId, 2);
  take(ids);
  take(ids);
  confirm(ids, 2);
  t.equal(isFull(ids), true);
  t.throws(() => take(ids));
  confirm(ids, 1);
  t.equal(isFull(ids), false);
});

t.test(
  'answered_below is the lowest seq without an answer, whatever the order of answers',
  async () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 99 }), { maxLength: 300 }), (choices) => {
        const ids = requestIds(clientId, 8);
        const open: number[] = [];
        for (const choice of choices) {
          if (choice % 2 === 0 && !isFull(ids)) {
            open.push(nextId(ids).seq);
            take(ids);
          } else if (open.length > 0) {
            const [seq] = open.splice(choice % open.length, 1);
            if (seq !== undefined) confirm(ids, seq);
          }
          const lowest = open.length === 0 ? ids.next : Math.min(...open);
          if (nextId(ids).answeredBelow !== lowest) return false;
        }
        return true;
      }),
    );
  },
);

t.test('client ids of one seed differ and have 16 bytes', async (t) => {
  const seed = new Uint8Array(16).fill(255);
  const ids = [0, 1, 2].map((n) => Buffer.from(clientIdOf(seed, n)).toString('hex'));
  t.equal(new Set(ids).size, 3);
  t.same(clientIdOf(seed, 0), seed);
});

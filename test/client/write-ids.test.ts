import t from 'tap';
import { laneSpanMax, lanesMax, renewalsMax, writesMax } from '../../src/client/limits.js';
import { WriteIds } from '../../src/client/write-ids.js';
import { refusal } from '../refusal.js';

t.test('more writes than the limit are refused, and taken again when one is done', async (t) => {
  const ids = new WriteIds(new Uint8Array(16));
  const first = ids.take();
  for (let i = 1; i < writesMax; i += 1) ids.take();
  t.throws(() => ids.take(), refusal('OVERLOADED'));
  ids.done(first);
  t.equal(ids.take().request.seq > 0, true);
});

t.test('one write that waits holds up its own lane alone', async (t) => {
  const ids = new WriteIds(new Uint8Array(16));
  const waits = Array.from({ length: lanesMax - 1 }, () => {
    const oldest = ids.take();
    for (let i = 1; i < laneSpanMax; i += 1) ids.done(ids.take());
    return oldest;
  });
  t.equal(new Set(waits.map(({ lane }) => lane)).size, lanesMax - 1);
  for (let i = 0; i < 2 * laneSpanMax; i += 1) ids.done(ids.take());
});

t.test('a write gets another client id a few times only', async (t) => {
  const ids = new WriteIds(new Uint8Array(16));
  let id = ids.take();
  const clients = new Set([id.request.clientId]);
  for (let i = 0; i < renewalsMax; i += 1) {
    id = ids.renew(id) ?? id;
    clients.add(id.request.clientId);
  }
  t.equal(clients.size, renewalsMax + 1);
  t.equal(ids.renew(id), undefined);
  ids.done(id);
});

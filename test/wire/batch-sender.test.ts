import t from 'tap';
import { BatchSender, type Pace } from '../../src/wire/batch-sender.js';
import type { Channel } from '../../src/wire/channel.js';
import { ManualClock, settled } from '../proxy/manual-clock.js';

function sending(pace?: Pace) {
  const sent: (readonly number[])[] = [];
  const channel: Channel<readonly number[]> = {
    queued: 0,
    isClosed: false,
    send: (message) => {
      sent.push(message);
      return true;
    },
    drained: () => Promise.resolve(),
    close: () => undefined,
  };
  const clock = new ManualClock();
  const limits = { itemsMax: 4, bytesMax: 1_000 };
  const sender = new BatchSender<number, readonly number[]>(
    channel,
    limits,
    (items) => items,
    clock,
    pace,
  );
  return { sent, sender, clock };
}

t.test('what is added together travels together, in messages within their bounds', async (t) => {
  const { sent, sender } = sending();
  for (let item = 1; item <= 6; item += 1) sender.add(item, 10);
  sender.add(7, 995);
  await settled();
  t.same(sent, [[1, 2, 3, 4], [5, 6], [7]]);
  t.equal(sender.waitingBytes, 0);
});

t.test('with a pace an item that is alone leaves at once', async (t) => {
  const { sent, sender, clock } = sending({ itemsMin: 3, holdMs: 1 });
  sender.add(1, 10);
  await settled();
  t.same(sent, [[1]]);
  sender.answered();
  sender.add(2, 10);
  await settled();
  t.same(sent, [[1], [2]], 'the one before was answered');
  t.equal(clock.timers, 0, 'no timer was needed');
});

t.test('with a pace few items wait for the answer to the message before', async (t) => {
  const { sent, sender } = sending({ itemsMin: 3, holdMs: 1 });
  sender.add(1, 10);
  await settled();
  sender.add(2, 10);
  await settled();
  sender.add(3, 10);
  await settled();
  t.same(sent, [[1]]);
  t.same(sender.waiting, [2, 3]);
  sender.answered();
  await settled();
  t.same(sent, [[1], [2, 3]]);
});

t.test('with a pace enough items wait for nothing', async (t) => {
  const { sent, sender } = sending({ itemsMin: 3, holdMs: 1 });
  sender.add(1, 10);
  await settled();
  for (const item of [2, 3, 4]) {
    sender.add(item, 10);
    await settled();
  }
  t.same(sent, [[1], [2, 3, 4]]);
});

t.test('with a pace nothing waits longer than its time, where no answer comes', async (t) => {
  const { sent, sender, clock } = sending({ itemsMin: 3, holdMs: 1 });
  sender.add(1, 10);
  await settled();
  sender.add(2, 10);
  await settled();
  t.same(sent, [[1]]);
  await clock.pass(1);
  t.same(sent, [[1], [2]]);
  t.equal(clock.timers, 0);
});

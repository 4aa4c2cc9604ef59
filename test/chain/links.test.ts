import t from 'tap';
import { Hops } from '../../src/chain/hops.js';
import { acknowledgeDelayMs } from '../../src/chain/limits.js';
import { Links } from '../../src/chain/links.js';
import type { FollowDown, FollowUp } from '../../src/gen/keychaindb/v1/chain.js';
import type { EventLog } from '../../src/log/event-log.js';
import { FakeDialer } from '../proxy/fake-channel.js';
import { ManualClock } from '../proxy/manual-clock.js';
import { PureCluster, view } from './pure-cluster.js';

const hello: FollowUp = { header: undefined, session: 0, message: undefined };

/** The links of a middle node that has dialed its predecessor. */
function linked() {
  const cluster = new PureCluster();
  cluster.serve(view(1, 'a b c'));
  const { state } = cluster.node('b');
  const session = state.up?.session ?? 0;
  const dialer = new FakeDialer<FollowUp, FollowDown>();
  const clock = new ManualClock();
  const links = new Links(
    ...([
      state,
      {} as EventLog,
      dialer,
      clock,
      () => undefined,
      new Hops(() => undefined),
      1,
    ] as const),
  );
  links.perform({ type: 'dialPredecessor', address: 'a', session, hello });
  const channel = dialer.to('a');
  channel.sent.length = 0;
  const acknowledge = (isAwaited: boolean): void =>
    links.perform({ type: 'acknowledge', session, isAwaited });
  return { state, channel, clock, acknowledge };
}

t.test('what no commit waits for is acknowledged with what is awaited, once', async (t) => {
  const { channel, clock, acknowledge } = linked();
  acknowledge(false);
  t.equal(channel.sent.length, 0);
  acknowledge(true);
  t.equal(channel.sent.length, 1);
  await clock.pass(acknowledgeDelayMs);
  t.equal(channel.sent.length, 1);
});

t.test('what no commit waits for is acknowledged alone where nothing else goes up', async (t) => {
  const { channel, clock, acknowledge } = linked();
  acknowledge(false);
  await clock.pass(acknowledgeDelayMs - 1);
  t.equal(channel.sent.length, 0);
  await clock.pass(1);
  t.equal(channel.sent.length, 1);
});

t.test('while one acknowledgment is on its way what changes goes with the next one', async (t) => {
  const { channel, clock, acknowledge } = linked();
  channel.isSlow = true;
  acknowledge(true);
  acknowledge(true);
  acknowledge(false);
  t.equal(channel.sent.length, 1);
  channel.take();
  await Promise.resolve();
  t.equal(channel.sent.length, 2);
  channel.take();
  await clock.pass(acknowledgeDelayMs);
  t.equal(channel.sent.length, 2);
});

t.test(
  'what changed while one was on its way is not forgotten, though no commit waits',
  async (t) => {
    const { channel, clock, acknowledge } = linked();
    channel.isSlow = true;
    acknowledge(true);
    acknowledge(false);
    await clock.pass(acknowledgeDelayMs);
    t.equal(channel.sent.length, 1);
    channel.take();
    await Promise.resolve();
    t.equal(channel.sent.length, 2);
  },
);

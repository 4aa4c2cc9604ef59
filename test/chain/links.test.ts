import t from 'tap';
import { Hops } from '../../src/chain/hops.js';
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
  const links = new Links(
    ...([state, {} as EventLog, dialer, new ManualClock()] as const),
    ...([() => undefined, new Hops(() => undefined), 1] as const),
  );
  const dial = () => {
    links.perform({ type: 'dialPredecessor', address: 'a', session, hello });
    const channel = dialer.to('a');
    channel.sent.length = 0;
    return channel;
  };
  const acknowledge = (): void => links.perform({ type: 'acknowledge', session });
  const write = (): void => void cluster.put('a', 'k', 'v');
  return { dial, acknowledge, write };
}

t.test('a step that syncs and commits is acknowledged once', async (t) => {
  const { dial, acknowledge, write } = linked();
  const channel = dial();
  write();
  acknowledge();
  acknowledge();
  await Promise.resolve();
  t.equal(channel.sent.length, 1);
  write();
  acknowledge();
  t.equal(channel.sent.length, 2);
});

t.test('while one acknowledgment is on its way what changes goes with the next one', async (t) => {
  const { dial, acknowledge, write } = linked();
  const channel = dial();
  channel.isSlow = true;
  acknowledge();
  write();
  acknowledge();
  write();
  acknowledge();
  t.equal(channel.sent.length, 1);
  channel.take();
  await Promise.resolve();
  t.equal(channel.sent.length, 2);
});

t.test('a new link is told what the one before was told already', async (t) => {
  const { dial, acknowledge } = linked();
  dial();
  acknowledge();
  const next = dial();
  acknowledge();
  t.equal(next.sent.length, 1);
});

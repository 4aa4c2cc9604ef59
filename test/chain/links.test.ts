import t from 'tap';
import { KeychainError } from '../../src/base/errors.js';
import { FeedFaults } from '../../src/chain/feed-faults.js';
import { Hops } from '../../src/chain/hops.js';
import type { ChainInput } from '../../src/chain/inputs.js';
import { Links } from '../../src/chain/links.js';
import { stuckMsMax } from '../../src/coordinator/limits.js';
import type { FollowDown, FollowUp } from '../../src/gen/keychaindb/v1/chain.js';
import { BlocksDropped, type EventLog, origin } from '../../src/log/event-log.js';
import { readError } from '../../src/log/rocks-status.js';
import { FakeChannel, FakeDialer } from '../proxy/fake-channel.js';
import { ManualClock } from '../proxy/manual-clock.js';
import { PureCluster, view } from './pure-cluster.js';

const emptyDown: FollowDown = {
  ...{ header: undefined, session: 0, common: undefined, syncedThrough: undefined },
  ...{ watermark: undefined, items: [], snapshot: undefined },
};
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
    ...([() => undefined, new Hops(() => undefined), { catchUpShare: 1 }] as const),
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

/** A node whose follower needs what reading its log throws: what its core hears, and what people do. */
function feeder(error: Error, members = 'a b') {
  const cluster = new PureCluster();
  cluster.serve(view(1, members));
  const given: ChainInput['type'][] = [];
  const notices: string[] = [];
  const log = {
    // biome-ignore lint/correctness/useYield: it fails before it has anything.
    async *follow() {
      throw error;
    },
  } as unknown as EventLog;
  const clock = new ManualClock();
  const links = new Links(
    ...([cluster.node('a').state, log, new FakeDialer(), clock] as const),
    ...([({ type }: ChainInput) => void given.push(type), new Hops(() => undefined)] as const),
    { catchUpShare: 1, notice: (text) => void notices.push(text) },
  );
  const handler = { message: () => undefined, closed: () => undefined };
  let link = 0;
  const feed = async (): Promise<void> => {
    links.accept(new FakeChannel<FollowDown, FollowUp>('b', handler));
    link += 1;
    const first = { ...emptyDown, session: link };
    links.perform({ type: 'feed', link, session: link, common: origin, first });
    await clock.pass(0);
  };
  return { links, clock, given, notices, feed };
}

async function fedFrom(error: Error): Promise<readonly ChainInput['type'][]> {
  const { given, feed } = feeder(error);
  await feed();
  return given;
}

t.test(
  'a block that can not be read when a follower needs it is damage of this store',
  async (t) => {
    const damaged = await fedFrom(new KeychainError('CORRUPT', 'block 7 is damaged'));
    t.same(damaged, ['DownLinkClosed', 'DamageFound']);
  },
);

t.test(
  'a block that can not be read for want of a file handle is none, and the chain stands still behind it',
  async (t) => {
    const text = 'IO error: While open a file: /d/1.sst: Too many open files';
    const { links, clock, given, notices, feed } = feeder(readError(new Error(text)));
    t.equal(links.faultMs(clock.monotonic()), 0);
    for (let tries = 1; tries <= 60; tries += 1) {
      await feed();
      t.equal(given.length, tries - 1, 'it asks again after a moment');
      await clock.pass(200);
    }
    t.strictSame([...new Set(given)], ['DownLinkClosed']);
    t.ok(links.faultMs(clock.monotonic()) >= stuckMsMax, 'as with a disk that hangs, it goes');
    t.match(notices, [/^a follower can't be fed: .*Too many open files/]);
    await clock.pass(5_000);
    t.equal(links.faultMs(clock.monotonic()), 0, 'nobody asks in vain any more');
  },
);

t.test('nobody goes for a member that is synced and can not be fed', async (t) => {
  const failed = readError(new Error('IO error: While open a file: /d/1.sst: Too many open files'));
  const { links, clock, notices, feed } = feeder(failed, 'a b~sync');
  for (let tries = 1; tries <= 60; tries += 1) {
    await feed();
    await clock.pass(200);
    t.equal(links.faultMs(clock.monotonic()), 0);
  }
  t.equal(notices.length, 1);
});

t.test('a fault that each time passes does not add up', async (t) => {
  const faults = new FeedFaults();
  faults.failed(1_000);
  faults.failed(2_000);
  t.equal(faults.lastedMs(2_500), 1_000);
  faults.over();
  faults.failed(3_000);
  t.equal(faults.lastedMs(3_500), 0);
});

t.test(
  'a follower that needs what was dropped meanwhile asks again, and nothing is damaged',
  async (t) => {
    t.same(await fedFrom(new BlocksDropped(origin, { generation: 1, index: 9 })), [
      'DownLinkClosed',
    ]);
  },
);

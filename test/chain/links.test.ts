import t from 'tap';
import { KeychainError } from '../../src/base/errors.js';
import { Hops } from '../../src/chain/hops.js';
import type { ChainInput } from '../../src/chain/inputs.js';
import { Links } from '../../src/chain/links.js';
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

/** What the core of a node hears when a follower needs what reading its log throws. */
async function fedFrom(error: Error): Promise<readonly ChainInput['type'][]> {
  const cluster = new PureCluster();
  cluster.serve(view(1, 'a b'));
  const given: ChainInput[] = [];
  const log = {
    // biome-ignore lint/correctness/useYield: it fails before it has anything.
    async *follow() {
      throw error;
    },
  } as unknown as EventLog;
  const links = new Links(
    ...([cluster.node('a').state, log, new FakeDialer(), new ManualClock()] as const),
    ...([(input: ChainInput) => void given.push(input), new Hops(() => undefined), 1] as const),
  );
  const handler = { message: () => undefined, closed: () => undefined };
  links.accept(new FakeChannel<FollowDown, FollowUp>('b', handler));
  const first = { ...emptyDown, session: 1 };
  links.perform({ type: 'feed', link: 1, session: 1, common: origin, first });
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
  return given.map(({ type }) => type);
}

t.test(
  'a block that can not be read when a follower needs it is damage of this store',
  async (t) => {
    const damaged = await fedFrom(new KeychainError('CORRUPT', 'block 7 is damaged'));
    t.same(damaged, ['DownLinkClosed', 'DamageFound']);
  },
);

t.test('a block that can not be read for want of a file handle is none', async (t) => {
  const error = readError(new Error('IO error: While open a file: /d/1.sst: Too many open files'));
  t.same(await fedFrom(error), ['DownLinkClosed']);
});

t.test(
  'a follower that needs what was dropped meanwhile asks again, and nothing is damaged',
  async (t) => {
    t.same(await fedFrom(new BlocksDropped(origin, { generation: 1, index: 9 })), [
      'DownLinkClosed',
    ]);
  },
);

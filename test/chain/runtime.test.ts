import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import { startNode } from '../../src/chain/runtime.js';
import type { FollowDown, FollowUp, PeerMessage } from '../../src/gen/keychaindb/v1/chain.js';
import type { CoordinatorPush, NodeHeartbeat } from '../../src/gen/keychaindb/v1/coordinator.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { FakeChannel, FakeDialer } from '../proxy/fake-channel.js';
import { ManualClock, settled } from '../proxy/manual-clock.js';
import { timing, view } from './pure-cluster.js';

/** Node b of {a b}, on a disk that writes when the test says so. */
async function startB() {
  const engine = new MemoryEngine();
  let disk: Promise<void> = Promise.resolve();
  let free = (): void => undefined;
  const write = engine.write.bind(engine);
  engine.write = async (ops, options) => {
    await disk;
    await write(ops, options);
  };
  const fatal = (error: unknown): void => void t.fail(String(error));
  const { log } = await openLog({ engine, fatal });
  const clock = new ManualClock();
  const peers = new FakeDialer<PeerMessage, PeerMessage>();
  const node = await startNode({
    identity: { id: 'b', incarnation: 1, storeId: Buffer.from('store-b'), address: 'b' },
    chainId: 1,
    clock,
    random: systemRandom,
    timing: { ...timing, electionMs: 300 },
    log,
    join: false,
    peers,
    links: new FakeDialer<FollowUp, FollowDown>(),
    coordinators: { addresses: [], dialer: new FakeDialer<NodeHeartbeat, CoordinatorPush>() },
    limits: { keyBytesMax: 16, valueBytesMax: 64 },
    fatal,
  });
  const from = new FakeChannel<PeerMessage, PeerMessage>('a', {
    message: () => undefined,
    closed: () => undefined,
  });
  const { message: say } = node.acceptPeer(from);
  return {
    node,
    say,
    /** The nonces of the promises that it has given. */
    grants: () =>
      peers.channels
        .flatMap(({ sent }) => sent)
        .flatMap(({ message }) => (message?.$case === 'promiseGrant' ? [message.value.nonce] : [])),
    hang: () => {
      disk = new Promise((resolve) => {
        free = resolve;
      });
    },
    free: () => free(),
  };
}

const shown = view(1, 'a b');

function ask(nonce: number, leaseMs: number): PeerMessage {
  const [a, b] = shown.members;
  return {
    header: {
      chainId: 1,
      lineage: 1,
      epoch: 1,
      from: a && { id: a.id, incarnation: a.incarnation },
      to: b && { id: b.id, incarnation: b.incarnation },
    },
    message: { $case: 'promiseRequest', value: { leaseMs, nonce } },
  } as PeerMessage;
}

t.test('R5: no promise leaves before the lease that it is for is on the disk', async (t) => {
  const { node, say, grants, hang, free } = await startB();
  say({ header: undefined, message: { $case: 'view', value: shown } });
  for (let turn = 0; turn < 5; turn += 1) await settled();
  hang();
  say(ask(1, 2_000));
  say(ask(2, 2_000));
  for (let turn = 0; turn < 5; turn += 1) await settled();
  t.same(grants(), [], 'nor the second one, whose lease the first has raised');
  free();
  for (let turn = 0; turn < 5; turn += 1) await settled();
  t.same(grants(), [1, 2], 'in the order in which they were asked for');
  await node.close();
});

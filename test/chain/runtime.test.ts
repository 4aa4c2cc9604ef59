import t from 'tap';
import { systemRandom } from '../../src/base/random.js';
import { NodeMeter } from '../../src/chain/meter.js';
import { startNode } from '../../src/chain/runtime.js';
import type { FollowDown, FollowUp, PeerMessage } from '../../src/gen/keychaindb/v1/chain.js';
import type { CoordinatorPush, NodeHeartbeat } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { Operation } from '../../src/gen/keychaindb/v1/kv.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { FakeChannel, FakeDialer } from '../proxy/fake-channel.js';
import { ManualClock, settled } from '../proxy/manual-clock.js';
import { promise, timing, view } from './pure-cluster.js';

/** A clock whose machine can be suspended, and be slow. */
class MovingClock extends ManualClock {
  awayMs = 0;
  lateMs = 0;

  override monotonic(): number {
    return super.monotonic() + this.lateMs;
  }

  override wall(): number {
    return super.wall() + this.lateMs + this.awayMs;
  }
}

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
  const clock = new MovingClock();
  const meter = new NodeMeter();
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
    telemetry: { meter },
    fatal,
  });
  const from = new FakeChannel<PeerMessage, PeerMessage>('a', {
    message: () => undefined,
    closed: () => undefined,
  });
  const { message: say } = node.acceptPeer(from);
  let granted = 0;
  return {
    node,
    clock,
    meter,
    say,
    /** Node a promises whatever it was asked for and hasn't answered yet. */
    grant: () => {
      const asked = peers.channels
        .flatMap(({ sent }) => sent)
        .flatMap(({ message }) =>
          message?.$case === 'promiseRequest' ? [message.value.nonce] : [],
        );
      for (const nonce of asked.slice(granted)) {
        say({ header: headerOf(), message: { $case: 'promiseGrant', value: { nonce } } });
      }
      granted = asked.length;
    },
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

const shown = view(1, 'b a');

/** From a to b. */
function headerOf(): PeerMessage['header'] {
  const [b, a] = shown.members;
  return {
    ...{ chainId: 1, lineage: 1, epoch: 1 },
    from: a && { id: a.id, incarnation: a.incarnation },
    to: b && { id: b.id, incarnation: b.incarnation },
  } as PeerMessage['header'];
}

function ask(nonce: number, leaseMs: number): PeerMessage {
  return {
    header: headerOf(),
    message: { $case: 'promiseRequest', value: { leaseMs, nonce } },
  };
}

/** An absent key. */
const get: Operation = {
  id: 1,
  timeoutMs: 60_000,
  trace: new Uint8Array(0),
  operation: { $case: 'get', value: { key: Buffer.from('k'), node: '' } },
};

/** b serves, and has the promise of a. */
async function serveB() {
  const b = await startB();
  b.say({ header: undefined, message: { $case: 'view', value: shown } });
  // Its first start waits out what it might have promised before (R5).
  for (let passed = 0; passed < 2 * promise; passed += timing.heartbeatMs) {
    await b.clock.pass(timing.heartbeatMs);
    b.grant();
    await settled();
  }
  const read = async () => {
    let said = 'waits';
    void b.node.execute(get).then(({ result }) => {
      said = result?.$case === 'error' ? result.value.reason : '';
    });
    for (let turn = 0; turn < 5; turn += 1) await settled();
    return () => said;
  };
  return { ...b, read };
}

t.test('a machine that was suspended answers no read before it has new promises', async (t) => {
  const { node, clock, read, grant } = await serveB();
  t.equal((await read())(), 'KEY_NOT_FOUND');
  clock.awayMs = 10_000;
  const waits = await read();
  t.equal(waits(), 'waits', 'no tick has come since');
  await clock.pass(timing.heartbeatMs);
  grant();
  for (let turn = 0; turn < 5; turn += 1) await settled();
  t.equal(waits(), 'KEY_NOT_FOUND');
  await node.close();
});

t.test('a node that takes long for many reads was not suspended', async (t) => {
  const { node, clock, read, meter, grant } = await serveB();
  clock.awayMs = 10_000;
  const waiting = [await read(), await read(), await read()];
  t.same(
    waiting.map((said) => said()),
    ['waits', 'waits', 'waits'],
  );
  await clock.pass(timing.heartbeatMs);
  // Each answer takes its time; those behind it have waited for their turn.
  meter.requests.observe = () => {
    clock.lateMs += 150;
  };
  const dropped: string[] = [];
  node.events$.subscribe(({ type }) => dropped.push(type));
  grant();
  for (let turn = 0; turn < 5; turn += 1) await settled();
  const found = 'KEY_NOT_FOUND';
  t.same(
    waiting.map((said) => said()),
    [found, found, found],
  );
  t.notOk(dropped.includes('LeasesDropped'));
  await node.close();
});

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

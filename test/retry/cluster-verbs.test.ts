import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import t from 'tap';
import { noBytes, toHex } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { CoordinatorService, View } from '../../src/gen/keychaindb/v1/coordinator.js';
import { type ClusterVerbs, clusterVerbs } from '../../src/retry/cluster-verbs.js';
import type { OwnCluster } from '../../src/wire/cluster-name.js';
import { listen } from '../../src/wire/grpc-server.js';
import { Handshake } from '../../src/wire/handshake.js';
import { refusal } from '../refusal.js';

/* An address of a coordinator may pass to another cluster: what is meant for the one is not done by the other. */

const [ours, others] = [Buffer.alloc(16, 0xa1), Buffer.alloc(16, 0xb2)];
const timeoutMs = 5_000;

interface Teardown {
  teardown(done: () => unknown): void;
}

function handshakeOf(process: string): Handshake {
  return new Handshake({ process, clock: systemClock, refused: () => undefined });
}

/** A coordinator that does at once whatever reaches it; `done`: the names of these verbs. */
async function coordinatorOf(t: Teardown, cluster: OwnCluster) {
  const done: string[] = [];
  const implementation: UntypedServiceImplementation = {};
  for (const [name, definition] of Object.entries(CoordinatorService)) {
    const { requestStream, responseStream, responseDeserialize } = definition;
    if (requestStream || responseStream) continue;
    const handle = (_call: unknown, callback: (error: null, answer: object) => void): void => {
      done.push(name);
      callback(null, { ...responseDeserialize(Buffer.alloc(0)), view: View.decode(noBytes) });
    };
    implementation[name] = handle as never;
  }
  const listener = await listen({
    address: '127.0.0.1:0',
    flag: '--listen',
    handshake: handshakeOf('coordinator c1'),
    cluster,
    services: [{ definition: CoordinatorService, implementation }],
  });
  t.teardown(() => listener.close());
  return { address: listener.address, done };
}

/** What a proxy asks, that serves this cluster. */
function verbsOf(t: Teardown, addresses: readonly string[], cluster?: OwnCluster): ClusterVerbs {
  const handshake = handshakeOf('proxy p1');
  const verbs = clusterVerbs({
    ...{ addresses, clock: systemClock, handshake },
    ...(cluster && { cluster }),
  });
  t.teardown(() => verbs.close());
  return verbs;
}

/** Every verb, as one may ask it. */
const asked: Readonly<Record<string, (verbs: ClusterVerbs, ms: number) => Promise<unknown>>> = {
  getMembers: (verbs, ms) => verbs.members(ms, true),
  addMember: (verbs, ms) =>
    verbs.addMember({ id: 'n1', address: 'a:1', expectedEpoch: 0, spare: false }, ms),
  removeMember: (verbs, ms) => verbs.removeMember({ id: 'n1', expectedEpoch: 0 }, ms),
  drainMember: (verbs, ms) => verbs.drainMember({ id: 'n1', expectedEpoch: 0 }, ms),
  reorderChain: (verbs, ms) => verbs.reorderChain({ ids: ['n1'], expectedEpoch: 0 }, ms),
  recoverChain: (verbs, ms) =>
    verbs.recoverChain({ id: 'n1', lostIds: ['n2'], expectedEpoch: 0 }, ms),
  setChainLength: (verbs, ms) => verbs.setChainLength({ length: 3, expectedEpoch: 0 }, ms),
  joinCluster: (verbs, ms) => verbs.joinCluster('c4', 'a:2', ms),
  removeFromCluster: (verbs, ms) => verbs.removeFromCluster('c4', ms),
  transferLeadership: (verbs, ms) => verbs.transferLeadership('', ms),
  chainStatus: (verbs, ms) => verbs.chainStatus(ms),
  clusterStatus: (verbs, ms) => verbs.status(ms),
  snapshotCluster: (verbs, ms) => verbs.snapshotCluster(ms),
};

t.test('a coordinator of another cluster does none of the verbs, the next one does', async (t) => {
  const [theirs, own] = [await coordinatorOf(t, () => others), await coordinatorOf(t, () => ours)];
  const unary = Object.entries(CoordinatorService).filter(
    ([, { requestStream, responseStream }]) => !requestStream && !responseStream,
  );
  t.same(
    Object.keys(asked).sort(),
    unary.map(([name]) => name).sort(),
    'all that there are are asked',
  );
  for (const [name, ask] of Object.entries(asked)) {
    await ask(
      verbsOf(t, [theirs.address, own.address], () => ours),
      timeoutMs,
    );
    t.same(own.done.splice(0), [name]);
    t.same(theirs.done, [], name);
  }
});

t.test('where only another cluster answers nothing was done, and that is certain', async (t) => {
  const theirs = await coordinatorOf(t, () => others);
  const verbs = verbsOf(t, [theirs.address], () => ours);
  for (const [name, ask] of Object.entries(asked)) {
    await t.rejects(ask(verbs, 300), refusal('NO_LEADER'), name);
  }
  t.same(theirs.done, []);
  await t.rejects(verbs.status(300), {
    message: `it belongs to cluster ${toHex(others)}, and this was meant for cluster ${toHex(ours)}`,
  });
});

t.test('who names no cluster is served, whatever it is', async (t) => {
  const theirs = await coordinatorOf(t, () => others);
  const verbs = verbsOf(t, [theirs.address]);
  for (const ask of Object.values(asked)) await ask(verbs, timeoutMs);
  const unknowing = verbsOf(t, [theirs.address], () => noBytes);
  for (const ask of Object.values(asked)) await ask(unknowing, timeoutMs);
  const names = Object.keys(asked);
  t.same(theirs.done, [...names, ...names]);
});

t.test('the cluster is named from when it is known', async (t) => {
  const theirs = await coordinatorOf(t, () => others);
  let known: Uint8Array = noBytes;
  const verbs = verbsOf(t, [theirs.address], () => known);
  await verbs.status(timeoutMs);
  known = ours;
  await t.rejects(verbs.status(300), refusal('NO_LEADER'));
});

t.test(
  'a coordinator that has not learned its cluster can’t be the one that is meant',
  async (t) => {
    let own: Uint8Array = noBytes;
    const joining = await coordinatorOf(t, () => own);
    const verbs = verbsOf(t, [joining.address], () => ours);
    await t.rejects(verbs.transferLeadership('', 300), refusal('NO_LEADER'));
    t.same(joining.done, []);
    await verbsOf(t, [joining.address]).status(timeoutMs);
    own = ours;
    await verbs.transferLeadership('', timeoutMs);
    t.same(joining.done, ['clusterStatus', 'transferLeadership']);
  },
);

t.test('what is no name is refused, and told in few words', async (t) => {
  const own = await coordinatorOf(t, () => ours);
  const verbs = verbsOf(t, [own.address], () => new Uint8Array(2_000));
  await t.rejects(verbs.status(300), { message: new RegExp(`cluster ${'0'.repeat(32)}: nothing`) });
  t.same(own.done, []);
});

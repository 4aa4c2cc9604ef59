import { BehaviorSubject } from 'rxjs';
import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { idBytesMax } from '../../src/base/limits.js';
import { systemRandom } from '../../src/base/random.js';
import { timingDefault } from '../../src/base/timing.js';
import { chainLengthMax, membersMax } from '../../src/coordinator/limits.js';
import { RegistryMachine } from '../../src/coordinator/registry-machine.js';
import { type CoordinatorOptions, startCoordinator } from '../../src/coordinator/runtime.js';
import { encodeRegistry } from '../../src/coordinator/snapshot.js';
import {
  type CoordinatorPush,
  MemberState,
  NodeHeartbeat,
} from '../../src/gen/keychaindb/v1/coordinator.js';
import type { RaftMember, RaftStatus } from '../../src/raft/raft.js';
import type { Channel } from '../../src/wire/channel.js';
import { ManualClock } from '../proxy/manual-clock.js';
import { refusal } from '../refusal.js';

const clusterId = Buffer.alloc(16, 7);
const group = { members: [], removed: [] };
const timing = { ...timingDefault, detectionMs: 60_000 };

/** A chain of these that are heard, of which c1 leads the coordinators, at the usual times. */
async function leaderOf(ids: readonly string[]) {
  const clock = new ManualClock();
  const { heartbeatMs } = timingDefault;
  const of = coordinatorOf(ids, { clock, timing: timingDefault });
  of.status$.next({ ...of.status$.value, role: 'leader', isCurrent: true });
  /** So many heartbeats of these. */
  const beat = async (count: number, ...heard: readonly string[]): Promise<void> => {
    for (let done = 0; done < count; done += 1) {
      for (const id of heard) of.hear(id);
      await clock.pass(heartbeatMs);
    }
  };
  await beat(2, ...ids);
  return { ...of, clock, beat };
}

/** A chain of these, of which the detector does nothing by itself: another coordinator leads. */
function coordinatorOf(ids: readonly string[], own: Partial<CoordinatorOptions> = {}, applied = 0) {
  const registry = new RegistryMachine();
  const members = ids.map((id) => ({
    ...{ id, incarnation: 1, address: `${id}:1`, state: MemberState.SERVING, since: 0 },
    ...{ storeId: Buffer.alloc(16, id), drained: false, spare: false, note: '' },
  }));
  const view = { chainId: 1, epoch: 5, lineage: 1, clusterId, members, others: [], length: 0 };
  const incarnations = new Map(ids.map((id) => [id, 1]));
  registry.restore(encodeRegistry({ clusterId, view, incarnations, forgotten: 0 }));
  const status$ = new BehaviorSubject<RaftStatus>({
    ...{ id: 'c1', role: 'follower', term: 1, leader: 'c2', commit: applied, applied },
    ...{ last: { generation: 1, index: applied }, first: 1, snapshot: 0, group, isCurrent: false },
  });
  const waiting: (() => void)[] = [];
  const raft: RaftMember = {
    id: 'c1',
    status$,
    get status() {
      return status$.value;
    },
    appliedEntry: { at: { generation: 1, index: 0 }, time: 0, group },
    heard: [],
    progress: [],
    propose: async (payload) => {
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        setImmediate(decide);
      });
      const index = status$.value.applied + 1;
      const id = { generation: 1, index };
      const result = registry.apply({ id, at: 0, request: undefined, payload });
      status$.next({ ...status$.value, commit: index, applied: index });
      return { type: 'applied', index, result };
    },
    change: async () => ({ type: 'unknown' }),
    read: async () => {
      learn();
      return { type: 'current', index: status$.value.applied };
    },
    removed: new Promise(() => undefined),
    close: async () => undefined,
  };
  let learn = (): void => undefined;
  /** What it learns when it asks the leader. */
  const onRead = (learned: () => void): void => {
    learn = learned;
  };
  /** What was asked for in one turn is decided one after the other. */
  function decide(): void {
    for (const go of waiting.splice(0)) go();
  }
  let aheadMs = 0;
  const coordinator = startCoordinator({
    raft,
    registry,
    clock: { ...systemClock, monotonic: () => systemClock.monotonic() + aheadMs },
    random: systemRandom,
    timing,
    prober: { probe: async () => 'silent' },
    fatal: (error) => {
      throw error;
    },
    ...own,
  });
  // It has listened for long.
  for (; aheadMs < 2 * timing.detectionMs; aheadMs += timing.heartbeatMs) coordinator.shownView();
  const proposed = (): number => status$.value.applied;
  const notices: string[] = [];
  const channel: Channel<CoordinatorPush> = {
    send: ({ notice }) => {
      if (notice !== '') notices.push(notice);
      return true;
    },
    queued: 0,
    drained: async () => undefined,
    close: () => undefined,
    isClosed: false,
  };
  const hear = (id: string, more: Partial<NodeHeartbeat> = {}): void => {
    const own = {
      id,
      incarnation: 1,
      clusterId,
      address: `${id}:1`,
      storeId: Buffer.alloc(16, id),
    };
    const beat = { ...NodeHeartbeat.decode(noBytes), ...own, seenEpoch: 5, ...more };
    coordinator.acceptHeartbeat(channel).message(beat);
  };
  return { coordinator, registry, hear, notices, proposed, status$, onRead };
}

t.test(
  'of the last two that are heard only one goes, though both are asked for at once',
  async (t) => {
    for (const verb of ['removeMember', 'drainMember'] as const) {
      const { coordinator, registry, hear } = coordinatorOf(['a', 'b', 'silent']);
      t.teardown(() => coordinator.close());
      hear('a');
      hear('b');
      const done = await Promise.allSettled(
        ['a', 'b'].map((id) => coordinator[verb]({ id, expectedEpoch: 0 }, 5_000)),
      );
      t.same(
        registry.state.view.members.map(({ id }) => id),
        ['b', 'silent'],
        verb,
      );
      const [, second] = done;
      t.match(second, { status: 'rejected', reason: { reason: 'LAST_SERVING' } });
    }
  },
);

t.test('a change of the view in between does not refuse a removal that named none', async (t) => {
  const { coordinator, registry, hear } = coordinatorOf(['a', 'b', 'c']);
  t.teardown(() => coordinator.close());
  for (const id of ['a', 'b', 'c']) hear(id);
  const spare = { id: 'd', address: 'd:1', spare: true, expectedEpoch: 0 };
  const added = coordinator.addMember(spare, 5_000);
  await coordinator.removeMember({ id: 'a', expectedEpoch: 0 }, 5_000);
  await added;
  t.same(
    registry.state.view.members.map(({ id }) => id),
    ['b', 'c'],
  );
  await t.rejects(
    coordinator.removeMember({ id: 'b', expectedEpoch: 5 }, 5_000),
    refusal('STALE_EPOCH'),
  );
});

t.test('who is heard is judged by the view that a change names, not by an older one', async (t) => {
  const { coordinator, registry, hear, proposed, onRead } = coordinatorOf(['a', 'b', 'c']);
  t.teardown(() => coordinator.close());
  // The others have taken c out meanwhile, and b is gone.
  hear('a');
  hear('c');
  onRead(() => {
    const { clusterId, incarnations, view } = registry.state;
    const members = view.members.filter(({ id }) => id !== 'c');
    const newest = { ...view, epoch: 6, members };
    registry.restore(encodeRegistry({ clusterId, incarnations, forgotten: 0, view: newest }));
  });
  const removal = coordinator.removeMember({ id: 'a', expectedEpoch: 6 }, 5_000);
  await t.rejects(removal, refusal('LAST_SERVING'));
  const request = { id: 'a', expectedEpoch: 7 };
  await t.rejects(coordinator.drainMember(request, 5_000), refusal('STALE_EPOCH'));
  const recovery = coordinator.recoverChain({ ...request, lostIds: [] }, 5_000);
  await t.rejects(recovery, refusal('STALE_EPOCH'));
  t.equal(proposed(), 0);
});

t.test('nobody is taken out by a coordinator that does not know who serves', async (t) => {
  const registry = new RegistryMachine();
  const { coordinator, proposed } = coordinatorOf(['a', 'b', 'c'], { registry });
  t.teardown(() => coordinator.close());
  const request = { id: 'a', expectedEpoch: 0 };
  const recovery = coordinator.recoverChain({ ...request, lostIds: ['b', 'c'] }, 5_000);
  await t.rejects(recovery, refusal('NO_LEADER'));
  await t.rejects(coordinator.removeMember(request, 5_000), refusal('NO_LEADER'));
  await t.rejects(coordinator.drainMember(request, 5_000), refusal('NO_LEADER'));
  t.equal(proposed(), 0);
});

t.test('ids that no member can have, and more than there may be, get into no log', async (t) => {
  const { coordinator, proposed } = coordinatorOf(['a', 'b']);
  t.teardown(() => coordinator.close());
  const long = 'x'.repeat(idBytesMax + 1);
  const many = Array.from({ length: chainLengthMax + 1 }, (_, place) => `n${place}`);
  const named = { id: long, expectedEpoch: 0 };
  const refused = (field: string) => refusal('BAD_REQUEST', { field });
  await t.rejects(coordinator.removeMember(named, 5_000), refused('id'));
  await t.rejects(coordinator.drainMember(named, 5_000), refused('id'));
  await t.rejects(coordinator.recoverChain({ ...named, lostIds: [] }, 5_000), refused('id'));
  for (const ids of [[long], many]) {
    const order = coordinator.reorderChain({ ids, expectedEpoch: 0 }, 5_000);
    await t.rejects(order, refused('ids'));
    const recovery = coordinator.recoverChain({ id: 'a', lostIds: ids, expectedEpoch: 0 }, 5_000);
    await t.rejects(recovery, refused('lost_ids'));
  }
  t.equal(proposed(), 0);
});

t.test('a member whose id an earlier version let in is named as any other', async (t) => {
  const long = 'x'.repeat(idBytesMax + 1);
  const { coordinator, registry, hear } = coordinatorOf(['a', long]);
  t.teardown(() => coordinator.close());
  hear('a');
  hear(long);
  await coordinator.reorderChain({ ids: [long, 'a'], expectedEpoch: 0 }, 5_000);
  await coordinator.removeMember({ id: long, expectedEpoch: 0 }, 5_000);
  t.same(
    registry.state.view.members.map(({ id }) => id),
    ['a'],
  );
});

t.test('one member too many is refused, and told so where it joins by itself', async (t) => {
  const ids = Array.from({ length: membersMax }, (_, place) => `n${place}`);
  const { coordinator, hear, notices, proposed } = coordinatorOf(ids);
  t.teardown(() => coordinator.close());
  const request = { id: 'd', address: 'd:1', spare: false, expectedEpoch: 0 };
  await t.rejects(coordinator.addMember(request, 5_000), refusal('BAD_REQUEST'));
  t.equal(proposed(), 0);
  hear('d', { join: true });
  t.match(notices, [/d is not taken in: there are 1024 members, and the limit is 1024: remove/]);
  await coordinator.addMember({ ...request, id: 'n1', address: 'n1:1' }, 5_000);
});

t.test('a node that no request could name is told why it is not taken in', async (t) => {
  const { coordinator, hear, notices } = coordinatorOf(['a']);
  t.teardown(() => coordinator.close());
  hear('nπ', { join: true });
  hear('__proto__', { join: true });
  hear('n2', { join: true, address: 'n2:65536' });
  t.match(notices, [
    /not taken in: id: 1 to 64 letters/,
    /not taken in: id: .* not __proto__/,
    /not taken in: address: host:port is wanted, not "n2:65536"/,
  ]);
  hear('n3', { join: true });
  t.same(
    coordinator.chainStatus().nodes.map(({ id }) => id),
    ['n3'],
  );
});

t.test('a member of an earlier version is heard under any id', async (t) => {
  const { coordinator, hear, notices } = coordinatorOf(['nπ']);
  t.teardown(() => coordinator.close());
  hear('nπ');
  t.same(
    coordinator.chainStatus().nodes.map(({ id }) => id),
    ['nπ'],
  );
  t.same(notices, []);
});

t.test(
  'after a stall of the whole machine nobody goes whose beat is late, but less than T',
  async (t) => {
    const { coordinator, clock, hear, beat } = await leaderOf(['a', 'b', 'c']);
    t.teardown(() => coordinator.close());
    await beat(10, 'a', 'b', 'c');
    clock.stall(2 * timingDefault.detectionMs);
    const states = coordinator.shownView().members.map(({ state }) => state);
    const { SERVING } = MemberState;
    t.same(states, [SERVING, SERVING, SERVING], 'also for who asks before they beat');
    hear('a');
    t.equal(coordinator.proposingForMs, undefined, 'at the first beat');
    await clock.pass(0);
    t.equal(coordinator.proposingForMs, undefined, 'at the first look');
    await beat(4, 'a', 'b');
    t.equal(coordinator.proposingForMs, undefined);
    await beat(1, 'a', 'b', 'c');
    await beat(5, 'a', 'b');
    t.equal(coordinator.proposingForMs, undefined, 'c was heard');
    await beat(3, 'a', 'b');
    t.not(coordinator.proposingForMs, undefined, 'c is silent');
  },
);

t.test('who beat while the coordinator stood still is heard before anybody goes', async (t) => {
  const { coordinator, clock, hear, beat } = await leaderOf(['a', 'b', 'c']);
  t.teardown(() => coordinator.close());
  await beat(10, 'a', 'b', 'c');
  await beat(5, 'a', 'b');
  const arrivals: (() => void)[] = [];
  clock.soon = (then) => void arrivals.push(then);
  clock.stall(2 * timingDefault.heartbeatMs);
  await clock.pass(0);
  t.equal(coordinator.proposingForMs, undefined, 'its timers come before what has arrived');
  for (const id of ['a', 'b', 'c']) hear(id);
  for (let turn = 0; turn < 2; turn += 1) for (const then of arrivals.splice(0)) then();
  t.equal(coordinator.proposingForMs, undefined);
});

t.test(
  'short stalls, one after the other, leave nobody in the chain who is in its way',
  async (t) => {
    const { coordinator, clock, hear, beat } = await leaderOf(['a', 'b', 'c']);
    t.teardown(() => coordinator.close());
    for (let seconds = 0; seconds < 8 && coordinator.proposingForMs === undefined; seconds += 1) {
      for (let beats = 0; beats < 5; beats += 1) {
        for (const id of ['a', 'b']) hear(id, { activeEpoch: 5, silentPeers: ['c'] });
        await beat(1, 'c');
      }
      clock.stall(timingDefault.heartbeatMs * 2);
    }
    t.not(coordinator.proposingForMs, undefined, 'c is named as the silent one');
  },
);

t.test('a coordinator whose every look is late sees who is gone all the same', async (t) => {
  const { coordinator, clock, hear } = await leaderOf(['a', 'b', 'c']);
  t.teardown(() => coordinator.close());
  const lateMs = 2 * timingDefault.heartbeatMs;
  for (let passed = 0; passed <= 2 * timingDefault.detectionMs; passed += lateMs) {
    clock.stall(lateMs);
    hear('a');
    hear('b');
    await clock.pass(0);
  }
  t.not(coordinator.proposingForMs, undefined);
});

t.test(
  'a coordinator that has just started does not take for gone who has not come yet',
  async (t) => {
    const clock = new ManualClock();
    const { coordinator, registry } = coordinatorOf(['a', 'b'], { clock, timing: timingDefault });
    t.teardown(() => coordinator.close());
    const states = () => coordinator.members().members.map(({ state }) => state);
    const drain = () => coordinator.drainMember({ id: 'a', expectedEpoch: 0 }, 5_000);
    t.same(states(), [MemberState.SERVING, MemberState.SERVING], 'as decided');
    await t.rejects(drain(), refusal('NO_LEADER'), 'ask again');
    await clock.pass(2 * timingDefault.detectionMs);
    t.same(states(), [MemberState.LASTSRV, MemberState.LASTSRV]);
    await t.rejects(drain(), refusal('LAST_SERVING'));
    t.equal(registry.state.view.epoch, 5);
  },
);

t.test('members are not told before it is known what the log says', async (t) => {
  const registry = new RegistryMachine();
  const { coordinator, status$ } = coordinatorOf(['a'], { registry });
  t.teardown(() => coordinator.close());
  const unknown = refusal('NO_LEADER');
  t.throws(() => coordinator.members(), unknown, 'it joins, and has no log yet');
  const group = {
    members: [{ id: 'c1', address: 'c1:1', learner: false, seen: true }],
    removed: [],
  };
  const last = { generation: 1, index: 3 };
  status$.next({ ...status$.value, group, last });
  t.throws(() => coordinator.members(), unknown);
  t.throws(() => coordinator.chainStatus(), unknown);
  status$.next({ ...status$.value, commit: 3, applied: 3 });
  t.same(coordinator.members().members, []);
});

t.test('nor what a snapshot says, where the log goes on after it', async (t) => {
  const snapshot = { generation: 1, index: 40 };
  const { coordinator, status$, hear, notices } = coordinatorOf(['a'], {}, snapshot.index);
  t.teardown(() => coordinator.close());
  t.equal(coordinator.members().members.length, 1, 'it ends with the snapshot');
  status$.next({ ...status$.value, last: { generation: 1, index: 90 } });
  t.throws(() => coordinator.members(), refusal('NO_LEADER'));
  hear('b');
  t.same(notices, [], 'it may have been added since');
  status$.next({ ...status$.value, commit: 41, applied: 41 });
  t.equal(coordinator.members().members.length, 1, 'a leader has told what is committed');
});

import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { promiseMs, type Timing, timingDefault } from '../../src/base/timing.js';
import {
  detect,
  emptyDetector,
  forgetGone,
  leads,
  onHeartbeat,
  whyNotFed,
  whyNotRecovered,
} from '../../src/coordinator/detector.js';
import { membersMax, stuckMsMax } from '../../src/coordinator/limits.js';
import { nodesHeard } from '../../src/coordinator/node-status.js';
import type { RegistryState } from '../../src/coordinator/registry-state.js';
import {
  ChainStatusResponse,
  type Member,
  MemberState,
  type NodeHeartbeat,
} from '../../src/gen/keychaindb/v1/coordinator.js';
import type { ProbeAnswer } from '../../src/wire/probe.js';

const timing: Timing = timingDefault;
const { detectionMs } = timing;
const storeOf = (id: string): Uint8Array => Buffer.alloc(16, id);

const member = (id: string, state: MemberState, incarnation = 1): Member => ({
  id,
  incarnation,
  address: `${id}:1`,
  state,
  storeId: storeOf(id),
  since: 0,
  drained: false,
  spare: false,
  note: '',
});
const serving = (id: string): Member => member(id, MemberState.SERVING);
const waiting = (id: string, incarnation = 1): Member =>
  member(id, MemberState.WAITING, incarnation);

function registry(members: readonly Member[], others: readonly Member[] = []): RegistryState {
  const clusterId = Buffer.alloc(16, 7);
  const incarnations = new Map([...members, ...others].map((m) => [m.id, m.incarnation]));
  const view = { chainId: 1, epoch: 5, lineage: 1, clusterId, members, others, length: 0 };
  return { clusterId, view, incarnations, forgotten: 0 };
}

const beat = (id: string, more: Partial<NodeHeartbeat> = {}): NodeHeartbeat => ({
  chainId: 1,
  clusterId: Buffer.alloc(16, 7),
  lineage: 1,
  id,
  incarnation: 1,
  storeId: storeOf(id),
  address: `${id}:1`,
  seenEpoch: 5,
  activeEpoch: 5,
  last: { generation: 1, index: 1 },
  watermark: { generation: 1, index: 1 },
  incomplete: false,
  silentPeers: [],
  bootWaitMs: 0,
  stagedKeys: 0,
  leaseMs: 0,
  version: '',
  process: 1,
  stuckMs: 0,
  join: false,
  report: undefined,
  damage: '',
  outlier: '',
  comparedRevision: 0,
  ...more,
});

/** A leader that has listened for long, at time `now`; each beat was heard so long ago. */
function leader(
  state: RegistryState,
  beats: readonly (readonly [NodeHeartbeat, number])[],
  now = 100_000,
) {
  const detector = emptyDetector(0);
  for (const [heard, ago] of beats) onHeartbeat(detector, heard, now - ago);
  return { detector, look: (at = now) => say(detect(state, detector, timing, at)) };
}

/** The command in short. */
function say(command: ReturnType<typeof detect>): string {
  const what = command?.command;
  if (what === undefined) return '';
  if (what.$case !== 'changeView') {
    return `${what.$case} ${'id' in what.value ? what.value.id : ''}`;
  }
  const { change, expectedEpoch } = what.value;
  return `${change?.$case} ${change?.value.id} at ${expectedEpoch}`;
}

const chain = registry([serving('a'), serving('b'), serving('c')]);

t.test('who is heard stays', async (t) => {
  const { look } = leader(chain, [
    [beat('a'), 0],
    [beat('b'), detectionMs - 1],
    [beat('c'), 0],
  ]);
  t.equal(look(), '');
});

t.test('the longest silent one goes first', async (t) => {
  const { look } = leader(chain, [
    [beat('a'), detectionMs + 10],
    [beat('b'), detectionMs + 50],
    [beat('c'), 0],
  ]);
  t.equal(look(), 'evict b at 5');
});

t.test('nobody goes while no serving member is heard', async (t) => {
  const silent = [beat('a'), beat('b'), beat('c')].map((b) => [b, detectionMs + 1] as const);
  t.equal(leader(chain, silent).look(), '');
});

t.test(
  'all died together: the one that was heard last is no reason to remove the others',
  async (t) => {
    const { look } = leader(chain, [
      [beat('a'), detectionMs + 1],
      [beat('b'), detectionMs + 1],
      [beat('c'), detectionMs / 2],
    ]);
    t.equal(look(), '');
  },
);

/** `a` beat until its stream ended at `at`; then what the kernels say, each by a probe that is answered at once. */
function killed(state = chain, silentMs = 0) {
  const at = 100_000;
  const { detector, look } = leader(state, [
    [beat('a'), 10],
    [beat('b'), silentMs],
    [beat('c'), silentMs],
  ]);
  const probe = (kernels: Partial<Record<string, ProbeAnswer>>, now: number): string[] => {
    const due = detector.probes.due(state.view, timing, now);
    for (const probed of due) {
      probed.probedAt = now;
      detector.probes.answered(probed, now, kernels[probed.id] ?? 'silent', now);
    }
    return due.map(({ id }) => id);
  };
  detector.probes.ended(serving('a'));
  return { at, detector, look, probe };
}

const { heartbeatMs } = timing;

t.test(
  'who is refused by its kernel goes without T, once another one has outlived it',
  async (t) => {
    const { at, look, probe } = killed();
    const kernels = { a: 'refused', b: 'accepted', c: 'accepted' } as const;
    t.same(probe(kernels, at), ['a'], 'nobody else is asked before it matters');
    t.equal(look(at + heartbeatMs), '', 'nobody has outlived it yet');
    t.same(probe(kernels, at + heartbeatMs), ['a', 'b', 'c']);
    t.equal(look(at + heartbeatMs - 1), '', 'a living process would beat anew within an interval');
    t.equal(look(at + heartbeatMs), 'evict a at 5');
  },
);

t.test('a stream that has ended is no evidence, nor is a probe that nobody answers', async (t) => {
  for (const answer of ['silent', 'accepted'] as const) {
    const { at, look, probe } = killed();
    for (let now = at; now < at + detectionMs - 20; now += heartbeatMs) {
      t.same(probe({ a: answer, b: 'accepted', c: 'accepted' }, now), ['a'], answer);
      t.equal(look(now), '', answer);
    }
  }
});

t.test('all were killed together: their kernels refuse alike, and nobody goes', async (t) => {
  const { at, detector, look, probe } = killed();
  detector.probes.ended(serving('b'));
  const kernels = { a: 'refused', b: 'refused', c: 'refused' } as const;
  for (let now = at; now < at + detectionMs / 2; now += heartbeatMs) {
    probe(kernels, now);
    // The end of c's stream is late on its way, and so are its last words.
    onHeartbeat(detector, beat('c'), now);
    t.equal(look(now), '');
  }
});

t.test('nor while the one whose kernel accepts has not been heard lately', async (t) => {
  const { at, look, probe } = killed(chain, detectionMs / 2);
  const kernels = { a: 'refused', b: 'accepted', c: 'accepted' } as const;
  probe(kernels, at);
  probe(kernels, at + heartbeatMs);
  t.equal(look(at + heartbeatMs), '');
});

t.test(
  'a heartbeat of that process takes the evidence back, a late answer brings none',
  async (t) => {
    const { at, detector, look, probe } = killed();
    const kernels = { a: 'refused', b: 'accepted', c: 'accepted' } as const;
    probe(kernels, at);
    const [late] = detector.probes.due(chain.view, timing, at + heartbeatMs);
    probe(kernels, at + heartbeatMs);
    onHeartbeat(detector, beat('a'), at + heartbeatMs);
    if (late === undefined) throw new Error('a is probed as long as its stream is gone');
    detector.probes.answered(late, at, 'refused', at + heartbeatMs);
    t.equal(look(at + 2 * heartbeatMs), '');
    t.same(probe(kernels, at + 3 * heartbeatMs), [], 'who beats is not probed');
  },
);

t.test('an address that accepts again has not refused since', async (t) => {
  const { at, look, probe } = killed();
  probe({ a: 'refused' }, at);
  probe({ a: 'accepted', b: 'accepted' }, at + heartbeatMs);
  probe({ a: 'refused', b: 'accepted' }, at + 2 * heartbeatMs);
  t.equal(look(at + 2 * heartbeatMs), '');
});

t.test('what an older process left behind says nothing of the one that is a member', async (t) => {
  const { at, detector, look, probe } = killed();
  onHeartbeat(detector, beat('a'), at);
  detector.probes.ended(member('a', MemberState.SERVING, 0));
  t.same(probe({ a: 'refused', b: 'accepted' }, at), []);
  t.equal(look(at + 2 * heartbeatMs), '');
});

t.test('a process that returns while nobody who serves is heard keeps its claim', async (t) => {
  const keeps = (agoA: number, agoB: number): unknown => {
    const { detector } = leader(chain, [
      [beat('a', { incarnation: 2 }), agoA],
      [beat('b'), agoB],
    ]);
    const found = detect(chain, detector, timing, 100_000)?.command;
    return found?.$case === 'register' ? found.value.keepsPlace : undefined;
  };
  const wait = 2 * timing.heartbeatMs;
  t.equal(keeps(10, 0), false, 'b has outlived the old a, which loses its place at once');
  t.equal(keeps(0, 10), undefined, 'b may have died with it: its next heartbeat will tell');
  t.equal(keeps(wait, wait + 10), true, 'none came: either may go on alone (R10)');
});

t.test('only the last one heard is no reason to take it out', async (t) => {
  const syncing = registry([serving('a'), member('b', MemberState.SYNCING)]);
  const { look } = leader(syncing, [
    [beat('b'), 0],
    [beat('a'), detectionMs + 1],
  ]);
  t.equal(look(), '');
});

t.test('a new leader waits one heartbeat, then knows what it heard as a follower', async (t) => {
  const { detector, look } = leader(chain, [
    [beat('a'), 0],
    [beat('b'), detectionMs + 1],
    [beat('c'), 0],
  ]);
  detector.leaderSince = 100_000 - timing.heartbeatMs + 1;
  t.equal(look(), '');
  detector.leaderSince -= 1;
  t.equal(look(), 'evict b at 5');
});

t.test('a coordinator that has just started gives everybody the full time', async (t) => {
  const detector = emptyDetector(100_000);
  onHeartbeat(detector, beat('a'), 100_000 + detectionMs - 1);
  t.equal(say(detect(chain, detector, timing, 100_000 + detectionMs - 1)), '');
});

t.test('a heartbeat of an older process counts for nothing', async (t) => {
  const { detector } = leader(chain, [[beat('a', { incarnation: 3 }), 0]]);
  onHeartbeat(detector, beat('a', { incarnation: 2 }), 100_000);
  t.equal(detector.heard.get('a')?.beat.incarnation, 3);
});

t.test(
  'a new process registers; an unknown one is added where it asks, and never was here',
  async (t) => {
    const all = [beat('a'), beat('b'), beat('c')].map((b) => [b, 0] as const);
    const others = [beat('b'), beat('c')].map((b) => [b, 0] as const);
    const newer = [beat('a', { incarnation: 2 }), 10] as const;
    t.equal(leader(chain, [newer, ...others]).look(), 'register a');
    t.equal(leader(chain, [...all, [beat('d'), 0]]).look(), '');
    t.equal(leader(chain, [...all, [beat('d', { join: true }), 0]]).look(), 'addMember d');
    const removed = { ...chain, incarnations: new Map([...chain.incarnations, ['d', 4]]) };
    t.equal(leader(removed, [...all, [beat('d', { join: true }), 0]]).look(), '');
  },
);

t.test('nobody joins by itself where there are as many members as there may be', async (t) => {
  const look = (count: number): string => {
    const others = Array.from({ length: count - 1 }, (_, place) =>
      member(`n${place}`, MemberState.OFFLINE),
    );
    const joins = [beat('d', { join: true }), 0] as const;
    return leader(registry([serving('a')], others), [[beat('a'), 0], joins]).look();
  };
  t.equal(look(membersMax - 1), 'addMember d');
  t.equal(look(membersMax), '');
});

t.test('of the survivors the longest log goes on, after a moment (R10)', async (t) => {
  const dead = registry(
    [serving('a'), serving('b'), serving('c')],
    [waiting('a', 2), waiting('b', 2)],
  );
  const { detector } = leader(dead, []);
  const hear = (now: number): void => {
    onHeartbeat(detector, beat('a', { incarnation: 2, last: { generation: 3, index: 9 } }), now);
    onHeartbeat(detector, beat('b', { incarnation: 2, last: { generation: 4, index: 8 } }), now);
  };
  hear(100_000);
  t.equal(say(detect(dead, detector, timing, 100_000)), '', 'a third one may come');
  hear(100_000 + detectionMs);
  t.equal(say(detect(dead, detector, timing, 100_000 + detectionMs)), 'reinstate b at 5');
});

t.test(
  'no survivor is a store that is incomplete, of another lineage, or nobody of the chain',
  async (t) => {
    const dead = registry([serving('a')], [waiting('a', 2), waiting('x')]);
    const back = (more: Partial<NodeHeartbeat>): string =>
      leader(dead, [
        [beat('a', { incarnation: 2, ...more }), 0],
        [beat('x'), 0],
      ]).look();
    t.equal(back({ incomplete: true }), '');
    t.equal(back({ lineage: 9 }), '');
    t.equal(leader(dead, [[beat('x'), 0]]).look(), '');
    t.equal(back({}), 'reinstate a at 5', 'it is all there was');
  },
);

t.test('nobody is reinstated while one who serves is heard', async (t) => {
  const half = registry([serving('a'), serving('b')], [waiting('b', 2)]);
  const { look } = leader(half, [
    [beat('a'), 0],
    [beat('b', { incarnation: 2 }), 0],
  ]);
  t.not(look(), 'reinstate b at 5');
});

t.test(
  'a JOINING member whose promise the others wait for in vain is taken out (R3, R13)',
  async (t) => {
    const joining = member('b', MemberState.JOINING);
    const stalled = registry([serving('a'), joining]);
    const beats = [
      [beat('a', { activeEpoch: 4 }), 0],
      [beat('b', { activeEpoch: 5 }), 0],
    ] as const;
    const { detector, look } = leader(stalled, beats);
    detector.viewSince = 100_000 - promiseMs(timing.leaseMs, timing.drift) - 2 * detectionMs + 1;
    t.equal(look(), '', 'it has its time');
    detector.viewSince -= 2;
    t.equal(look(), 'evict b at 5', 'though only one serves');
  },
);

t.test('a member that does not activate what another one has is taken out (R13)', async (t) => {
  const { detector, look } = leader(chain, [
    [beat('a'), 0],
    [beat('b', { activeEpoch: 4 }), 0],
    [beat('c'), 0],
  ]);
  detector.viewSince = 100_000;
  t.equal(look(), '');
  detector.viewSince = 0;
  t.equal(look(), 'evict b at 5');
});

t.test(
  'of a severed pair the more often named goes, else the later in the chain (R13)',
  async (t) => {
    const pair = leader(chain, [
      [beat('a', { silentPeers: ['b'] }), 0],
      [beat('b', { silentPeers: ['a'] }), 0],
      [beat('c'), 0],
    ]);
    t.equal(pair.look(), '', 'not at once');
    const later = 100_000 + detectionMs;
    for (const b of [
      beat('a', { silentPeers: ['b'] }),
      beat('b', { silentPeers: ['a'] }),
      beat('c'),
    ]) {
      onHeartbeat(pair.detector, b, later);
    }
    t.equal(pair.look(later), 'evict b at 5');
    for (const b of [beat('b', { silentPeers: ['a'] }), beat('c', { silentPeers: ['a'] })]) {
      onHeartbeat(pair.detector, b, later);
    }
    t.equal(pair.look(later), 'evict a at 5');
  },
);

t.test('what a leader suspected counts for nothing once it leads again', async (t) => {
  const apart = [beat('a', { silentPeers: ['b'] }), beat('b', { silentPeers: ['a'] }), beat('c')];
  const { detector, look } = leader(
    chain,
    apart.map((b) => [b, 0] as const),
  );
  t.equal(look(), '');
  const again = 200_000;
  leads(detector, again);
  const hear = (at: number): void => {
    for (const b of apart) onHeartbeat(detector, b, at);
  };
  const first = again + timing.heartbeatMs;
  hear(first);
  t.equal(look(first), '', 'they were together since, for all that it knows');
  hear(first + detectionMs);
  t.equal(look(first + detectionMs), 'evict b at 5');
});

t.test('a SYNCING member that lacks its link goes itself (R13)', async (t) => {
  const fed = registry([serving('a'), serving('b'), member('c', MemberState.SYNCING)]);
  const c = { silentPeers: ['b'], version: '0.1.0' };
  const beats = [beat('a'), beat('b'), beat('c', c)];
  const { detector, look } = leader(
    fed,
    beats.map((b) => [b, 0] as const),
  );
  t.equal(look(), '', 'not at once');
  const later = 100_000 + detectionMs;
  for (const b of beats) onHeartbeat(detector, b, later);
  t.equal(look(later), 'evict c at 5', 'nobody who serves');
  const apart = [
    beat('a', { silentPeers: ['b'] }),
    beat('b', { silentPeers: ['a'] }),
    beat('c', c),
  ];
  for (const b of apart) onHeartbeat(detector, b, later);
  look(later);
  const last = later + detectionMs;
  for (const b of apart) onHeartbeat(detector, b, last);
  t.equal(look(last), 'evict b at 5', 'of those that serve, where they are named');
  const old = [beat('a'), beat('b'), beat('c', { ...c, version: '' })];
  for (const b of old) onHeartbeat(detector, b, last);
  t.equal(look(last), '', 'what one of 0.1.0 names is nothing');
});

t.test('members join one at a time, in the order in which they were added', async (t) => {
  const two = registry([serving('a')], [waiting('c'), waiting('b')]);
  const beats = [beat('a'), beat('b'), beat('c')].map((b) => [b, 0] as const);
  t.equal(leader(two, beats).look(), 'startSync c at 5');
  const busy = registry([serving('a'), member('c', MemberState.SYNCING)], [waiting('b')]);
  t.equal(leader(busy, beats).look(), '');
});

t.test("the tail's report counts in exactly its epoch (R9)", async (t) => {
  const fed = registry([serving('a'), member('b', MemberState.JOINING)]);
  const report = (epoch: number): NodeHeartbeat =>
    beat('a', { report: { epoch, id: 'b', incarnation: 1, next: MemberState.SERVING } });
  t.equal(
    leader(fed, [
      [report(5), 0],
      [beat('b'), 0],
    ]).look(),
    'promote b at 5',
  );
  t.equal(
    leader(fed, [
      [report(4), 0],
      [beat('b'), 0],
    ]).look(),
    '',
  );
});

t.test('a member that may not serve yet is fed, but not promoted until it may', async (t) => {
  const joining = member('c', MemberState.JOINING);
  const report = { epoch: 5, id: 'c', incarnation: 1, next: MemberState.SERVING };
  const view = registry([serving('a'), serving('b'), joining]);
  const heard = (waits: boolean) =>
    leader(view, [
      [beat('a'), 0],
      [beat('b', { report }), 0],
      [beat('c', { bootWaitMs: waits ? 1 : 0 }), 0],
    ]).look();
  t.equal(heard(true), '');
  t.equal(heard(false), 'promote c at 5');
  const syncing = registry([serving('a'), serving('b'), member('c', MemberState.SYNCING)]);
  const { look } = leader(syncing, [
    [beat('a'), 0],
    [beat('b', { report: { ...report, next: MemberState.JOINING } }), 0],
    [beat('c', { bootWaitMs: 1 }), 0],
  ]);
  t.equal(look(), 'startJoin c at 5');
});

t.test(
  'one that remembers longer leases than the cluster’s lets the others go first',
  async (t) => {
    const view = registry([serving('a')], [waiting('b'), waiting('c')]);
    const next = (b: number, c: number) =>
      leader(view, [
        [beat('a'), 0],
        [beat('b', { bootWaitMs: b }), 0],
        [beat('c', { bootWaitMs: c }), 0],
      ]).look();
    const usual = Math.ceil(promiseMs(timing.leaseMs, timing.drift));
    t.equal(next(0, 0), 'startSync b at 5');
    t.equal(next(usual, 0), 'startSync b at 5', 'in the order in which they were added');
    t.equal(next(60_000, 0), 'startSync c at 5');
    t.equal(next(60_000, 60_000), 'startSync b at 5');
  },
);

t.test('who is drained is not taken in', async (t) => {
  const chain_ = (drained: boolean) =>
    registry([serving('a')], [{ ...waiting('b'), drained }, waiting('c')]);
  const beats = [
    [beat('a'), 0],
    [beat('b'), 0],
    [beat('c'), 0],
  ] as const;
  t.equal(leader(chain_(true), beats).look(), 'startSync c at 5');
  t.equal(leader(chain_(false), beats).look(), 'startSync b at 5');
});

t.test('a chain does not begin with who is drained', async (t) => {
  const first = registry([], [{ ...waiting('a'), drained: true }, waiting('b')]);
  const beats = [
    [beat('a'), 0],
    [beat('b'), 0],
  ] as const;
  t.equal(leader(first, beats).look(), 'reinstate b at 5');
});

t.test(
  'a chain is recovered only while nobody who serves is heard, with one that is',
  async (t) => {
    const why = (
      beats: readonly (readonly [NodeHeartbeat, number])[],
      id = 'c',
      others = [waiting('c'), waiting('a', 2)],
    ) => {
      const state = registry([serving('a'), serving('b')], others);
      return whyNotRecovered(state, leader(state, beats).detector, timing, 100_000, id);
    };
    const silent = [beat('b'), detectionMs + 1] as const;
    t.equal(why([silent, [beat('c'), 0]]), '');
    t.match(
      why([
        [beat('b'), 0],
        [beat('c'), 0],
      ]),
      /b serves and is heard/,
    );
    t.match(why([silent, [beat('c'), detectionMs + 1]]), /c is not heard/);
    t.match(why([silent, [beat('c', { lineage: 2 }), 0]]), /the store of c is not whole/);
    t.match(why([silent, [beat('c', { incomplete: true }), 0]]), /the store of c is not whole/);
    const back = [beat('a', { incarnation: 2 }), 0] as const;
    t.match(why([silent, [beat('c'), 0], back]), /a has come back with its store/);
  },
);

t.test('a store of another lineage is wiped before its node joins', async (t) => {
  const state = registry([serving('a')], [waiting('b')]);
  const look = (lineage: number) =>
    leader(state, [
      [beat('a'), 0],
      [beat('b', { lineage }), 0],
    ]).look();
  t.equal(look(2), '');
  t.equal(look(1), 'startSync b at 5');
  t.equal(look(0), 'startSync b at 5', 'a new store is of none');
  const incomplete = leader(state, [
    [beat('a'), 0],
    [beat('b', { incomplete: true }), 0],
  ]);
  t.equal(incomplete.look(), 'startSync b at 5', 'one that is not whole is synced');
});

t.test('a spare joins a chain that is too short, after who is none', async (t) => {
  const spare = (id: string): Member => ({ ...waiting(id), spare: true });
  const beats = ['a', 'b', 's', 'u', 'n'].map((id) => [beat(id), 0] as const);
  const look = (length: number, others: readonly Member[], members = ['a', 'b']) => {
    const state = registry(members.map(serving), others);
    return leader({ ...state, view: { ...state.view, length } }, beats).look();
  };
  const spares = [spare('s'), spare('u')];
  t.equal(look(0, spares), '', 'no length is set');
  t.equal(look(2, spares), '', 'it is long enough');
  t.equal(look(3, spares), 'startSync s at 5', 'in the order in which they were added');
  t.equal(look(3, [...spares, waiting('n')]), 'startSync n at 5');
  t.equal(
    look(2, [...spares, waiting('n')]),
    'startSync n at 5',
    'who is none joins at any length',
  );
  t.equal(
    look(0, [...spares, waiting('n')], []),
    'reinstate n at 5',
    'a chain begins with who is none',
  );
  t.equal(look(0, spares, []), '');
  t.equal(look(1, spares, []), 'reinstate s at 5');
});

t.test(
  'who loses its place again and again is held back, where the chain can do without it',
  async (t) => {
    const look = (members: readonly string[], ago: number) => {
      const state = registry(members.map(serving), [waiting('f')]);
      const { detector, look: looks } = leader(
        state,
        [...members, 'f'].map((id) => [beat(id), 0] as const),
      );
      detector.flaps.set('f', { times: 3, at: 100_000 - ago, servingSince: undefined });
      return looks();
    };
    t.equal(look(['a', 'b'], 1_999), '');
    t.equal(look(['a', 'b'], 2_000), 'startSync f at 5');
    t.equal(look(['a'], 0), 'startSync f at 5', 'a chain of one needs another');
  },
);

t.test('a member whose store is damaged is taken out, while another one can be read', async (t) => {
  const look = (members: RegistryState, beats: Readonly<Record<string, Partial<NodeHeartbeat>>>) =>
    leader(
      members,
      members.view.members.map(({ id }) => [beat(id, beats[id]), 0] as const),
    ).look();
  const damage = 'record o/k';
  t.equal(look(chain, { a: { damage } }), 'evict a at 5', 'the head as well');
  t.equal(look(registry([serving('a')]), { a: { damage } }), '', 'the last one stays');
  const joins = registry([serving('a'), member('b', MemberState.JOINING)]);
  t.equal(look(joins, { a: { damage } }), '', 'one that joins is no copy yet');
  t.equal(look(chain, { a: { damage }, b: { damage } }), 'evict b at 5');
  t.equal(look(chain, { a: { damage }, b: { damage }, c: { damage } }), '', 'all are');
});

t.test('the one whose state differs is taken out, on the word of who found it', async (t) => {
  const look = (beats: Readonly<Record<string, Partial<NodeHeartbeat>>>) =>
    leader(
      chain,
      ['a', 'b', 'c'].map((id) => [beat(id, beats[id]), 0] as const),
    ).look();
  const found = { damage: 'its state differs', outlier: 'b' };
  t.equal(look({ b: found }), 'evict b at 5');
  t.equal(look({ c: found }), 'evict b at 5');
  const before = { activeEpoch: 4 };
  const early = { a: before, b: before, c: { ...found, ...before } };
  t.equal(look(early), '', 'a word of an earlier epoch');
  t.equal(look({ c: { ...found, outlier: 'x' } }), '', 'nobody of this chain');
  const damage = 'record o/k';
  t.equal(look({ a: { damage }, c: { damage }, b: found }), 'evict c at 5', 'damage first');
});

t.test('a member whose disk is stuck is taken out, where another one is well', async (t) => {
  const look = (stuck: Readonly<Record<string, number>>) =>
    leader(
      chain,
      ['a', 'b', 'c'].map((id) => [beat(id, { stuckMs: stuck[id] ?? 0 }), 0] as const),
    ).look();
  t.equal(look({ b: stuckMsMax - 1 }), '');
  t.equal(look({ b: stuckMsMax }), 'evict b at 5');
  t.equal(look({ a: stuckMsMax, b: stuckMsMax, c: stuckMsMax }), '', 'all are');
});

t.test('who is no member any more is forgotten when it is silent', async (t) => {
  const state = emptyDetector(0);
  for (const id of ['a', 'gone', 'joining']) onHeartbeat(state, beat(id), 0);
  onHeartbeat(state, beat('joining'), detectionMs);
  forgetGone(state, registry([serving('a')]).view, timing, detectionMs);
  t.same([...state.heard.keys()], ['a', 'joining']);
});

t.test('why a member waits is told', async (t) => {
  const why = (
    state: RegistryState,
    beats: readonly (readonly [NodeHeartbeat, number])[],
  ): string => {
    const now = 100_000;
    return whyNotFed(state, leader(state, beats, now).detector, timing, now, waiting('d'));
  };
  const served = registry([serving('a')], [waiting('d')]);
  const d = [beat('d'), 0] as const;
  t.equal(why(served, [[beat('a'), 0], d]), '');
  t.match(why(served, [[beat('a'), detectionMs], d]), /no serving node is heard/);
  const older = beat('d', { lineage: 2 });
  t.match(
    why(served, [
      [beat('a'), 0],
      [older, 0],
    ]),
    /before the chain was recovered/,
  );
  const busy = registry([serving('a'), member('c', MemberState.SYNCING)], [waiting('d')]);
  t.equal(why(busy, [[beat('a'), 0], d]), 'c is fed first');
  const part = beat('d', { incomplete: true });
  t.match(
    why(served, [
      [beat('a'), 0],
      [part, 0],
    ]),
    /part of a snapshot/,
  );
  t.equal(why(registry([], [waiting('d')]), [d]), '');
});

t.test(
  'how long a node has not taken up the newest view, and waited for its disk, is told',
  async (t) => {
    const { detector } = leader(chain, [
      [beat('a'), 0],
      [beat('b', { activeEpoch: 4, stuckMs: 30 }), 0],
    ]);
    detector.viewSince = 99_300;
    t.match(nodesHeard(detector, chain.view, 100_000), [
      { id: 'a', idleMs: 0, stuckMs: 0 },
      { id: 'b', idleMs: 700, stuckMs: 30 },
    ]);
  },
);

t.test('who waits for months takes up no view, and any time can be sent', async (t) => {
  const monthsMs = 100 * 86_400_000;
  const state = registry([serving('a')], [waiting('spare')]);
  const { detector } = leader(
    state,
    [
      [beat('a', { activeEpoch: 4 }), 0],
      [beat('spare', { activeEpoch: 0 }), 0],
    ],
    monthsMs,
  );
  const nodes = nodesHeard(detector, state.view, monthsMs);
  t.match(nodes, [
    { id: 'a', idleMs: 0xffff_ffff },
    { id: 'spare', idleMs: 0 },
  ]);
  ChainStatusResponse.encode({ ...ChainStatusResponse.decode(noBytes), nodes }).finish();
});

import fc from 'fast-check';
import t from 'tap';
import { assertView } from '../../src/coordinator/invariants.js';
import { decide, emptyRegistry, evolve } from '../../src/coordinator/registry.js';
import type { RegistryState } from '../../src/coordinator/registry-state.js';
import {
  type ChangeView,
  MemberState,
  type RegistryCommand,
} from '../../src/gen/keychaindb/v1/coordinator.js';

const storeOf = (id: string): Uint8Array => Buffer.alloc(16, id);

const create: RegistryCommand = {
  command: { $case: 'createCluster', value: { clusterId: Buffer.alloc(16, 7), chainId: 1 } },
};
const add = (
  id: string,
  address = `${id}:1`,
  expectedEpoch = 0,
  spare = false,
): RegistryCommand => ({
  command: { $case: 'addMember', value: { id, address, spare, expectedEpoch } },
});
const remove = (id: string, expectedEpoch = 0): RegistryCommand => ({
  command: { $case: 'removeMember', value: { id, expectedEpoch } },
});
const drain = (id: string, expectedEpoch = 0): RegistryCommand => ({
  command: { $case: 'drainMember', value: { id, expectedEpoch } },
});
const reorder = (ids: string, expectedEpoch = 0): RegistryCommand => ({
  command: { $case: 'reorderChain', value: { ids: ids.split(' '), expectedEpoch } },
});
const recover = (id: string, lost: string, expectedEpoch = 0): RegistryCommand => ({
  command: {
    $case: 'recoverChain',
    value: { id, lostIds: lost === '' ? [] : lost.split(','), expectedEpoch },
  },
});
const register = (
  id: string,
  incarnation: number,
  storeId = storeOf(id),
  keepsPlace = false,
  process = incarnation,
): RegistryCommand => ({
  command: {
    $case: 'register',
    value: { id, incarnation, storeId, address: `${id}:1`, keepsPlace, process },
  },
});
const change = (
  expectedEpoch: number,
  what: NonNullable<ChangeView['change']>['$case'],
  id: string,
  incarnation: number,
): RegistryCommand => ({
  command: {
    $case: 'changeView',
    value: { expectedEpoch, change: { $case: what, value: { id, incarnation } } },
  },
});

function apply(state: RegistryState, command: RegistryCommand) {
  const { events, reason } = decide(state, command);
  const next = events.reduce(evolve, state);
  assertView(state.view, next.view);
  return { state: next, reason };
}

/** Applies commands that must be accepted; those of a view get the present epoch. */
function built(...commands: readonly (RegistryCommand | ((epoch: number) => RegistryCommand))[]) {
  let state = emptyRegistry;
  for (const command of commands) {
    const given = typeof command === 'function' ? command(state.view.epoch) : command;
    const applied = apply(state, given);
    if (applied.reason !== '') throw new Error(`refused: ${applied.reason}`);
    state = applied.state;
  }
  return state;
}

const at =
  (what: NonNullable<ChangeView['change']>['$case'], id: string, incarnation: number) =>
  (epoch: number): RegistryCommand =>
    change(epoch, what, id, incarnation);

const joins = (id: string, incarnation: number) => [
  at('startSync', id, incarnation),
  at('startJoin', id, incarnation),
  at('promote', id, incarnation),
];

/** a and b serve. */
const pair = (): RegistryState =>
  built(
    create,
    add('a'),
    add('b'),
    register('a', 1),
    register('b', 1),
    at('reinstate', 'a', 1),
    ...joins('b', 1),
  );

const shape = ({ view }: RegistryState): string =>
  [...view.members, ...view.others]
    .map((m) => `${m.id}${m.incarnation}:${m.state}${m.drained ? ' drained' : ''}`)
    .join(' ');

t.test('a chain begins with its first member and grows behind the tail', async (t) => {
  const state = pair();
  t.equal(shape(state), 'a1:1 b1:1');
  t.equal(state.view.epoch, 8, 'one change, one epoch');
});

t.test('a change names the epoch that it expects', async (t) => {
  const state = pair();
  const { reason, state: same } = apply(state, change(state.view.epoch - 1, 'evict', 'a', 1));
  t.equal(reason, 'STALE_EPOCH');
  t.equal(same, state);
});

t.test('ids and addresses are taken once', async (t) => {
  const state = pair();
  t.equal(apply(state, add('a', 'elsewhere:1')).reason, 'MEMBER_EXISTS');
  t.equal(apply(state, add('c', 'a:1')).reason, 'ADDRESS_IN_USE');
  t.equal(apply(state, remove('c')).reason, 'MEMBER_NOT_FOUND');
});

t.test('an operator who repeats a command is told that it is so', async (t) => {
  const state = pair();
  const again = apply(state, add('a', 'a:1', 1));
  t.equal(again.reason, '', 'also where the epoch was that of the first time');
  t.equal(again.state, state, 'no epoch is spent');
  const removed = apply(state, remove('b')).state;
  t.equal(apply(removed, remove('b', 1)).reason, '');
  t.equal(apply(removed, remove('b')).state, removed);
  t.equal(apply(removed, remove('nobody')).reason, 'MEMBER_NOT_FOUND');
});

t.test('a change that was decided on another view is refused', async (t) => {
  const state = pair();
  const { epoch } = state.view;
  for (const old of [epoch - 1, epoch + 1]) {
    t.equal(apply(state, add('c', 'c:1', old)).reason, 'STALE_EPOCH');
    t.equal(apply(state, remove('b', old)).reason, 'STALE_EPOCH');
  }
  t.equal(apply(state, add('c', 'c:1', epoch)).reason, '');
  t.equal(apply(state, remove('b', epoch)).reason, '');
});

t.test('a member that was drained is out, and stays a member', async (t) => {
  const state = apply(pair(), drain('b')).state;
  t.equal(shape(state), 'a1:1 b1:5 drained');
  t.equal(apply(state, drain('b', 1)).reason, '', 'again');
  t.equal(apply(state, drain('b')).state, state, 'no epoch is spent');
  t.equal(apply(state, drain('nobody')).reason, 'MEMBER_NOT_FOUND');
  t.equal(apply(state, drain('a')).reason, 'LAST_SERVING');
  t.equal(apply(pair(), drain('b', 2)).reason, 'STALE_EPOCH');
});

t.test(
  'a drained process stays drained under its next incarnations, another one does not',
  async (t) => {
    const state = apply(pair(), drain('b')).state;
    const same = apply(state, register('b', 2, storeOf('b'), false, 1)).state;
    t.equal(shape(same), 'a1:1 b2:4 drained');
    t.equal(apply(same, change(same.view.epoch, 'startSync', 'b', 2)).reason, 'BAD_REQUEST');
    t.equal(
      shape(apply(same, register('b', 3, storeOf('b'), false, 1)).state),
      'a1:1 b3:4 drained',
    );
    t.equal(shape(apply(same, register('b', 3)).state), 'a1:1 b3:4');
    t.equal(shape(apply(same, register('b', 3, storeOf('b'), false, 0)).state), 'a1:1 b3:4');
    const added = apply(same, add('b')).state;
    t.equal(shape(added), 'a1:1 b2:4', 'nor one that was added again');
    t.equal(apply(added, change(added.view.epoch, 'startSync', 'b', 2)).reason, '');
  },
);

t.test('who waits can be drained, who is fed as well', async (t) => {
  const waits = built(create, add('a'), add('b'), register('a', 1), at('reinstate', 'a', 1));
  t.equal(shape(apply(waits, drain('b')).state), 'a1:1 b0:5 drained');
  const registered = apply(waits, register('b', 1)).state;
  const fed = apply(registered, change(registered.view.epoch, 'startSync', 'b', 1)).state;
  t.equal(shape(apply(fed, drain('b')).state), 'a1:1 b1:5 drained');
});

t.test('an order is one of exactly the members that serve', async (t) => {
  const state = apply(pair(), add('c')).state;
  const wrong = (ids: string): string => decide(state, reorder(ids)).message;
  t.match(wrong('a'), /not named: b; those that serve, head to tail: a b/);
  t.match(wrong('a b c'), /c does not serve/);
  t.match(wrong('a b a'), /a stands there twice/);
  t.equal(apply(state, reorder('a')).reason, 'BAD_REQUEST');
  const turned = apply(state, reorder('b a', state.view.epoch)).state;
  t.equal(shape(turned), 'b1:1 a1:1 c0:5');
  t.equal(turned.view.epoch, state.view.epoch + 1);
  t.equal(apply(turned, reorder('b a', state.view.epoch)).state, turned, 'again');
  t.equal(apply(turned, reorder('a b', state.view.epoch)).reason, 'STALE_EPOCH');
});

t.test('an order of very many ids is looked through once, not once for each of them', async (t) => {
  let reads = 0;
  const ids = new Proxy(
    Array.from({ length: 1_000 }, (_, place) => `n${place}`),
    {
      get: (list, name) => {
        reads += 1;
        return Reflect.get(list, name) as unknown;
      },
    },
  );
  const order = { command: { $case: 'reorderChain', value: { ids, expectedEpoch: 0 } } } as const;
  t.match(decide(pair(), order).message, /n0 does not serve/);
  t.ok(reads < 5 * ids.length, `${reads} reads of ${ids.length} ids`);
});

t.test('who is fed stays behind the tail in another order', async (t) => {
  const waits = apply(apply(pair(), add('c')).state, register('c', 1)).state;
  const fed = apply(waits, change(waits.view.epoch, 'startSync', 'c', 1)).state;
  const { state } = apply(fed, reorder('b a'));
  t.equal(shape(state), 'b1:1 a1:1 c1:3');
});

t.test('an order that leaves a member out, or changes another thing, is no order', async (t) => {
  const before = pair().view;
  const [a, b] = before.members;
  if (a === undefined || b === undefined) throw new Error('a pair');
  const epoch = before.epoch + 1;
  const members = [b, a];
  assertView(before, { ...before, epoch, members });
  const gone = { ...before, epoch, members, others: [{ ...a, id: 'c' }] };
  t.throws(() => assertView(before, gone), /an order is one of the same members/);
});

t.test('a chain is recovered without members that are named, each of them', async (t) => {
  const state = apply(apply(pair(), add('c')).state, register('c', 1)).state;
  const { epoch } = state.view;
  for (const named of ['', 'a', 'b']) {
    const { reason, message } = decide(state, recover('c', named));
    t.equal(reason, 'LAST_SERVING', named);
    t.match(message, 'keychaindb chain recover c --lose a,b');
  }
  t.match(decide(state, recover('c', 'a,b,c')).message, /c is not given up; those that are: a,b/);
  t.equal(apply(state, recover('d', 'a,b')).reason, 'MEMBER_NOT_FOUND');
  t.equal(apply(state, recover('c', 'a,b', epoch - 1)).reason, 'STALE_EPOCH');
  const recovered = apply(state, recover('c', 'a,b', epoch)).state;
  t.equal(shape(recovered), 'c1:1 a1:5 b1:5');
  t.equal(recovered.view.lineage, state.view.lineage + 1);
  t.equal(apply(recovered, recover('c', 'a,b', epoch)).state, recovered, 'again');
});

t.test('a node whose own store was lost begins anew, and says so', async (t) => {
  const alone = built(create, add('a'), register('a', 1), at('reinstate', 'a', 1));
  const back = apply(alone, register('a', 2, storeOf('x'), true)).state;
  t.equal(apply(back, recover('a', '')).reason, 'LAST_SERVING');
  t.equal(shape(apply(back, recover('a', 'a')).state), 'a2:1');
  const same = apply(alone, register('a', 2, storeOf('a'), true)).state;
  t.equal(
    apply(same, recover('a', 'a')).reason,
    'BAD_REQUEST',
    'with its store it goes on by itself',
  );
});

t.test('a drained node may be the one that a chain goes on with', async (t) => {
  const drained = apply(pair(), drain('b')).state;
  const waits = apply(drained, register('b', 2, storeOf('b'), false, 1)).state;
  t.equal(shape(apply(waits, recover('b', 'a')).state), 'b2:1 a1:5');
});

t.test('a spare stays one, also when it is another process', async (t) => {
  const state = apply(pair(), add('s', 's:1', 0, true)).state;
  t.equal(apply(state, add('s', 's:1', 0, true)).state, state, 'again');
  t.equal(apply(state, add('s')).reason, 'MEMBER_EXISTS');
  t.equal(apply(state, add('a', 'a:1', 0, true)).reason, 'MEMBER_EXISTS');
  t.match(apply(state, register('s', 1)).state.view.others, [{ id: 's', spare: true }]);
});

t.test('the length of a chain is set once, in one epoch', async (t) => {
  const state = pair();
  const length = (count: number, expectedEpoch = 0): RegistryCommand => ({
    command: { $case: 'setChainLength', value: { length: count, expectedEpoch } },
  });
  const set = apply(state, length(3, state.view.epoch)).state;
  t.match(set.view, { length: 3, epoch: state.view.epoch + 1 });
  t.equal(apply(set, length(3, state.view.epoch)).state, set, 'again');
  t.equal(apply(set, length(4, state.view.epoch)).reason, 'STALE_EPOCH');
  t.equal(apply(set, remove('b')).state.view.length, 3, 'it stays');
});

t.test('the last serving member is never removed or evicted', async (t) => {
  const state = built(create, add('a'), register('a', 1), at('reinstate', 'a', 1));
  t.equal(apply(state, remove('a')).reason, 'LAST_SERVING');
  t.equal(apply(state, change(state.view.epoch, 'evict', 'a', 1)).reason, 'LAST_SERVING');
});

t.test('a new process loses the place of the old one at once', async (t) => {
  const state = apply(pair(), register('a', 2)).state;
  t.equal(shape(state), 'b1:1 a2:4');
  t.equal(apply(state, register('a', 2)).reason, 'STALE_EPOCH');
  t.equal(apply(state, register('a', 1)).reason, 'STALE_EPOCH');
});

t.test('the last serving member keeps its place until its store is reinstated', async (t) => {
  const alone = built(
    create,
    add('a'),
    add('b'),
    register('a', 1),
    register('b', 1),
    at('reinstate', 'a', 1),
  );
  const back = apply(alone, register('a', 2)).state;
  t.equal(shape(back), 'a1:1 b1:4 a2:4');
  t.equal(
    apply(back, change(back.view.epoch, 'reinstate', 'b', 1)).reason,
    'LAST_SERVING',
    'not an empty one',
  );
  t.equal(shape(apply(back, change(back.view.epoch, 'reinstate', 'a', 2)).state), 'a2:1 b1:4');
});

t.test('while nobody else is heard a new process keeps the claim of the old one', async (t) => {
  const back = apply(pair(), register('a', 2, storeOf('a'), true)).state;
  t.equal(shape(back), 'a1:1 b1:1 a2:4');
  t.equal(
    apply(back, change(back.view.epoch, 'startSync', 'a', 2)).reason,
    'MEMBER_EXISTS',
    'nor does it join as one that knows nothing',
  );
  t.equal(
    shape(apply(back, change(back.view.epoch, 'reinstate', 'a', 2)).state),
    'a2:1 b1:5',
    'it goes on alone, though another served and may never return',
  );
});

t.test('a wiped store is no survivor', async (t) => {
  const alone = built(create, add('a'), register('a', 1), at('reinstate', 'a', 1));
  const back = apply(alone, register('a', 2, Buffer.alloc(16, 'x'))).state;
  t.equal(apply(back, change(back.view.epoch, 'reinstate', 'a', 2)).reason, 'LAST_SERVING');
});

t.test('an incarnation that is gone never returns, not even after remove and add', async (t) => {
  let { state } = apply(pair(), remove('b'));
  state = apply(state, add('b')).state;
  t.equal(apply(state, register('b', 1)).reason, 'STALE_EPOCH');
  t.equal(apply(state, register('b', 2)).reason, '');
});

t.test('one member joins at a time', async (t) => {
  const state = built(
    ...[create, add('a'), add('b'), add('c'), register('a', 1), register('b', 1), register('c', 1)],
    ...[at('reinstate', 'a', 1), at('startSync', 'b', 1)],
  );
  t.equal(apply(state, change(state.view.epoch, 'startSync', 'c', 1)).reason, 'BAD_REQUEST');
  t.equal(apply(state, change(state.view.epoch, 'promote', 'b', 1)).reason, 'MEMBER_NOT_FOUND');
});

t.test('whatever is proposed, every view is one', async (t) => {
  const id = fc.constantFrom('a', 'b', 'c', 'd');
  const incarnation = fc.integer({ min: 1, max: 4 });
  const what = fc.constantFrom('evict', 'startSync', 'startJoin', 'promote', 'reinstate' as const);
  const command = fc.oneof(
    id.map((i) => ({ make: () => add(i) })),
    id.map((i) => ({ make: () => remove(i) })),
    fc.tuple(id, incarnation).map(([i, n]) => ({ make: () => register(i, n) })),
    fc.tuple(what, id, incarnation, fc.boolean()).map(([w, i, n, stale]) => ({
      make: (epoch: number) => change(stale ? epoch - 1 : epoch, w as never, i, n),
    })),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      let state = built(create);
      for (const { make } of commands) {
        const before = state;
        const applied = apply(state, make(state.view.epoch));
        state = applied.state;
        if (applied.reason !== '' && state !== before) return false;
        const serving = before.view.members.some((m) => m.state === MemberState.SERVING);
        if (serving && !state.view.members.some((m) => m.state === MemberState.SERVING))
          return false;
      }
      return true;
    }),
    { numRuns: 500 },
  );
  t.pass();
});

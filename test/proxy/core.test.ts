import fc from 'fast-check';
import t from 'tap';
import { allReasons } from '../../src/base/errors.js';
import type { Operation } from '../../src/gen/keychaindb/v1/kv.js';
import { step } from '../../src/proxy/core.js';
import { laneSpanMax, lanesMax, operationsMax } from '../../src/proxy/limits.js';
import { initialState, type ProxyEffect, type ProxyInput } from '../../src/proxy/state.js';
import { meanings } from '../../src/retry/retry.js';
import { getOf, gotResult, putOf, putResult, refusedResult, viewOf, wordOf } from './views.js';

type Unclocked<Input> = Input extends ProxyInput ? Omit<Input, 'now'> : never;

/** A proxy without a shell: effects are looked at, not done. */
class Bench {
  readonly state = initialState(new Uint8Array(16).fill(1));
  now = 1_000;
  sent: { readonly node: string; readonly operation: Operation }[] = [];
  answers: string[] = [];
  other: ProxyEffect[] = [];

  do(input: Unclocked<ProxyInput>): void {
    for (const effect of step(this.state, { ...input, now: this.now } as ProxyInput).effects) {
      if (effect.type === 'send') this.sent.push(effect);
      else if (effect.type === 'answer') this.answers.push(wordOf(effect.result));
      else this.other.push(effect);
    }
  }

  receive(operation: Operation, timeoutMs = 5_000): void {
    this.do({ type: 'OperationReceived', token: 1, operation, timeoutMs });
  }

  view(epoch: number, serving: readonly string[], others: readonly string[] = []): void {
    this.do({ type: 'ViewReceived', view: viewOf(epoch, serving, others) });
  }

  connect(...nodes: readonly string[]): void {
    for (const node of nodes) this.do({ type: 'NodeConnected', node });
  }

  results(node: string, ...results: readonly ReturnType<typeof putResult>[]): void {
    this.do({ type: 'ResultsReceived', node, results, view: undefined });
  }

  lose(node: string, unsent: readonly number[] = []): void {
    this.do({ type: 'NodeLost', node, unsent: new Set(unsent) });
  }

  tick(milliseconds: number): void {
    this.now += milliseconds;
    this.do({ type: 'Ticked' });
  }

  /** The newest sending. */
  get last(): { readonly node: string; readonly operation: Operation } {
    const last = this.sent.at(-1);
    if (last === undefined) throw new Error('nothing was sent');
    return last;
  }
}

function upBench(...serving: readonly string[]): Bench {
  const bench = new Bench();
  bench.view(1, serving);
  bench.connect(...serving);
  return bench;
}

function requestOf(operation: Operation) {
  const asked = operation.operation;
  return asked?.$case === 'put' || asked?.$case === 'delete' ? asked.value.request : undefined;
}

t.test(
  'a write goes to the head with an id of the proxy, and its answer to the caller',
  async (t) => {
    const bench = upBench('a', 'b');
    bench.receive(putOf('k', 'v'));
    t.equal(bench.last.node, 'a');
    t.match(requestOf(bench.last.operation), { seq: 1, answeredBelow: 1 });
    bench.results('a', putResult(bench.last.operation.id));
    t.same(bench.answers, ['put 7']);
    t.equal(bench.state.pendings.size, 0);
    t.equal(bench.state.attempts.size, 0);
    bench.receive(putOf('k', 'v'));
    t.match(requestOf(bench.last.operation), { seq: 2, answeredBelow: 2 });
  },
);

t.test('the id of the caller is kept', async (t) => {
  const bench = upBench('a');
  const request = { clientId: new Uint8Array(16), seq: 9, answeredBelow: 4 };
  const operation = putOf('k', 'v');
  bench.receive({
    ...operation,
    operation: { $case: 'delete', value: { key: new Uint8Array([1]), request } },
  });
  t.same(requestOf(bench.last.operation), request);
});

t.test('an operation waits for the first view and for the link', async (t) => {
  const bench = new Bench();
  bench.receive(putOf('k', 'v'));
  bench.view(1, ['a']);
  t.same(bench.other, [{ type: 'dial', node: 'a', address: 'a:1' }]);
  t.equal(bench.sent.length, 0);
  bench.connect('a');
  t.equal(bench.last.node, 'a');
});

t.test('where nothing could be sent the caller learns what was missing', async (t) => {
  const blind = new Bench();
  blind.receive(putOf('k', 'v'));
  blind.tick(5_000);
  t.same(blind.answers, ['NOT_SERVING']);
  const empty = new Bench();
  empty.view(0, []);
  empty.receive(getOf('k'));
  empty.tick(5_000);
  t.same(empty.answers, ['NO_CHAIN']);
});

t.test('a new head gets the writes in flight at once, under the same id', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(putOf('k', 'v'));
  const first = bench.last.operation;
  bench.view(2, ['b'], ['a']);
  t.equal(bench.last.node, 'b');
  t.same(requestOf(bench.last.operation), requestOf(first));
  t.not(bench.last.operation.id, first.id);
  bench.results('b', putResult(bench.last.operation.id, 8));
  t.same(bench.answers, ['put 8']);
});

t.test('an older view changes nothing', async (t) => {
  const bench = upBench('a');
  bench.view(1, ['b']);
  t.equal(bench.state.view?.members[0]?.id, 'a');
});

t.test('a write whose link was lost and then refused ends with its outcome unknown', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(putOf('k', 'v'));
  bench.lose('a');
  bench.connect('a');
  bench.results('a', refusedResult(bench.last.operation.id, 'NOT_HEAD'));
  bench.tick(5_000);
  t.same(bench.answers, ['OUTCOME_UNKNOWN']);
});

t.test('a write that was refused only ends with the refusal', async (t) => {
  const bench = upBench('a');
  bench.receive(putOf('k', 'v'));
  bench.results('a', refusedResult(bench.last.operation.id, 'NOT_HEAD'));
  t.equal(bench.sent.length, 1, 'it waits before it tries again');
  bench.tick(20);
  t.equal(bench.sent.length, 2);
  bench.results('a', refusedResult(bench.last.operation.id, 'NOT_HEAD'));
  bench.now += 4_970;
  bench.tick(20);
  t.same(bench.answers, ['NOT_HEAD']);
});

t.test('a write that never left ends as not applied', async (t) => {
  const bench = upBench('a');
  bench.receive(putOf('k', 'v'));
  bench.lose('a', [bench.last.operation.id]);
  bench.tick(5_000);
  t.same(bench.answers, ['NOT_SERVING']);
});

t.test('a read goes elsewhere when its node refuses or is lost', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(getOf('k'));
  const first = bench.last.node;
  bench.results(first, refusedResult(bench.last.operation.id, 'LEASE_EXPIRED'));
  const second = bench.last.node;
  t.not(second, first);
  bench.lose(second);
  t.equal(bench.last.node, first);
  bench.results(first, gotResult(bench.last.operation.id, 'v'));
  t.same(bench.answers, ['get 5']);
});

t.test('a silent node delays a read once, is avoided, and its late answer counts', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(getOf('k'));
  const { node: silent, operation } = bench.last;
  bench.tick(400);
  t.not(bench.last.node, silent);
  t.equal(bench.state.nodes.get(silent)?.suspected, true);
  for (let count = 0; count < 4; count += 1) {
    bench.receive(getOf('k'));
    t.not(bench.last.node, silent);
  }
  bench.results(silent, gotResult(operation.id, 'late'));
  t.same(bench.answers, ['get 5']);
  t.equal(bench.state.nodes.get(silent)?.suspected, false);
});

t.test('reads at a node that has just fallen silent leave it together', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(getOf('k'));
  const silent = bench.last.node;
  bench.now += 399;
  while (bench.last.node !== silent || bench.sent.length < 4) bench.receive(getOf('k'));
  const before = bench.sent.length;
  bench.tick(1);
  const moved = bench.sent.slice(before);
  t.ok(moved.length >= 2);
  t.ok(moved.every(({ node }) => node !== silent));
});

t.test('a node that answers others is slow, not silent: the read waits on', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(getOf('k'));
  const { node } = bench.last;
  bench.now += 300;
  bench.results(node, gotResult(999, 'of another'));
  bench.tick(100);
  t.equal(bench.sent.length, 1);
  bench.tick(300);
  t.equal(bench.sent.length, 2, 'it has been silent since');
});

t.test('a write at a silent head is sent again, under the same id', async (t) => {
  const bench = upBench('a');
  bench.receive(putOf('k', 'v'));
  bench.tick(1_500);
  t.equal(bench.sent.length, 2);
  t.same(requestOf(bench.sent[0]?.operation ?? getOf('')), requestOf(bench.last.operation));
});

t.test('a read of a named node goes nowhere else', async (t) => {
  const bench = upBench('a', 'b');
  bench.receive(getOf('k', 'b'));
  t.equal(bench.last.node, 'b');
  bench.results('b', refusedResult(bench.last.operation.id, 'NOT_SERVING'));
  t.equal(bench.last.node, 'b');
  bench.receive(getOf('k', 'z'));
  t.same(bench.answers, ['MEMBER_NOT_FOUND']);
});

t.test(
  'an expired session of the proxy is replaced unseen, that of a caller is told',
  async (t) => {
    const bench = upBench('a');
    bench.receive(putOf('k', 'v'));
    const first = requestOf(bench.last.operation);
    bench.results('a', refusedResult(bench.last.operation.id, 'SESSION_EXPIRED'));
    const second = requestOf(bench.last.operation);
    t.notSame(first?.clientId, second?.clientId);
    t.equal(second?.seq, 1);
    bench.results('a', putResult(bench.last.operation.id));
    t.same(bench.answers, ['put 7']);

    const own = upBench('a');
    const request = { clientId: new Uint8Array(16), seq: 9, answeredBelow: 4 };
    const operation: Operation = {
      ...putOf('k', 'v'),
      operation: { $case: 'delete', value: { key: new Uint8Array([1]), request } },
    };
    own.receive(operation);
    own.results('a', refusedResult(own.last.operation.id, 'SESSION_EXPIRED'));
    t.same(own.answers, ['SESSION_EXPIRED']);
  },
);

t.test('a node that leaves the chain is hung up on, its operations move', async (t) => {
  const bench = upBench('a', 'b', 'c');
  bench.receive(putOf('k', 'v'));
  bench.view(2, ['b', 'c']);
  t.ok(bench.other.some((effect) => effect.type === 'hangUp' && effect.node === 'a'));
  t.equal(bench.last.node, 'b');
  t.equal(bench.state.nodes.has('a'), false);
});

t.test('operations beyond the limit are refused by name', async (t) => {
  const bench = upBench('a');
  for (let count = 0; count < operationsMax; count += 1) bench.receive(getOf('k'));
  t.same(bench.answers, []);
  bench.receive(getOf('k'));
  t.same(bench.answers, ['OVERLOADED']);
});

t.test('a write that waits holds up the ids of its own lane only', async (t) => {
  const bench = upBench('a');
  bench.receive(putOf('stuck', 'v'));
  for (let count = 0; count < laneSpanMax * lanesMax; count += 1) {
    bench.receive(putOf('k', 'v'));
    bench.results('a', putResult(bench.last.operation.id));
  }
  t.equal(bench.answers.filter((word) => word === 'OVERLOADED').length, 0);
});

t.test('closing tells the waiting which of them may have been applied', async (t) => {
  const bench = upBench('a');
  bench.receive(putOf('k', 'v'));
  bench.receive(getOf('k'));
  bench.do({ type: 'Closed' });
  t.same(bench.answers, ['OUTCOME_UNKNOWN', 'SHUTTING_DOWN']);
});

/** One thing that happens to a proxy while one write is pending. */
type Happening =
  | {
      readonly type: 'answer';
      readonly which: number;
      readonly reason: string;
      readonly applied: boolean;
    }
  | { readonly type: 'committed'; readonly which: number }
  | { readonly type: 'lose'; readonly node: string; readonly applied: boolean }
  | { readonly type: 'connect'; readonly node: string }
  | { readonly type: 'view'; readonly head: number }
  | { readonly type: 'tick'; readonly milliseconds: number };

const nodes = ['a', 'b', 'c'];
const happening$: fc.Arbitrary<Happening> = fc.oneof(
  fc.record({
    type: fc.constant('answer' as const),
    which: fc.nat({ max: 5 }),
    reason: fc.constantFrom(...allReasons),
    applied: fc.boolean(),
  }),
  fc.record({ type: fc.constant('committed' as const), which: fc.nat({ max: 5 }) }),
  fc.record({
    type: fc.constant('lose' as const),
    node: fc.constantFrom(...nodes),
    applied: fc.boolean(),
  }),
  fc.record({ type: fc.constant('connect' as const), node: fc.constantFrom(...nodes) }),
  fc.record({ type: fc.constant('view' as const), head: fc.nat({ max: 2 }) }),
  fc.record({
    type: fc.constant('tick' as const),
    milliseconds: fc.constantFrom(20, 400, 1_500),
  }),
);

t.test(
  'whatever happens, a write that may have been applied is never told to have failed',
  async () => {
    fc.assert(
      fc.property(fc.array(happening$, { maxLength: 30 }), (happenings) => {
        const bench = upBench(...nodes);
        bench.receive(putOf('k', 'v'));
        // Attempts whose answer was given; of every other one nobody knows whether it was applied.
        const refusedForSure = new Set<number>();
        let epoch = 1;
        let isOutcome = false;
        for (const happening of happenings) {
          if (bench.answers.length > 0) break;
          isOutcome = happen(bench, happening, refusedForSure, () => {
            epoch += 1;
            return epoch;
          });
        }
        if (bench.answers.length === 0) bench.tick(5_000);
        const [word] = bench.answers;
        if (bench.answers.length !== 1 || word === undefined) return false;
        if (word.startsWith('put') || word === 'OUTCOME_UNKNOWN' || isOutcome) return true;
        return bench.sent.every(({ operation }) => refusedForSure.has(operation.id));
      }),
      { numRuns: 3_000 },
    );
  },
);

/** True where it is the request's recorded outcome. */
function happen(
  bench: Bench,
  happening: Happening,
  refusedForSure: Set<number>,
  nextEpoch: () => number,
): boolean {
  switch (happening.type) {
    case 'answer': {
      const sent = bench.sent[happening.which];
      if (sent === undefined || !bench.state.attempts.has(sent.operation.id)) return false;
      const reason = allReasons.find((each) => each === happening.reason) ?? 'INTERNAL';
      if (meanings[reason].applied === 'nothing') refusedForSure.add(sent.operation.id);
      bench.results(sent.node, refusedResult(sent.operation.id, reason));
      return meanings[reason].applied === 'outcome';
    }
    case 'committed': {
      const sent = bench.sent[happening.which];
      if (sent !== undefined) bench.results(sent.node, putResult(sent.operation.id));
      return false;
    }
    case 'lose':
      bench.lose(happening.node);
      return false;
    case 'connect':
      bench.connect(happening.node);
      return false;
    case 'view':
      bench.view(nextEpoch(), [...nodes.slice(happening.head), ...nodes.slice(0, happening.head)]);
      return false;
    case 'tick':
      bench.tick(happening.milliseconds);
      return false;
  }
}

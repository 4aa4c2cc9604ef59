import t from 'tap';
import { toHex } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import type { ChainInput } from '../../src/chain/inputs.js';
import { crowdedSilenceMs, loadingReadsMax } from '../../src/chain/limits.js';
import { Objects } from '../../src/chain/objects.js';
import { Pending } from '../../src/chain/pending.js';
import { Requests } from '../../src/chain/requests.js';
import { startState } from '../../src/chain/start.js';
import type { Operation } from '../../src/gen/keychaindb/v1/kv.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { readError } from '../../src/log/rocks-status.js';
import { timing, view } from './pure-cluster.js';

/** Node b, and what its core is given. */
async function requestsOfB(get?: (key: Uint8Array) => Promise<Uint8Array | undefined>) {
  const engine = new MemoryEngine();
  const { log } = await openLog({ engine, fatal: (error) => t.fail(String(error)) });
  if (get !== undefined) engine.get = get;
  const self = { id: 'b', incarnation: 1, storeId: Buffer.from('store-b'), address: 'b' };
  const state = startState(self, 1, timing, 0);
  const given: ChainInput[] = [];
  const notices: string[] = [];
  const pending = new Pending('b', 1, () => undefined);
  const objects = new Objects(log, 0);
  const requests = new Requests(
    state,
    objects,
    pending,
    systemClock,
    { random: systemRandom, notice: (text) => void notices.push(text) },
    (input) => given.push(input),
  );
  /** Operations that came together, and what they are answered, by the reasons. */
  const ask = (...operations: readonly Operation[]): string[] => {
    const answers: string[] = [];
    const taken = operations.map((operation) => ({
      operation,
      token: pending.add(operation, 0, ({ result }) =>
        answers.push(result?.$case === 'error' ? result.value.reason : String(result?.$case)),
      ),
    }));
    requests.take(taken, 0);
    return answers;
  };
  return { state, given, requests, objects, pending, log, ask, notices };
}

const put: Operation = {
  id: 1,
  timeoutMs: 5_000,
  trace: new Uint8Array(0),
  operation: {
    $case: 'put',
    value: { key: Buffer.from('k'), value: Buffer.from('v'), request: undefined },
  },
};

const get: Operation = {
  ...put,
  operation: { $case: 'get', value: { key: Buffer.from('k'), node: '' } },
};

/** Loads and what follows them are over: all of it is microtasks and immediates. */
const settled = (): Promise<void> =>
  new Promise((resolve) => setTimeout(() => setImmediate(resolve), 0));
const tick: ChainInput = { type: 'Ticked', now: 0, wall: 0 };

t.test('the head to be holds a write until the view is active there', async (t) => {
  const { state, given, requests } = await requestsOfB();
  state.active = view(1, 'a b c');
  state.seen = view(2, 'b c', 'a');
  requests.take([{ token: 1, operation: put }], 0);
  await settled();
  requests.stepped(tick);
  await settled();
  t.same(given, [], 'a refusal would only make its caller ask again');
  state.active = state.seen;
  requests.stepped(tick);
  await settled();
  t.same(
    given.map(({ type }) => type),
    ['WritesReceived'],
  );
});

t.test('who will not be the head hands it over, to be refused', async (t) => {
  const { state, given, requests } = await requestsOfB();
  state.active = view(1, 'a b c');
  state.seen = view(2, 'c b', 'a');
  requests.take([{ token: 1, operation: put }], 0);
  await settled();
  t.equal(given.length, 1);
});

t.test(
  'writes that wait for a hung disk count whole, and go when nobody waits for them',
  async (t) => {
    const { state, given, requests } = await requestsOfB();
    state.active = view(1, 'b');
    state.seen = state.active;
    state.ledger.last = { generation: 1, index: 1 };
    const del: Operation = {
      ...put,
      operation: { $case: 'delete', value: { key: Buffer.alloc(1_000), request: undefined } },
    };
    requests.take([{ token: 1, operation: del }], 0);
    requests.take([{ token: 2, operation: { ...put, timeoutMs: 60_000 } }], 0);
    await settled();
    t.ok(requests.collectingBytes > 1_000, 'a delete, too');
    requests.stepped({ ...tick, now: 5_000 });
    t.ok(requests.collectingBytes < 1_000, 'its time is over');
    t.same(given, []);
    state.ledger.synced = state.ledger.last;
    requests.stepped({ ...tick, now: 5_001 });
    await settled();
    t.match(given, [{ type: 'WritesReceived', writes: [{ token: 2 }] }]);
  },
);

t.test(
  'a write without a request id is one of a client that is never silent for long',
  async (t) => {
    const { state, given, requests } = await requestsOfB();
    state.active = view(1, 'b');
    state.seen = state.active;
    const ids: string[] = [];
    for (const now of [0, 1_000, 1_000 + crowdedSilenceMs]) {
      requests.take([{ token: now, operation: put }], now);
      await settled();
      const input = given.at(-1);
      if (input?.type !== 'WritesReceived') continue;
      for (const { request } of input.writes) ids.push(`${toHex(request.clientId)} ${request.seq}`);
    }
    const [first = '', second = '', third = ''] = ids;
    t.equal(first.split(' ')[0], second.split(' ')[0]);
    t.not(second.split(' ')[0], third.split(' ')[0], 'by then it may be expired');
    t.equal(third.split(' ').at(-1), '1');
  },
);

t.test(
  'a store that can not be read for want of a file handle is not damaged, and who asked may ask again',
  async (t) => {
    const error = readError(
      new Error('IO error: While open a file for random read: /d/000012.sst: Too many open files'),
    );
    const { given, ask, notices } = await requestsOfB(() => Promise.reject(error));
    const answers = ask(get, put, get);
    await settled();
    t.same(answers.sort(), ['INTERNAL', 'INTERNAL', 'NOT_SERVING'], 'no write was applied');
    t.same(
      given.filter(({ type }) => type !== 'ReadsReceived'),
      [],
      'the coordinators hear nothing',
    );
    t.match(
      notices,
      [/Too many open files\. Raise the limit of open files/],
      'a person does, once',
    );
    t.equal(notices.length, 1);
  },
);

t.test('a medium that does not give a record back is damage', async (t) => {
  const error = readError(
    new Error('IO error: While pread offset 0 len 53: /d/000012.sst: Input/output error'),
  );
  const { given, ask } = await requestsOfB(() => Promise.reject(error));
  const answers = ask(get);
  await settled();
  t.same(answers, ['CORRUPT']);
  t.equal(given[0]?.type, 'DamageFound');
});

t.test('reads that wait for a hung disk are bounded, also past their deadlines', async (t) => {
  const { requests, pending, ask } = await requestsOfB(() => new Promise(() => undefined));
  const answers = ask(...Array.from({ length: loadingReadsMax }, () => get));
  t.same(answers, []);
  t.same(ask(get), ['OVERLOADED']);
  requests.stepped({ ...tick, now: 5_000 });
  pending.expire(5_000);
  t.equal(answers.length, loadingReadsMax);
  t.equal(answers[0], 'DEADLINE');
  t.equal(requests.loadingReads, loadingReadsMax, 'the disk holds them yet');
  t.same(ask(get), ['OVERLOADED']);
});

t.test(
  'a disk that hangs keeps what is committed in memory until the deadline of who waits, no longer',
  async (t) => {
    for (const operation of [get, put]) {
      let release: (bytes: Uint8Array | undefined) => void = () => undefined;
      const { state, given, requests, objects, pending, log, ask } = await requestsOfB(
        () =>
          new Promise((resolve) => {
            release = resolve;
          }),
      );
      state.active = view(1, 'b');
      state.seen = state.active;
      const answers = ask(operation);
      const other = Buffer.from('other');
      objects.commit(other, undefined);
      objects.store([]);
      await log.settled();
      await settled();
      requests.stepped({ ...tick, now: 4_999 });
      t.ok(objects.peek(other), 'the load may have begun before that commit');
      requests.stepped({ ...tick, now: 5_000 });
      pending.expire(5_000);
      t.equal(objects.peek(other), undefined);
      release(undefined);
      await settled();
      t.same(answers, ['DEADLINE']);
      t.same(given, [], 'what was loaded is too old to be used');
      t.equal(requests.loadingReads + requests.collectingBytes, 0);
    }
  },
);

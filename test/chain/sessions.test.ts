import t from 'tap';
import { sessionReadsMax, sessionResultBytesMax } from '../../src/chain/limits.js';
import { acceptSessions } from '../../src/chain/sessions.js';
import type { View } from '../../src/gen/keychaindb/v1/coordinator.js';
import type {
  Operation,
  OperationResult,
  SessionResponse,
} from '../../src/gen/keychaindb/v1/kv.js';
import type { Channel } from '../../src/wire/channel.js';
import { viewOf } from '../proxy/views.js';

const get = (id: number): Operation => ({
  id,
  timeoutMs: 1_000,
  trace: new Uint8Array(0),
  operation: { $case: 'get', value: { key: Buffer.from('k'), node: '' } },
});
const put = (id: number): Operation => ({
  ...get(id),
  operation: {
    $case: 'put',
    value: { key: Buffer.from('k'), value: Buffer.from('v'), request: undefined },
  },
});
const found = (id: number, bytes: number): OperationResult => ({
  id,
  result: {
    $case: 'get',
    value: {
      value: Buffer.alloc(bytes),
      revision: 1,
      createRevision: 1,
      version: 1,
      served: undefined,
    },
  },
});

/** A session whose client fetches a message when the test says so. */
function session(view: () => View | undefined = () => undefined) {
  const sent: SessionResponse[] = [];
  const begun: number[] = [];
  const owed = new Map<number, (result: OperationResult) => void>();
  let fetched = (): void => undefined;
  const channel: Channel<SessionResponse> = {
    queued: 0,
    isClosed: false,
    send: (message) => {
      sent.push(message);
      return true;
    },
    drained: () =>
      new Promise((resolve) => {
        fetched = resolve;
      }),
    close: () => undefined,
  };
  const accept = acceptSessions(view, (operations, answer) => {
    for (const { id } of operations) {
      begun.push(id);
      owed.set(id, answer);
    }
  });
  const handler = accept(channel);
  return {
    sent,
    begun,
    take: (operations: readonly Operation[]) => handler.message({ operations }),
    answer: (id: number, bytes: number) => owed.get(id)?.(found(id, bytes)),
    fetch: async () => {
      fetched();
      for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    },
  };
}

t.test('while too many reads are under way further ones wait, and writes do not', async (t) => {
  const { take, begun, answer } = session();
  take(Array.from({ length: sessionReadsMax + 10 }, (_, i) => get(i)));
  t.equal(begun.length, sessionReadsMax);
  take([put(5_000), get(5_001)]);
  t.equal(begun.at(-1), 5_000, 'the write has begun');
  t.equal(begun.length, sessionReadsMax + 1);
  for (let id = 0; id < 3; id += 1) answer(id, 10);
  t.same(begun.slice(-3), [sessionReadsMax, sessionReadsMax + 1, sessionReadsMax + 2], 'in order');
});

t.test('reads wait while nobody fetches the values of those before', async (t) => {
  const { take, begun, answer, fetch, sent } = session();
  const large = sessionResultBytesMax / 8;
  take(Array.from({ length: 20 }, (_, i) => get(i)));
  for (let id = 0; id < 20; id += 1) answer(id, large);
  await Promise.resolve();
  take([get(100)]);
  t.equal(begun.at(-1), 19, 'it waits: only its key is in memory');
  for (let i = 0; i < 20; i += 1) await fetch();
  t.equal(begun.at(-1), 100);
  t.same(
    sent.flatMap(({ results }) => results.map(({ id }) => id)),
    Array.from({ length: 20 }, (_, i) => i),
    'each is answered once, in order',
  );
});

t.test('a message without operations is answered with the view', async (t) => {
  const { take, sent } = session(() => viewOf(3, ['a']));
  take([]);
  t.same(
    sent.map(({ results, view }) => [results.length, view?.epoch]),
    [[0, 3]],
  );
});

t.test('where there was no view to greet with, it goes with the first answer', async (t) => {
  const views: View[] = [];
  const { take, answer, sent } = session(() => views[0]);
  take([]);
  take([get(1)]);
  views.push(viewOf(3, ['a']));
  answer(1, 10);
  await Promise.resolve();
  t.same(
    sent.map(({ results, view }) => [results.length, view?.epoch]),
    [
      [0, undefined],
      [1, 3],
    ],
  );
});

import t from 'tap';
import type { OperationResult, SessionResponse } from '../../src/gen/keychaindb/v1/kv.js';
import { sessionOperationsMax } from '../../src/proxy/limits.js';
import type { ProxyHandle } from '../../src/proxy/runtime.js';
import { acceptSession } from '../../src/proxy/session.js';
import { FakeChannel } from './fake-channel.js';
import { ManualClock, settled } from './manual-clock.js';
import { getOf, viewOf } from './views.js';

/** A session at a proxy that finds a value of so many bytes under every key. */
function session(valueBytes: number) {
  const value = Buffer.alloc(valueBytes);
  const numbers = { revision: 1, createRevision: 1, version: 1, served: undefined };
  let count = 0;
  const proxy = {
    view: viewOf(1, ['a']),
    execute: async ({ id }: { readonly id: number }): Promise<OperationResult> => {
      count += 1;
      return { id, result: { $case: 'get', value: { value, ...numbers } } };
    },
  } as unknown as ProxyHandle;
  const handler = { message: () => undefined, closed: () => undefined };
  const channel = new FakeChannel<SessionResponse, never>('client', handler);
  const clock = new ManualClock();
  return {
    channel,
    clock,
    handler: acceptSession(proxy, clock)(channel),
    executed: () => count,
  };
}

const values = ({ sent }: FakeChannel<SessionResponse, never>): number =>
  sent.flatMap(({ results }) => results).filter(({ result }) => result?.$case === 'get').length;

const gets = (count: number) =>
  Array.from({ length: count }, (_, id) => ({ ...getOf('k'), id: id + 1 }));

t.test(
  'values that a client does not fetch are not kept, and it gets each when it does',
  async (t) => {
    const { channel, handler, executed } = session(1 << 20);
    // The transport takes nothing.
    channel.queued = 1;
    handler.message({ operations: gets(200) });
    await settled();
    t.equal(executed(), 200);
    const first = values(channel);
    t.equal(first, 0);
    channel.isSlow = true;
    for (let i = 0; i < 10; i += 1) {
      channel.take();
      await settled();
    }
    t.ok(values(channel) < 40, 'what the transport takes, two at a time');
    for (let i = 0; i < 300 && values(channel) < 200; i += 1) {
      channel.take();
      await settled();
    }
    t.equal(values(channel), 200, 'each is answered once');
    t.ok(executed() > 300, 'most were read again: no more than 64 of them were in memory');
    t.notOk(channel.isClosed);
  },
);

t.test('a value that finds no room is waited for as long as its caller waits', async (t) => {
  const { channel, clock, handler, executed } = session(1 << 20);
  channel.queued = 1;
  handler.message({ operations: gets(200).map((get) => ({ ...get, timeoutMs: 1_000 })) });
  await clock.pass(999);
  t.equal(channel.sent.length, 0);
  await clock.pass(1);
  const read = executed();
  channel.queued = 0;
  for (let i = 0; i < 300; i += 1) {
    channel.take();
    await settled();
  }
  const results = channel.sent.flatMap((message) => message.results);
  const late = results.filter(
    ({ result }) => result?.$case === 'error' && result.value.reason === 'DEADLINE',
  );
  t.equal(results.length, 200, 'each is answered once');
  t.ok(late.length > 100, 'most have come too late');
  t.equal(executed(), read, 'and are not read again');
  t.equal(clock.timers, 0);
});

t.test('a message of more operations than may wait ends the session', async (t) => {
  const { channel, handler } = session(1);
  handler.message({ operations: gets(sessionOperationsMax + 1) });
  await settled();
  t.ok(channel.isClosed);
  t.equal(channel.sent.length, 0);
});

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
  return {
    channel,
    handler: acceptSession(proxy, new ManualClock())(channel),
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

t.test('a message of more operations than may wait ends the session', async (t) => {
  const { channel, handler } = session(1);
  handler.message({ operations: gets(sessionOperationsMax + 1) });
  await settled();
  t.ok(channel.isClosed);
  t.equal(channel.sent.length, 0);
});

import t from 'tap';
import type { OperationResult, SessionResponse } from '../../src/gen/keychaindb/v1/kv.js';
import { sessionAnswerBytesMax, sessionOperationsMax } from '../../src/proxy/limits.js';
import type { ProxyHandle } from '../../src/proxy/runtime.js';
import { acceptSession } from '../../src/proxy/session.js';
import { FakeChannel } from './fake-channel.js';
import { ManualClock, settled } from './manual-clock.js';
import { getOf, viewOf } from './views.js';

/** A session at a proxy that finds a value of so many bytes under every key. */
function session(valueBytes: number) {
  const value = Buffer.alloc(valueBytes);
  const numbers = { revision: 1, createRevision: 1, version: 1, served: undefined };
  const proxy = {
    view: viewOf(1, ['a']),
    execute: async ({ id }: { readonly id: number }): Promise<OperationResult> => ({
      id,
      result: { $case: 'get', value: { value, ...numbers } },
    }),
  } as unknown as ProxyHandle;
  const handler = { message: () => undefined, closed: () => undefined };
  const channel = new FakeChannel<SessionResponse, never>('client', handler);
  return { channel, handler: acceptSession(proxy, new ManualClock())(channel) };
}

const gets = (count: number) =>
  Array.from({ length: count }, (_, id) => ({ ...getOf('k'), id: id + 1 }));

t.test(
  'values that a client asked for and does not fetch are not kept beyond a bound',
  async (t) => {
    const { channel, handler } = session(1 << 20);
    // The transport takes nothing.
    channel.queued = 1;
    handler.message({ operations: gets(200) });
    await settled();
    channel.isSlow = true;
    let bytes = 0;
    let refused = 0;
    for (let i = 0; i < 300; i += 1) {
      channel.take();
      await settled();
    }
    for (const { result } of channel.sent.flatMap(({ results }) => results)) {
      if (result?.$case === 'get') bytes += result.value.value.byteLength;
      else if (result?.$case === 'error' && result.value.reason === 'OVERLOADED') refused += 1;
    }
    t.ok(bytes <= sessionAnswerBytesMax, `${bytes} bytes waited`);
    t.ok(bytes > sessionAnswerBytesMax / 2);
    t.equal(
      bytes / (1 << 20) + refused,
      200,
      'each is answered, with its value or that there was no room',
    );
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

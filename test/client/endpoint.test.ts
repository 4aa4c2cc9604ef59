import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { Endpoint } from '../../src/client/endpoint.js';
import { idleMs, redialMsFirst, sessionOperationsMax } from '../../src/client/limits.js';
import { type CallEnd, SessionCall } from '../../src/client/session-stream.js';
import type { SessionRequest, SessionResponse } from '../../src/gen/keychaindb/v1/kv.js';
import { type FakeChannel, FakeDialer } from '../proxy/fake-channel.js';
import { ManualClock, settled } from '../proxy/manual-clock.js';

const timeoutMs = 5_000;

/** An endpoint whose proxy is the test. */
class FakeProxy {
  readonly clock = new ManualClock();
  readonly dialer = new FakeDialer<SessionRequest, SessionResponse>();
  readonly endpoint: Endpoint;
  isReachable = true;
  /** The proxy wants new streams to come on another connection. */
  isGoingAway = false;

  constructor() {
    const self = this;
    this.endpoint = new Endpoint({
      clock: this.clock,
      random: { float: () => 1, bytes: () => noBytes },
      connection: {
        get isReady() {
          return self.isReachable && !self.isGoingAway;
        },
        ready: () => {
          if (this.isReachable) this.isGoingAway = false;
          return Promise.resolve(this.isReachable);
        },
        dial: (handler) => this.dialer.dial('proxy', handler),
      },
    });
  }

  get channel(): FakeChannel<SessionRequest, SessionResponse> {
    return this.dialer.to('proxy');
  }

  /** Asks for a key; how it ends comes to stand in `ends`. */
  ask(key: string, bytes = 100): { readonly call: SessionCall; readonly ends: CallEnd[] } {
    const ends: CallEnd[] = [];
    const asked = { $case: 'get', value: { key: Buffer.from(key), node: '' } } as const;
    const deadline = this.clock.monotonic() + timeoutMs;
    const call = new SessionCall(asked, noBytes, bytes, deadline, (end) => ends.push(end));
    this.endpoint.send(call);
    return { call, ends };
  }

  answer(id: number): void {
    this.channel.handler.message({ results: [{ id, result: undefined }], view: undefined });
  }
}

const idsOf = ({ operations }: SessionRequest): readonly number[] => operations.map(({ id }) => id);
const typesOf = (ends: readonly CallEnd[]): readonly string[] => ends.map(({ type }) => type);

t.test('what is asked in one turn goes in one message, on one stream', async (t) => {
  const proxy = new FakeProxy();
  const calls = [proxy.ask('a'), proxy.ask('b'), proxy.ask('c')];
  await settled();
  t.strictSame(proxy.channel.sent.map(idsOf), [[1, 2, 3]]);
  t.equal(proxy.channel.sent[0]?.operations[0]?.timeoutMs, timeoutMs - 50, 'its answer arrives');
  proxy.answer(2);
  t.strictSame(
    calls.map(({ ends }) => typesOf(ends)),
    [[], ['heard'], []],
  );
  t.equal(proxy.dialer.channels.length, 1);
});

t.test('while a message is on its way the next one collects', async (t) => {
  const proxy = new FakeProxy();
  proxy.ask('a');
  await settled();
  proxy.channel.isSlow = true;
  proxy.ask('b');
  await settled();
  proxy.ask('c');
  await settled();
  proxy.ask('d');
  await proxy.clock.pass(100);
  t.strictSame(proxy.channel.sent.map(idsOf), [[1], [2]]);
  proxy.channel.take();
  await settled();
  t.strictSame(proxy.channel.sent.map(idsOf), [[1], [2], [3, 4]]);
  t.equal(proxy.channel.sent[2]?.operations[0]?.timeoutMs, timeoutMs - 150, 'what is left of it');
});

t.test('large operations do not share a message', async (t) => {
  const proxy = new FakeProxy();
  for (const key of ['a', 'b', 'c']) proxy.ask(key, 1 << 20);
  await settled();
  t.strictSame(proxy.channel.sent.map(idsOf), [[1, 2], [3]]);
});

t.test('a stream gets as many operations as a proxy takes, and more as it answers', async (t) => {
  const proxy = new FakeProxy();
  const calls = Array.from({ length: sessionOperationsMax + 2 }, (_, i) => proxy.ask(`${i}`));
  await settled();
  const sent = (): number => proxy.channel.sent.flatMap(idsOf).length;
  t.equal(sent(), sessionOperationsMax);
  const [first] = calls;
  if (first !== undefined) t.notOk(proxy.endpoint.abandon(first.call), 'it is at the proxy');
  proxy.ask('one more');
  await settled();
  t.equal(sent(), sessionOperationsMax, 'the proxy still counts what nobody waits for');
  proxy.answer(1);
  await settled();
  t.equal(sent(), sessionOperationsMax + 1);
  t.strictSame(first?.ends, [], 'nobody waited for it');
});

t.test('when a stream closes, what it took is lost and the rest never left', async (t) => {
  const proxy = new FakeProxy();
  const taken = proxy.ask('a');
  await settled();
  proxy.channel.isSlow = true;
  const stuck = proxy.ask('b');
  await settled();
  const waiting = proxy.ask('c');
  await settled();
  const old = proxy.channel;
  old.close('reset');
  await settled();
  t.strictSame(typesOf(taken.ends), ['lost']);
  t.strictSame(typesOf(stuck.ends), ['lost'], 'the transport had it');
  t.strictSame(typesOf(waiting.ends), ['unsent']);
  old.handler.message({ results: [{ id: 1, result: undefined }], view: undefined });
  t.equal(taken.ends.length, 1, 'once');
});

t.test('an operation that is given up before it left never leaves', async (t) => {
  const proxy = new FakeProxy();
  const queued = proxy.ask('a');
  t.ok(proxy.endpoint.abandon(queued.call));
  await settled();
  t.equal(proxy.dialer.channels.length, 0, 'there is nothing to dial for');
  proxy.ask('b');
  await settled();
  proxy.channel.isSlow = true;
  proxy.ask('c');
  await settled();
  const waiting = proxy.ask('d');
  await settled();
  t.ok(proxy.endpoint.abandon(waiting.call));
  t.notOk(proxy.endpoint.abandon(waiting.call));
  proxy.channel.take();
  await settled();
  t.strictSame(proxy.channel.sent.map(idsOf), [[1], [2]]);
  t.strictSame(waiting.ends, []);
});

t.test('nothing leaves while the proxy is out of reach', async (t) => {
  const proxy = new FakeProxy();
  proxy.isReachable = false;
  const first = proxy.ask('a');
  await settled();
  t.strictSame(typesOf(first.ends), ['unsent']);
  proxy.isReachable = true;
  proxy.ask('b');
  await settled();
  t.equal(proxy.channel.sent.length, 1);
});

t.test('a proxy that hangs up without a word is not dialed again at once', async (t) => {
  const proxy = new FakeProxy();
  proxy.ask('a');
  await settled();
  proxy.channel.close('no such method');
  await settled();
  const early = proxy.ask('b');
  await settled();
  t.strictSame(typesOf(early.ends), ['unsent']);
  t.equal(proxy.dialer.channels.length, 1);
  await proxy.clock.pass(redialMsFirst);
  proxy.ask('c');
  await settled();
  t.equal(proxy.dialer.channels.length, 2);
  proxy.answer(1);
  proxy.channel.close('reset');
  await settled();
  proxy.ask('d');
  await settled();
  t.equal(proxy.dialer.channels.length, 3, 'one that spoke is');
});

t.test('a stream that fell silent gets nothing new, and its answers are taken', async (t) => {
  const proxy = new FakeProxy();
  const first = proxy.ask('a');
  await settled();
  const silent = proxy.channel;
  await proxy.clock.pass(100);
  proxy.endpoint.doubt(first.call);
  proxy.ask('b');
  await settled();
  t.equal(proxy.dialer.channels.length, 1, 'a tenth of a second says nothing');
  await proxy.clock.pass(400);
  proxy.endpoint.doubt(first.call);
  const third = proxy.ask('c');
  await settled();
  t.equal(proxy.dialer.channels.length, 2);
  t.strictSame(proxy.channel.sent.map(idsOf), [[1]]);
  silent.handler.message({
    results: [1, 2].map((id) => ({ id, result: undefined })),
    view: undefined,
  });
  t.strictSame(typesOf(first.ends), ['heard']);
  t.ok(silent.isClosed, 'nobody waits for it any more');
  proxy.answer(1);
  t.strictSame(typesOf(third.ends), ['heard']);
});

t.test('a stream that speaks is not in doubt for one slow operation', async (t) => {
  const proxy = new FakeProxy();
  const slow = proxy.ask('a');
  proxy.ask('b');
  await proxy.clock.pass(1_000);
  proxy.answer(2);
  proxy.endpoint.doubt(slow.call);
  proxy.ask('c');
  await settled();
  t.equal(proxy.dialer.channels.length, 1);
});

t.test('a proxy that goes away ends what it has, and what is new goes elsewhere', async (t) => {
  const proxy = new FakeProxy();
  const first = proxy.ask('a');
  await settled();
  const old = proxy.channel;
  proxy.isGoingAway = true;
  proxy.ask('b');
  await settled();
  t.equal(proxy.dialer.channels.length, 2);
  t.notOk(old.isClosed);
  old.handler.message({ results: [{ id: 1, result: undefined }], view: undefined });
  t.strictSame(typesOf(first.ends), ['heard']);
  t.ok(old.isClosed);
});

t.test('an idle stream is ended, with its timer, and one that is waited for is not', async (t) => {
  const proxy = new FakeProxy();
  const first = proxy.ask('a');
  await proxy.clock.pass(10 * idleMs);
  t.notOk(proxy.channel.isClosed);
  proxy.answer(1);
  t.strictSame(typesOf(first.ends), ['heard']);
  await proxy.clock.pass(2 * idleMs);
  t.ok(proxy.channel.isClosed);
  t.equal(proxy.clock.timers, 0);
  proxy.ask('b');
  await settled();
  t.equal(proxy.dialer.channels.length, 2, 'and dialed again when there is need');
});

t.test('closing tells who waits whether their operation had left', async (t) => {
  const proxy = new FakeProxy();
  const sent = proxy.ask('a');
  await settled();
  proxy.channel.isSlow = true;
  proxy.ask('b');
  await settled();
  const waiting = proxy.ask('c');
  await settled();
  proxy.endpoint.close();
  t.strictSame(sent.ends, [{ type: 'closed', hasLeft: true }]);
  t.strictSame(waiting.ends, [{ type: 'closed', hasLeft: false }]);
  t.ok(proxy.channel.isClosed);
  t.equal(proxy.clock.timers, 0);
  const late = proxy.ask('d');
  await settled();
  t.strictSame(late.ends, [{ type: 'closed', hasLeft: false }]);
});

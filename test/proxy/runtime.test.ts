import { of } from 'rxjs';
import t from 'tap';
import { timingDefault } from '../../src/base/timing.js';
import type { View, WatchViewsRequest } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { Operation, SessionRequest, SessionResponse } from '../../src/gen/keychaindb/v1/kv.js';
import { messageLimits } from '../../src/proxy/limits.js';
import { startProxy } from '../../src/proxy/runtime.js';
import { FakeDialer } from './fake-channel.js';
import { ManualClock, settled } from './manual-clock.js';
import { getOf, gotResult, putOf, putResult, viewOf, wordOf } from './views.js';

function startFake() {
  const clock = new ManualClock();
  const views = new FakeDialer<WatchViewsRequest, View>();
  const nodes = new FakeDialer<SessionRequest, SessionResponse>();
  const fatal: unknown[] = [];
  const notices: string[] = [];
  const proxy = startProxy({
    id: 'proxy-1',
    clock,
    random: { float: () => 0.5, bytes: (count) => new Uint8Array(count).fill(9) },
    timing: timingDefault,
    views: { addresses$: of(['c1:1', 'c2:1']), dialer: views },
    nodes,
    limits: { keyBytesMax: 16, valueBytesMax: 64 },
    fatal: (error) => fatal.push(error),
    notice: (text) => notices.push(text),
  });
  return { clock, views, nodes, proxy, fatal, notices };
}

type Fake = ReturnType<typeof startFake>;

/** A proxy that has a view of these nodes and a link to each. */
async function startUp(...serving: readonly string[]): Promise<Fake> {
  const fake = startFake();
  fake.views.to('c1:1').handler.message(viewOf(1, serving));
  for (const id of serving) greet(fake, id);
  await settled();
  return fake;
}

function greet({ nodes }: Fake, id: string): void {
  nodes.to(`${id}:1`).handler.message({ results: [], view: undefined });
}

/** The operations of the newest message to a node. */
function newest({ nodes }: Fake, id: string): readonly Operation[] {
  return nodes.to(`${id}:1`).sent.at(-1)?.operations ?? [];
}

function answer(
  fake: Fake,
  id: string,
  operations: readonly Operation[] = newest(fake, id),
  view?: View,
): void {
  const { nodes } = fake;
  const results = operations.map((operation) =>
    operation.operation?.$case === 'get' ? gotResult(operation.id, 'v') : putResult(operation.id),
  );
  nodes.to(`${id}:1`).handler.message({ results, view });
}

t.test('every coordinator is asked for views and the newest counts', async (t) => {
  const { views, proxy } = startFake();
  const epochs: number[] = [];
  proxy.view$.subscribe((view) => epochs.push(view.epoch));
  t.same(
    views.channels.map(({ address }) => address),
    ['c1:1', 'c2:1'],
  );
  t.equal(views.to('c1:1').sent.length, 1);
  views.to('c2:1').handler.message(viewOf(2, ['a']));
  views.to('c1:1').handler.message(viewOf(1, ['b']));
  t.equal(proxy.view?.epoch, 2);
  t.same(epochs, [2]);
});

t.test('a lost coordinator is dialed again', async (t) => {
  const { views, clock } = startFake();
  views.to('c1:1').close('gone');
  await clock.pass(2_000);
  t.equal(views.channels.filter(({ address }) => address === 'c1:1').length, 2);
});

t.test('operations of one turn travel in one message and are answered each', async (t) => {
  const fake = await startUp('a');
  const answers = [
    fake.proxy.execute(putOf('k', 'v')),
    fake.proxy.execute(putOf('k', 'w')),
    fake.proxy.execute(getOf('k')),
    fake.proxy.execute(getOf('l')),
  ];
  await settled();
  t.equal(newest(fake, 'a').length, 2, 'reads and writes apart: neither waits for the other');
  t.equal(fake.nodes.to('a:1').sent.at(-2)?.operations.length, 2);
  answer(fake, 'a', fake.nodes.to('a:1').sent.at(-2)?.operations);
  answer(fake, 'a');
  const results = await Promise.all(answers);
  t.same(results.map(wordOf), ['put 7', 'put 7', 'get 5', 'get 5']);
  t.same(
    results.map(({ id }) => id),
    [12, 12, 11, 11],
  );
});

t.test('a read does not wait for the answer to a write', async (t) => {
  const fake = await startUp('a');
  const write = fake.proxy.execute(putOf('k', 'v'));
  await settled();
  const written = newest(fake, 'a');
  const read = fake.proxy.execute(getOf('k'));
  await settled();
  answer(fake, 'a');
  t.equal(wordOf(await read), 'get 5');
  answer(fake, 'a', written);
  t.equal(wordOf(await write), 'put 7');
});

t.test('while a message is on its way the next one collects, up to its bound', async (t) => {
  const fake = await startUp('a');
  const channel = fake.nodes.to('a:1');
  channel.isSlow = true;
  const first = fake.proxy.execute(getOf('k'));
  await settled();
  const sent = channel.sent.length;
  const rest = Array.from({ length: messageLimits.itemsMax + 1 }, () =>
    fake.proxy.execute(getOf('k')),
  );
  await settled();
  t.equal(channel.sent.length, sent);
  answer(fake, 'a');
  await first;
  for (let message = 0; message < 2; message += 1) {
    channel.take();
    await settled();
    answer(fake, 'a');
  }
  t.equal((await Promise.all(rest)).length, messageLimits.itemsMax + 1);
});

t.test('a link that never speaks is taken for connected after a while', async (t) => {
  const fake = startFake();
  fake.views.to('c1:1').handler.message(viewOf(1, ['a']));
  const result = fake.proxy.execute(getOf('k'));
  await fake.clock.pass(100);
  answer(fake, 'a');
  t.equal(wordOf(await result), 'get 5');
});

t.test('a node that refuses the link costs a write nothing but time', async (t) => {
  const fake = startFake();
  fake.views.to('c1:1').handler.message(viewOf(1, ['a']));
  const result = fake.proxy.execute(putOf('k', 'v', 1_000));
  fake.nodes.to('a:1').close('connection refused');
  await fake.clock.pass(1_100);
  t.equal(wordOf(await result), 'OUTCOME_UNKNOWN', 'the link was redialed and fell silent');
  const refused = startFake();
  refused.views.to('c1:1').handler.message(viewOf(1, ['a']));
  const never = refused.proxy.execute(putOf('k', 'v', 1_000));
  for (let tick = 0; tick < 30; tick += 1) {
    refused.nodes.to('a:1').close('connection refused');
    await refused.clock.pass(40);
  }
  t.equal(wordOf(await never), 'NOT_SERVING');
});

t.test('what a lost link had not taken is not in doubt', async (t) => {
  const fake = await startUp('a');
  const channel = fake.nodes.to('a:1');
  channel.isSlow = true;
  channel.queued = 1;
  const result = fake.proxy.execute(putOf('k', 'v', 500));
  await settled();
  channel.close('gone');
  await settled();
  for (let tick = 0; tick < 30; tick += 1) {
    fake.nodes.to('a:1').close('connection refused');
    await fake.clock.pass(40);
  }
  t.equal(wordOf(await result), 'NOT_SERVING');
});

t.test('a refusal brings the view along, with all coordinators dead', async (t) => {
  const fake = await startUp('a', 'b');
  const result = fake.proxy.execute(putOf('k', 'v'));
  await settled();
  const [operation] = newest(fake, 'a');
  fake.nodes.to('a:1').handler.message({
    results: [
      {
        id: operation?.id ?? 0,
        result: { $case: 'error', value: { reason: 'NOT_HEAD', message: '', metadata: {} } },
      },
    ],
    view: viewOf(2, ['b', 'a']),
  });
  await settled();
  t.equal(newest(fake, 'b').length, 1);
  answer(fake, 'b');
  t.equal(wordOf(await result), 'put 7');
});

t.test('what is wrong with an operation is said before it is sent', async (t) => {
  const { proxy } = startFake();
  t.equal(wordOf(await proxy.execute(getOf(''))), 'KEY_EMPTY');
  t.equal(wordOf(await proxy.execute(getOf('x'.repeat(17)))), 'KEY_TOO_LARGE');
  const large = await proxy.execute(putOf('k', 'x'.repeat(65)));
  t.match(large.result, {
    value: {
      reason: 'VALUE_TOO_LARGE',
      metadata: { limit: '64', actual: '65', flag: '--value-bytes-max' },
    },
  });
  t.equal(wordOf(await proxy.execute({ ...getOf('k'), operation: undefined })), 'BAD_REQUEST');
});

t.test('what is no trace context is not sent on: nobody counts its bytes', async (t) => {
  const fake = await startUp('a');
  const result = fake.proxy.execute({ ...putOf('k', 'v'), trace: new Uint8Array(8_000_000) });
  await settled();
  t.equal(newest(fake, 'a')[0]?.trace.byteLength, 0);
  answer(fake, 'a');
  t.equal(wordOf(await result), 'put 7');
});

t.test('a name that is longer than any is refused before it is quoted', async (t) => {
  const fake = await startUp('a');
  const result = await fake.proxy.execute(getOf('k', 'x'.repeat(1_000_000)));
  t.equal(wordOf(result), 'BAD_REQUEST');
  t.ok(JSON.stringify(result).length < 1_000);
});

const foreign = (epoch: number, ...serving: readonly string[]): View => ({
  ...viewOf(epoch, serving),
  clusterId: new Uint8Array(16).fill(2),
});

t.test('a view of another cluster is not used, whatever its epoch', async (t) => {
  const fake = await startUp('a');
  fake.views.to('c2:1').handler.message(foreign(9, 'z'));
  t.equal(fake.proxy.view?.epoch, 1);
  fake.views.to('c1:1').handler.message(viewOf(2, ['a', 'b']));
  t.equal(fake.proxy.view?.epoch, 2, 'its own is seen as before');
  t.equal(fake.notices.length, 1);
  t.match(fake.notices[0], /a coordinator belongs to cluster 0202/);
});

t.test('a process of another cluster at the address of a node is asked nothing', async (t) => {
  const fake = startFake();
  fake.views.to('c1:1').handler.message(viewOf(1, ['a']));
  const read = fake.proxy.execute(getOf('k'));
  fake.nodes.to('a:1').handler.message({ results: [], view: foreign(1, 'a') });
  await settled();
  t.ok(fake.nodes.to('a:1').isClosed);
  t.same(
    fake.nodes.channels.flatMap(({ sent }) => sent.flatMap(({ operations }) => operations)),
    [],
  );
  await fake.clock.pass(100);
  greet(fake, 'a');
  await settled();
  answer(fake, 'a');
  t.equal(wordOf(await read), 'get 5', 'the node is back');
});

t.test('no timer runs while nobody waits', async (t) => {
  const fake = await startUp('a');
  await fake.clock.pass(1_000);
  t.equal(fake.clock.timers, 0);
  const result = fake.proxy.execute(getOf('k'));
  await settled();
  answer(fake, 'a');
  await result;
  await fake.clock.pass(1_000);
  t.equal(fake.clock.timers, 0);
});

t.test('closing lets operations end, refuses new ones and ends the links', async (t) => {
  const fake = await startUp('a');
  const running = fake.proxy.execute(getOf('k'));
  await settled();
  const closing = fake.proxy.close();
  t.equal(wordOf(await fake.proxy.execute(getOf('k'))), 'SHUTTING_DOWN');
  answer(fake, 'a');
  t.equal(wordOf(await running), 'get 5');
  await closing;
  t.ok([...fake.nodes.channels, ...fake.views.channels].every(({ isClosed }) => isClosed));
  await fake.clock.pass(5_000);
  t.equal(fake.clock.timers, 0);
  t.same(fake.fatal, []);
});

t.test('closing waits for a bounded time', async (t) => {
  const fake = await startUp('a');
  const stuck = fake.proxy.execute(putOf('k', 'v'));
  await settled();
  const closing = fake.proxy.close();
  await fake.clock.pass(2_100);
  await closing;
  t.equal(wordOf(await stuck), 'OUTCOME_UNKNOWN');
});

import { once } from 'node:events';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  type IncomingHttpHeaders,
} from 'node:http2';
import { gzipSync } from 'node:zlib';
import { ChannelCredentials, Metadata, Server, type ServiceError } from '@grpc/grpc-js';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { KeychainError } from '../../src/base/errors.js';
import { messageBytesMax } from '../../src/base/limits.js';
import { systemRandom } from '../../src/base/random.js';
import {
  GetRequest,
  GetResponse,
  KVClient,
  type KVServer,
  KVService,
  type Operation,
  type OperationResult,
} from '../../src/gen/keychaindb/v1/kv.js';
import { formatTraceparent } from '../../src/telemetry/trace-context.js';
import { DirectCalls } from '../../src/wire/direct-calls.js';
import { offerStreams } from '../../src/wire/direct-streams.js';
import { serveBidi } from '../../src/wire/grpc-channel.js';
import { fromServiceError } from '../../src/wire/grpc-errors.js';
import { type GrpcListener, listen } from '../../src/wire/grpc-server.js';
import { Handshake } from '../../src/wire/handshake.js';
import { type KvHandler, kvCalls } from '../../src/wire/kv-service.js';
import { errorResult } from '../../src/wire/operation-error.js';

type Tap = Pick<typeof t, 'teardown'>;

const served = { node: 'node-2', epoch: 3, watermark: 41, askedTail: true, chainId: 1 };
const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
const path = KVService.get.path;

/** Answers by what is asked for; remembers what arrived. */
class FakeKv implements KvHandler {
  readonly operations: Operation[] = [];
  readonly left: (number | undefined)[] = [];
  /** Called for every operation, before it is answered. */
  arrived: () => void = () => undefined;
  /** What answers wait for. */
  gate: Promise<void> = Promise.resolve();
  /** A value of another size than the usual one. */
  value: Uint8Array = Buffer.from('value');

  budgetMs(leftMs: number | undefined): number {
    this.left.push(leftMs);
    return 1_000;
  }

  execute(operation: Operation): Promise<OperationResult> {
    this.operations.push(operation);
    this.arrived();
    const key = Buffer.from(operation.operation?.value.key ?? '').toString();
    if (key === 'starting') throw new KeychainError('NOT_SERVING', 'node-2 is starting');
    return this.#answer(operation, key);
  }

  async #answer(operation: Operation, key: string): Promise<OperationResult> {
    await this.gate;
    const asked = operation.operation;
    if (key === 'absent') {
      const error = new KeychainError('KEY_NOT_FOUND', 'no key “ä” 100 %', {
        key: 'ä',
        limit: '1',
      });
      return errorResult(operation.id, error);
    }
    if (key === 'fault') throw new Error('a bug');
    if (key === 'strange') return { id: 0, result: undefined };
    const numbers = { revision: 40, createRevision: 2, version: 3 };
    switch (asked?.$case) {
      case 'put':
        return { id: 0, result: { $case: 'put', value: { revision: 42, served } } };
      case 'delete':
        return {
          id: 0,
          result: { $case: 'delete', value: { revision: 43, existed: true, served } },
        };
      default:
        return {
          id: 0,
          result: { $case: 'get', value: { value: this.value, ...numbers, served } },
        };
    }
  }
}

interface Served {
  readonly kv: FakeKv;
  readonly listener: GrpcListener;
}

async function start(t: Tap, how: 'direct' | 'grpc-js'): Promise<Served> {
  const kv = new FakeKv();
  const implementation: KVServer = {
    ...kvCalls(kv, systemRandom),
    session: serveBidi(() => ({ message: () => undefined, closed: () => undefined })),
  };
  const options = {
    address: '127.0.0.1:0',
    flag: '--listen',
    services: [{ definition: KVService, implementation }],
    handshake: new Handshake({ process: 'test', clock: systemClock, refused: () => undefined }),
  };
  const direct = new DirectCalls(kv, systemRandom);
  const listener = await listen(how === 'direct' ? { ...options, direct } : options);
  listener.serving(true);
  t.teardown(() => listener.close());
  return { kv, listener };
}

function frame(message: Uint8Array, flag = 0): Buffer {
  const head = Buffer.from([flag, 0, 0, 0, 0]);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

function getOf(key: string): Buffer {
  return frame(GetRequest.encode({ key: Buffer.from(key), node: '' }).finish());
}

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly trailers: IncomingHttpHeaders;
  readonly body: Buffer;
}

interface Asked {
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly body?: readonly Buffer[];
}

function dial(t: Tap, { listener }: Served): ClientHttp2Session {
  const session = connect(`http://${listener.address}`);
  session.on('error', () => undefined);
  t.teardown(() => session.destroy());
  return session;
}

function open(
  session: ClientHttp2Session,
  headers: Asked['headers'] = {},
  endStream = false,
): ClientHttp2Stream {
  return session.request(
    {
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    },
    { endStream },
  );
}

async function ask(session: ClientHttp2Session, { headers, body = [] }: Asked): Promise<Answer> {
  const stream = open(session, headers, body.length === 0);
  const chunks: Buffer[] = [];
  let answered: IncomingHttpHeaders = {};
  let trailers: IncomingHttpHeaders = {};
  stream.on('response', (given) => {
    answered = given;
  });
  stream.on('trailers', (given) => {
    trailers = given;
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('error', () => undefined);
  const closed = closing(stream);
  for (const chunk of body) {
    await new Promise((written) => stream.write(chunk, written));
  }
  if (body.length > 0) stream.end();
  await closed;
  return { headers: answered, trailers, body: Buffer.concat(chunks) };
}

/** To be called before what may close it. */
function closing(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve));
}

/** What a client is told. */
function told({ headers, trailers, body }: Answer): object {
  const all = { ...headers, ...trailers };
  return {
    status: headers[':status'],
    type: headers['content-type'],
    code: String(all['grpc-status']),
    // The text of OK says nothing, and may be missing.
    message: String(all['grpc-status']) === '0' ? '' : all['grpc-message'],
    details: all['grpc-status-details-bin'],
    first: headers['x-keychaindb-trace-id'],
    last: trailers['x-keychaindb-trace-id'],
    isTrailersOnly: headers['grpc-status'] !== undefined,
    body: body.toString('hex'),
  };
}

const get = getOf('key');
const tooLarge = Buffer.from([0, 0xff, 0, 0, 0, 1, 2]);
const calls: Readonly<Record<string, Asked>> = {
  'a call': { body: [get] },
  'the other content type': { headers: { 'content-type': 'application/grpc+proto' }, body: [get] },
  'a content type with a suffix': {
    headers: { 'content-type': 'application/grpc;x=1' },
    body: [get],
  },
  'no content type of gRPC': { headers: { 'content-type': 'application/json' }, body: [get] },
  'a body byte by byte': { body: [...get].map((byte) => Buffer.from([byte])) },
  'a call without te': { headers: { te: undefined }, body: [get] },
  'two messages at once': { body: [Buffer.concat([get, get])] },
  'two messages one after the other': { body: [get, get] },
  'a message and a part of one': { body: [Buffer.concat([get, get.subarray(0, 7)])] },
  'a message and the head of one too large': { body: [Buffer.concat([get, tooLarge])] },
  'no body': {},
  'an empty message': { body: [frame(new Uint8Array(0))] },
  'half a message': { body: [get.subarray(0, 7)] },
  'half a head': { body: [get.subarray(0, 3)] },
  'bytes that are no message': { body: [frame(Buffer.from([0x0a, 0x7f, 1]))] },
  'a message too large': { body: [tooLarge] },
  'an absent key': { body: [getOf('absent')] },
  'a node that starts': { body: [getOf('starting')] },
  'a fault': { body: [getOf('fault')] },
  'an answer without a result': { body: [getOf('strange')] },
  'a message marked compressed without an encoding': {
    body: [frame(get.subarray(5), 1)],
  },
  'a compressed message': {
    headers: { 'grpc-encoding': 'gzip' },
    body: [frame(gzipSync(get.subarray(5)), 1)],
  },
  'an unknown encoding': { headers: { 'grpc-encoding': 'zip' }, body: [frame(get, 1)] },
  'encoding identity': { headers: { 'grpc-encoding': 'identity' }, body: [get] },
  'an unknown method': { headers: { ':path': '/keychaindb.v1.KV/Take' }, body: [get] },
  'a traced call': { headers: { traceparent, 'x-keychaindb-trace': '1' }, body: [get] },
  'a traced failure': {
    headers: { traceparent, 'x-keychaindb-trace': '1' },
    body: [getOf('absent')],
  },
  'a malformed trace': { headers: { traceparent: 'x' }, body: [get] },
  'a timeout in seconds': { headers: { 'grpc-timeout': '5S' }, body: [get] },
  'a timeout that is none': { headers: { 'grpc-timeout': 'soon' }, body: [get] },
  'a timeout of an unknown unit': { headers: { 'grpc-timeout': '5x' }, body: [get] },
  'a timeout of nine digits': { headers: { 'grpc-timeout': '123456789S' }, body: [get] },
};

t.test('a client is told what grpc-js would tell it', async (t) => {
  const direct = await start(t, 'direct');
  const plain = await start(t, 'grpc-js');
  const sessions = { direct: dial(t, direct), plain: dial(t, plain) };
  for (const [name, call] of Object.entries(calls)) {
    const ours = await ask(sessions.direct, call);
    const theirs = await ask(sessions.plain, call);
    t.same(told(ours), told(theirs), name);
  }
  const seen = ({ kv }: Served) => kv.operations.map(({ trace, operation }) => [trace, operation]);
  t.same(seen(direct), seen(plain), 'and the same operations arrived');
});

t.test('unary calls go past grpc-js, and what it alone knows goes to it', async (t) => {
  const direct = await start(t, 'direct');
  t.equal(direct.listener.isDirect, true, 'grpc-js keeps its http2 servers where we look for them');
  const session = dial(t, direct);
  // grpc-js names the encodings that it takes in every answer.
  const isOfGrpcJs = ({ headers }: Answer) => headers['grpc-accept-encoding'] !== undefined;
  t.notOk(isOfGrpcJs(await ask(session, { body: [get] })));
  t.ok(isOfGrpcJs(await ask(session, { ...calls['a compressed message'] })));
  const unbound = new Server();
  t.equal(
    offerStreams(unbound, () => true),
    0,
    'nothing is changed where nothing is found',
  );
  const plain = await start(t, 'grpc-js');
  t.equal(plain.listener.isDirect, false);
});

t.test('the deadline is what grpc-timeout leaves', async (t) => {
  const direct = await start(t, 'direct');
  const session = dial(t, direct);
  for (const timeout of ['2H', '90M', '5S', '4000m', '3000000u', '99999999n']) {
    await ask(session, { headers: { 'grpc-timeout': timeout }, body: [get] });
  }
  await ask(session, { body: [get] });
  const longest = [7_200_000, 5_400_000, 5_000, 4_000, 3_000, 99];
  const last = direct.kv.left.pop();
  t.equal(last, undefined, 'none where none is named');
  t.equal(direct.kv.left.length, longest.length);
  direct.kv.left.forEach((left, index) => {
    t.ok((left ?? Number.NaN) <= (longest[index] ?? 0), `${left} of ${longest[index]} ms`);
  });
});

t.test('a call that isn’t answered in time ends at its deadline', async (t) => {
  const direct = await start(t, 'direct');
  const session = dial(t, direct);
  direct.kv.gate = new Promise(() => undefined);
  for (const timeout of ['20m', '0S', '1u']) {
    const { headers } = await ask(session, { headers: { 'grpc-timeout': timeout }, body: [get] });
    t.match(headers, { 'grpc-status': '4', 'grpc-message': 'Deadline%20exceeded' }, timeout);
  }
  const unfinished = open(session, { 'grpc-timeout': '20m' });
  unfinished.write(get.subarray(0, 7));
  const [headers] = (await once(unfinished, 'response')) as [IncomingHttpHeaders];
  t.equal(headers['grpc-status'], '4', 'a request that doesn’t come to its end too');
  unfinished.close();
});

t.test('a call that its client cancels is answered to nobody', async (t) => {
  const direct = await start(t, 'direct');
  const session = dial(t, direct);
  const { promise: gate, release } = gated();
  direct.kv.gate = gate;
  const arrived = new Promise<void>((resolve) => {
    direct.kv.arrived = resolve;
  });
  const timers = (): number =>
    process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const stream = open(session, { 'grpc-timeout': '1M' });
  stream.on('error', () => undefined);
  stream.end(get);
  await arrived;
  stream.close(8);
  await closing(stream);
  const halfway = open(session, {});
  halfway.on('error', () => undefined);
  halfway.write(get.subarray(0, 7));
  halfway.close(8);
  await closing(halfway);
  release();
  const next = await ask(session, { body: [get] });
  t.equal(next.trailers['grpc-status'], '0', 'the connection goes on');
  t.equal(timers(), before, 'nothing waits for its deadline any more');
  t.equal(direct.kv.operations.length, 2, 'what was cut off halfway did not run');
});

t.test('who closes finishes what it took', async (t) => {
  const direct = await start(t, 'direct');
  const session = dial(t, direct);
  const { promise: gate, release } = gated();
  direct.kv.gate = gate;
  const arrived = new Promise<void>((resolve) => {
    direct.kv.arrived = resolve;
  });
  const asked = ask(session, { body: [get] });
  await arrived;
  const closed = direct.listener.close();
  await once(session, 'goaway');
  release();
  t.equal((await asked).trailers['grpc-status'], '0');
  await closed;
});

t.test('a client of grpc-js sees no difference', async (t) => {
  const direct = await start(t, 'direct');
  const client = new KVClient(direct.listener.address, ChannelCredentials.createInsecure(), {
    'grpc.max_receive_message_length': messageBytesMax,
  });
  t.teardown(() => client.close());
  const key = Buffer.from('key');
  const value = Buffer.alloc(1 << 20, 'v');
  const put = await new Promise((resolve, reject) => {
    client.put({ key, value, request: undefined }, (error, response) =>
      error === null ? resolve(response) : reject(error),
    );
  });
  t.same(put, { revision: 42, served });
  const arrived = direct.kv.operations[0]?.operation?.value;
  t.ok(arrived !== undefined && 'value' in arrived && value.equals(arrived.value));
  direct.kv.value = value;
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent);
  metadata.set('x-keychaindb-trace', '1');
  const got = await new Promise<GetResponse>((resolve, reject) => {
    const call = client.get(
      { key, node: '' },
      metadata,
      { deadline: Date.now() + 10_000 },
      (error, r) => (error === null ? resolve(r) : reject(error)),
    );
    call.on('metadata', (given: Metadata) => {
      t.same(given.get('x-keychaindb-trace-id'), [traceparent.slice(3, 35)]);
    });
  });
  t.ok(value.equals(got.value));
  t.equal(formatTraceparent(direct.kv.operations[1]?.trace ?? key), traceparent);
  const deleted = await new Promise((resolve, reject) => {
    client.delete({ key, request: undefined }, (error, response) =>
      error === null ? resolve(response) : reject(error),
    );
  });
  t.same(deleted, { revision: 43, existed: true, served });
  const failure = await new Promise<ServiceError | null>((resolve) => {
    client.get({ key: Buffer.from('absent'), node: '' }, (error) => resolve(error));
  });
  t.match(failure === null ? undefined : fromServiceError(failure), {
    reason: 'KEY_NOT_FOUND',
    message: 'no key “ä” 100 %',
    metadata: { key: 'ä', limit: '1' },
  });
});

t.test('an answer larger than a message may be is refused as grpc-js does', async (t) => {
  const answers: object[] = [];
  for (const how of ['direct', 'grpc-js'] as const) {
    const server = await start(t, how);
    server.kv.value = new Uint8Array(messageBytesMax);
    const answer = await ask(dial(t, server), { body: [get] });
    t.match(answer.headers, { 'grpc-status': '8' }, how);
    answers.push({ ...told(answer), message: undefined });
    server.kv.value = Buffer.from('small');
    const next = await ask(dial(t, server), { body: [get] });
    t.equal(GetResponse.decode(next.body.subarray(5)).value.toString(), server.kv.value.toString());
  }
  t.same(answers[0], answers[1]);
});

function gated(): { readonly promise: Promise<void>; readonly release: () => void } {
  let release = (): void => undefined;
  const promise = new Promise<void>((resolve) => {
    release = resolve;
  });
  return { promise, release: () => release() };
}

t.test(
  'large values that nobody fetches are not held, and all are answered in the end',
  async (t) => {
    const served = await start(t, 'direct');
    served.kv.value = Buffer.alloc(1 << 20);
    const session = dial(t, served);
    const streams = Array.from({ length: 150 }, () => {
      const stream = open(session);
      stream.on('error', () => undefined);
      stream.end(getOf('k'));
      return stream;
    });
    const heads = streams.map((stream) => once(stream, 'response'));
    let answered = 0;
    for (const head of heads) void head.then(() => (answered += 1));
    await Promise.race([Promise.all(heads.slice(0, 63)), Promise.all(heads)]);
    while (served.kv.operations.length < 150) await new Promise(setImmediate);
    t.equal(answered, 63, 'as many as fit into 64 MiB: none of them is read');
    const gone = streams.slice(100).map((stream) => {
      stream.close();
      return closing(stream);
    });
    await Promise.all(gone);
    const bytes = await Promise.all(
      streams.slice(0, 100).map(async (stream) => {
        let count = 0;
        stream.on('data', (chunk: Buffer) => {
          count += chunk.byteLength;
        });
        await closing(stream);
        return count;
      }),
    );
    t.ok(
      bytes.every((count) => count > 1 << 20),
      'those that wait on are answered when there is room',
    );
    t.ok(served.kv.operations.length > 150, 'asked for again: their values were not kept');
  },
);

t.test('who gives up while it waits for room lets the others in', async (t) => {
  const served = await start(t, 'direct');
  served.kv.value = Buffer.alloc(4 << 20);
  const session = dial(t, served);
  const ask = (headers = {}): ClientHttp2Stream => {
    const stream = open(session, headers);
    stream.on('error', () => undefined);
    stream.end(getOf('k'));
    return stream;
  };
  const first = Array.from({ length: 15 }, () => ask());
  await Promise.all(first.map((stream) => once(stream, 'response')));
  const late = Array.from({ length: 5 }, () => ask({ 'grpc-timeout': '20m' }));
  const told = await Promise.all(late.map((stream) => once(stream, 'response')));
  t.same(
    told.map(([headers]) => headers['grpc-status']),
    ['4', '4', '4', '4', '4'],
    'DEADLINE_EXCEEDED',
  );
  const last = ask();
  for (const stream of [...first, last]) stream.resume();
  await Promise.all([...first, last].map(closing));
  t.pass('all are answered');
});

t.test('large values of compressed calls that nobody fetches are refused', async (t) => {
  const served = await start(t, 'direct');
  served.kv.value = Buffer.alloc(1 << 20);
  const session = dial(t, served);
  const compressed = frame(gzipSync(get.subarray(5)), 1);
  const ask = (from: ClientHttp2Session): ClientHttp2Stream => {
    const stream = open(from, { 'grpc-encoding': 'gzip', 'grpc-timeout': '1M' });
    stream.on('error', () => undefined);
    stream.end(compressed);
    return stream;
  };
  const codeOf = async (stream: ClientHttp2Stream): Promise<string> => {
    const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    return String(headers['grpc-status']);
  };
  const streams = Array.from({ length: 100 }, () => ask(session));
  const codes = await Promise.all(streams.map(codeOf));
  t.equal(codes.filter((code) => code === '8').length, 36, 'what is more than 64 MiB');
  const other = dial(t, served);
  t.equal(await codeOf(ask(other)), 'undefined', 'another connection has room of its own');
  const held = streams.filter((_, index) => codes[index] !== '8');
  const [gone, read] = [held.slice(0, 10), held.slice(10, 20)];
  const ended = [...gone, ...read].map(closing);
  for (const stream of gone) stream.close(8);
  for (const stream of read) stream.resume();
  await Promise.all(ended);
  // Whoever closed a stream hears of it before the server does.
  while ((await codeOf(ask(session))) === '8') await new Promise(setImmediate);
  const next = await Promise.all(Array.from({ length: 30 }, () => codeOf(ask(session))));
  t.equal(next.filter((code) => code !== '8').length, 19, 'those that are gone, and those read');
});

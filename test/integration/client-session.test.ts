import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import t from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { KeychainError } from '../../src/base/errors.js';
import { messageBytesMax } from '../../src/base/limits.js';
import { connect } from '../../src/client/client.js';
import {
  KVService,
  type Operation,
  type OperationResult,
  type SessionRequest,
  type SessionResponse,
} from '../../src/gen/keychaindb/v1/kv.js';
import { formatTraceparent } from '../../src/telemetry/trace-context.js';
import type { Channel } from '../../src/wire/channel.js';
import { serveBidi } from '../../src/wire/grpc-channel.js';
import { errorResult } from '../../src/wire/operation-error.js';
import { refusal } from '../refusal.js';

/** A server of KV.Session over real gRPC that keeps what it is told in memory. */
class MemoryServer {
  readonly values = new Map<string, Uint8Array>();
  readonly streams: Channel<SessionResponse>[] = [];
  /** Sizes of the messages that came. */
  readonly messages: number[] = [];
  readonly operations: Operation[] = [];
  /** Answers to operations on the silent key wait here. */
  readonly waiting: (() => void)[] = [];
  silentKey = '';
  readonly #server = new Server({
    'grpc.max_receive_message_length': messageBytesMax,
    'grpc.max_send_message_length': messageBytesMax,
  });
  address = '';

  static async start(): Promise<MemoryServer> {
    const server = new MemoryServer();
    const session = serveBidi<SessionResponse, SessionRequest>((channel) => {
      server.streams.push(channel);
      return {
        message: ({ operations }) => server.#take(channel, operations),
        closed: () => undefined,
      };
    });
    const refuse = (): never => {
      throw new Error('only sessions are served here');
    };
    server.#server.addService(KVService, { get: refuse, put: refuse, delete: refuse, session });
    const port = await new Promise<number>((resolve, reject) => {
      const credentials = ServerCredentials.createInsecure();
      server.#server.bindAsync('127.0.0.1:0', credentials, (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
    server.address = `127.0.0.1:${port}`;
    return server;
  }

  /** Takes no new streams; resolves when those that there are have ended. */
  close(): Promise<void> {
    return new Promise((resolve) => this.#server.tryShutdown(() => resolve()));
  }

  /** Ends every connection at once. */
  kill(): void {
    this.#server.forceShutdown();
  }

  speak(): void {
    this.silentKey = '';
    for (const answer of this.waiting.splice(0)) answer();
  }

  #take(channel: Channel<SessionResponse>, operations: readonly Operation[]): void {
    this.messages.push(operations.length);
    this.operations.push(...operations);
    // Each in its own message: all large values together would not fit in one.
    for (const operation of operations) {
      const result = this.#run(operation);
      const answer = (): void => {
        channel.send({ results: [result], view: undefined });
      };
      const key = Buffer.from(operation.operation?.value.key ?? []).toString();
      if (key === this.silentKey) this.waiting.push(answer);
      else answer();
    }
  }

  #run({ id, operation }: Operation): OperationResult {
    const served = undefined;
    const key = Buffer.from(operation?.value.key ?? []).toString();
    switch (operation?.$case) {
      case 'get': {
        const value = this.values.get(key);
        if (value === undefined) {
          return errorResult(id, new KeychainError('KEY_NOT_FOUND', 'there is no such key'));
        }
        const numbers = { revision: 1, createRevision: 1, version: 1 };
        return { id, result: { $case: 'get', value: { value, ...numbers, served } } };
      }
      case 'put':
        if (key === 'bad') return errorResult(id, new KeychainError('NO_CHAIN', 'no chain yet'));
        this.values.set(key, operation.value.value);
        return { id, result: { $case: 'put', value: { revision: 1, served } } };
      default: {
        const existed = this.values.delete(key);
        return { id, result: { $case: 'delete', value: { revision: 1, existed, served } } };
      }
    }
  }
}

t.test('concurrent operations share one stream, and each gets its own answer', async (t) => {
  const server = await MemoryServer.start();
  const client = connect({ endpoints: [server.address] });
  const keys = Array.from({ length: 256 }, (_, i) => `key ${i}`);
  await Promise.all(keys.map((key) => client.put(key, `value of ${key}`)));
  const found = await Promise.all(keys.map((key) => client.get(key)));
  t.strictSame(
    found.map((response) => Buffer.from(response?.value ?? []).toString()),
    keys.map((key) => `value of ${key}`),
  );
  t.equal(server.streams.length, 1);
  t.strictSame(server.messages, [256, 256]);
  t.equal((await client.delete('key 1')).existed, true);
  t.equal(await client.get('key 1'), undefined);
  await t.rejects(client.put('bad', 'x'), refusal('NO_CHAIN'));
  client.close();
  await server.close();
});

t.test('large values stay under the limit of a message', async (t) => {
  const server = await MemoryServer.start();
  const client = connect({ endpoints: [server.address], timeoutMs: 60_000 });
  const value = Buffer.alloc(1 << 20, 'v');
  const keys = Array.from({ length: 20 }, (_, i) => `${i}`);
  await Promise.all(keys.map((key) => client.put(key, value)));
  const found = await Promise.all(keys.map((key) => client.get(key)));
  t.ok(found.every((response) => response !== undefined && value.equals(response.value)));
  const tooLarge = client.put('more', Buffer.alloc(messageBytesMax));
  await t.rejects(tooLarge, refusal('VALUE_TOO_LARGE'));
  t.equal(server.streams.length, 1, 'no message was too large for the stream');
  client.close();
  await server.close();
});

t.test('an operation carries its trace and the time that it has', async (t) => {
  const server = await MemoryServer.start();
  const client = connect({ endpoints: [server.address] });
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  await client.put('a', 'b', { traceparent, timeoutMs: 20_000 });
  await client.get('a');
  const [traced, plain] = server.operations;
  t.equal(formatTraceparent(traced?.trace ?? Buffer.alloc(0)), traceparent);
  t.equal(plain?.trace.byteLength, 0);
  t.ok((traced?.timeoutMs ?? 0) > 10_000 && (traced?.timeoutMs ?? 0) < 20_000);
  client.close();
  await server.close();
});

t.test('a proxy that shuts down answers what it has, and the next takes what comes', async (t) => {
  const [first, second] = [await MemoryServer.start(), await MemoryServer.start()];
  // No attempt takes long here.
  const clock: Clock = {
    ...systemClock,
    after: (ms, then) => (ms < 1_000 ? systemClock.after(ms, then) : () => undefined),
  };
  const endpoints = [first.address, second.address];
  const client = connect({ endpoints, timeoutMs: 30_000, clock });
  await client.put('a', '1');
  first.silentKey = 'b';
  const begun = client.put('b', '2');
  while (first.waiting.length === 0) await new Promise(setImmediate);
  const closed = first.close();
  // The news that it goes away is on its way to the client.
  while (!second.values.has('c')) await client.put('c', '3');
  first.speak();
  await begun;
  await closed;
  t.ok(first.values.has('b'));
  t.notOk(second.values.has('b'), 'it was not sent twice');
  client.close();
  await second.close();
});

t.test('when a proxy dies, what it had is asked again at the next one', async (t) => {
  const [first, second] = [await MemoryServer.start(), await MemoryServer.start()];
  const client = connect({ endpoints: [first.address, second.address], timeoutMs: 30_000 });
  first.silentKey = 'b';
  const writes = Array.from({ length: 100 }, () => client.put('b', '2'));
  while (first.waiting.length < 100) await new Promise(setImmediate);
  first.kill();
  await Promise.all(writes);
  const [before, after] = [first, second].map(({ operations }) =>
    operations.map(({ operation }) => (operation?.$case === 'put' ? operation.value.request : '')),
  );
  t.strictSame(
    new Set(after?.map((request) => JSON.stringify(request))),
    new Set(before?.map((request) => JSON.stringify(request))),
    'under the same request ids',
  );
  client.close();
  await second.close();
});

t.test('closing the client ends what is in flight', async (t) => {
  const server = await MemoryServer.start();
  server.silentKey = 'a';
  const client = connect({ endpoints: [server.address] });
  const write = t.rejects(client.put('a', 'b'), refusal('OUTCOME_UNKNOWN'));
  const read = t.rejects(client.get('a'), refusal('SHUTTING_DOWN'));
  while (server.waiting.length === 0) await new Promise(setImmediate);
  client.close();
  await Promise.all([write, read]);
  await t.rejects(client.get('a'), refusal('SHUTTING_DOWN'));
  await server.close();
});

t.test('closing the client beside any call ends that call, and nothing else', async (t) => {
  const server = await MemoryServer.start();
  const client = connect({ endpoints: [server.address] });
  await client.put('a', 'b');
  await t.rejects(client.setLogLevel('info'), 'there is no such service here');
  const trace = t.rejects(client.trace('00'), refusal('SHUTTING_DOWN'));
  const level = t.rejects(client.setLogLevel('info'), refusal('SHUTTING_DOWN'));
  const members = t.rejects(client.members(), KeychainError);
  client.close();
  await Promise.all([trace, level, members]);
  await t.rejects(client.members(), refusal('SHUTTING_DOWN'), 'it stays closed');
  await server.close();
});

t.test('a trace context that is no text is none, and costs no write its id', async (t) => {
  const server = await MemoryServer.start();
  const client = connect({ endpoints: [server.address] });
  const traceparent = null as unknown as string;
  await client.put('a', 'b', { traceparent });
  t.equal(server.operations.at(-1)?.trace.byteLength, 0);
  client.close();
  await server.close();
});

t.test('what could not be encoded is refused, and ends nothing', async (t) => {
  const server = await MemoryServer.start();
  const client = connect({ endpoints: [server.address] });
  await client.put('a', 'b');
  const wrong = 7 as unknown as string;
  await t.rejects(client.put('a', wrong), refusal('BAD_REQUEST'));
  await t.rejects(client.get(wrong), refusal('BAD_REQUEST'));
  await t.rejects(client.get('a', { node: wrong }), refusal('BAD_REQUEST'));
  await t.rejects(client.get('a', { timeoutMs: Number.NaN }), refusal('BAD_REQUEST'));
  await client.put('a', 'c');
  t.equal(server.streams.length, 1);
  client.close();
  await server.close();
});

t.test('a process ends that leaves its client open and idle', async (t) => {
  const server = await MemoryServer.start();
  const module = fileURLToPath(new URL('../../src/client/client.js', import.meta.url));
  const program = `const { connect } = await import(${JSON.stringify(module)});
    await connect({ endpoints: [${JSON.stringify(server.address)}] }).put('from a script', 'x');`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: 'inherit',
  });
  t.strictSame(await once(child, 'exit'), [0, null]);
  t.ok(server.values.has('from a script'));
  await server.close();
});

import { request } from 'node:http';
import { ChannelCredentials } from '@grpc/grpc-js';
import t from 'tap';
import { KVClient } from '../../src/gen/keychaindb/v1/kv.js';
import { Lab } from '../../tools/lab/cluster.js';
import { differencesFromReplay, inspectNode } from '../../tools/lab/inspect.js';
import { refusal } from '../refusal.js';

/** One cluster for the whole file. */
const lab = await Lab.start();
t.teardown(() => lab.stop());
const [proxy] = lab.of('proxy');
const http = proxy?.http ?? '';
const client = lab.client();

const keys = 10_000;
const bodyOf = (i: number): Buffer => Buffer.alloc(500, `value ${i} `);

async function inParallel(count: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

interface Reply {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: Buffer;
}

/** The path goes out as it is: nothing normalises it. */
function ask(
  method: string,
  path: string,
  options: { readonly body?: Uint8Array | string; readonly headers?: NodeJS.Dict<string> } = {},
): Promise<Reply> {
  const [host, port] = http.split(':');
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, method, path, headers: options.headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks),
        }),
      );
    });
    sent.on('error', reject);
    sent.end(options.body);
  });
}

const raw = { 'content-type': 'application/octet-stream' };

t.test('ten thousand keys are read back from every node, the tail unasked', async (t) => {
  await inParallel(keys, async (i) => {
    if (i % 2 === 0) {
      await client.put(`many/${i}`, bodyOf(i));
      return;
    }
    const reply = await ask('PUT', `/v1/keys/many/${i}`, { body: bodyOf(i), headers: raw });
    if (reply.status !== 200) throw new Error(`${reply.status} ${reply.body.toString()}`);
  });
  const tail = lab.of('node').at(-1)?.grpc ?? '';
  const before = await inspectNode(tail, false);
  for (const { id } of lab.of('node')) {
    let right = 0;
    await inParallel(keys, async (i) => {
      const read = await client.get(`many/${i}`, { node: id });
      const isRight =
        read !== undefined && bodyOf(i).equals(read.value) && read.served?.node === id;
      if (isRight) right += 1;
    });
    t.equal(right, keys, id);
  }
  const after = await inspectNode(tail, false);
  t.equal(after.queriesAnswered, before.queriesAnswered, 'the tail was asked for nothing');
});

const largestKey = Buffer.alloc(4_096, 'k');
const oddKeys: readonly [name: string, key: Buffer, path: string][] = [
  ['of 4 KiB', largestKey, 'k'.repeat(4_096)],
  ['a/b', Buffer.from('a/b'), 'a/b'],
  ['a//b', Buffer.from('a//b'), 'a//b'],
  ['%2F', Buffer.from('%2F'), '%252F'],
  ['/', Buffer.from('/'), '%2F'],
  ['one byte 0xFF', Buffer.from([0xff]), '%FF'],
];

for (const [name, key, path] of oddKeys) {
  t.test(`the key ${name} goes in and comes back every way`, async (t) => {
    const base64 = key.toString('base64');
    await client.put(key, 'by gRPC');
    t.equal(
      (
        await ask('GET', `/v1/keys/${path}`, { headers: { accept: raw['content-type'] } })
      ).body.toString(),
      'by gRPC',
    );
    t.equal((await ask('PUT', `/v1/keys/${path}`, { body: 'raw', headers: raw })).status, 200);
    t.equal(Buffer.from((await client.get(key))?.value ?? []).toString(), 'raw');
    const json = JSON.stringify({
      keyBase64: base64,
      value: Buffer.from('json').toString('base64'),
    });
    t.equal((await ask('POST', '/v1/keys', { body: json })).status, 200);
    const read = await ask('GET', `/v1/keys/${path}`);
    const { value } = JSON.parse(read.body.toString()) as { value: string };
    t.equal(Buffer.from(value, 'base64').toString(), 'json');
    t.equal((await ask('DELETE', `/v1/keys/${path}`)).status, 200);
    t.equal(await client.get(key), undefined);
  });
}

t.test(
  'a value of exactly the limit goes in and comes back; one byte more is refused',
  async (t) => {
    const largest = Buffer.alloc(1 << 20, 7);
    await client.put('largest', largest);
    const read = await client.get('largest');
    t.ok(largest.equals(read?.value ?? Buffer.alloc(0)), 'over gRPC');
    t.equal((await ask('PUT', '/v1/keys/largest', { body: largest, headers: raw })).status, 200);
    const json = JSON.stringify({ key: 'largest', value: largest.toString('base64') });
    t.equal((await ask('POST', '/v1/keys', { body: json })).status, 200);
    const more = Buffer.alloc(largest.byteLength + 1, 7);
    const limit = { limit: '1048576', actual: '1048577', flag: '--value-bytes-max' };
    await t.rejects(client.put('largest', more), refusal('VALUE_TOO_LARGE', limit));
    const reply = await ask('PUT', '/v1/keys/largest', { body: more, headers: raw });
    t.equal(reply.status, 400);
    t.match(JSON.parse(reply.body.toString()), {
      code: 3,
      details: [{ reason: 'VALUE_TOO_LARGE', metadata: limit }],
    });
    const longKey = Buffer.alloc(4_097, 'k');
    await t.rejects(
      client.put(longKey, 'x'),
      refusal('KEY_TOO_LARGE', { limit: '4096', actual: '4097' }),
    );
    await t.rejects(client.put('', 'x'), refusal('KEY_EMPTY'));
    t.ok(
      largest.equals((await client.get('largest'))?.value ?? Buffer.alloc(0)),
      'nothing was lost',
    );
  },
);

t.test('malformed bodies and unknown routes are told apart', async (t) => {
  const cases: readonly [string, string, string, number, string][] = [
    ['POST', '/v1/keys', '{"key":', 400, 'BAD_REQUEST'],
    ['POST', '/v1/keys', '{"key":"a","value":"*"}', 400, 'BAD_REQUEST'],
    ['GET', '/v1/nothing', '', 404, 'ROUTE_NOT_FOUND'],
    ['GET', '/v1/keys/absent', '', 404, 'KEY_NOT_FOUND'],
    ['GET', '/v1/keys/', '', 400, 'KEY_EMPTY'],
    ['DELETE', '/v1/chain/members/none', '', 404, 'MEMBER_NOT_FOUND'],
    ['POST', '/v1/chain/members', '{"id":"node-1","address":"127.0.0.1:1"}', 400, 'MEMBER_EXISTS'],
    [
      'POST',
      '/v1/chain/members',
      `{"id":"node-9","address":"${lab.named('node-1').grpc}"}`,
      400,
      'ADDRESS_IN_USE',
    ],
  ];
  for (const [method, path, body, status, reason] of cases) {
    const reply = await ask(method, path, { body });
    t.equal(reply.status, status, `${method} ${path}`);
    t.match(JSON.parse(reply.body.toString()), { details: [{ reason, domain: 'keychaindb' }] });
  }
});

t.test('the bare generated stub reads, writes and deletes', async (t) => {
  const stub = new KVClient(proxy?.grpc ?? '', ChannelCredentials.createInsecure());
  t.teardown(() => stub.close());
  const key = Buffer.from('bare');
  const put = await new Promise<number>((resolve, reject) => {
    stub.put({ key, value: Buffer.from('stub'), request: undefined }, (error, response) =>
      error === null ? resolve(response.revision) : reject(error),
    );
  });
  const got = await new Promise<{ value: Uint8Array; revision: number }>((resolve, reject) => {
    stub.get({ key, node: '' }, (error, response) =>
      error === null ? resolve(response) : reject(error),
    );
  });
  t.equal(Buffer.from(got.value).toString(), 'stub');
  t.equal(got.revision, put);
  const existed = await new Promise<boolean>((resolve, reject) => {
    stub.delete({ key, request: undefined }, (error, response) =>
      error === null ? resolve(response.existed) : reject(error),
    );
  });
  t.equal(existed, true);
});

t.test('a write sent again with its request id is applied once', async (t) => {
  const headers = { ...raw, 'x-keychaindb-request-id': `${'ab'.repeat(16)}:1` };
  const first = await ask('PUT', '/v1/keys/once', { body: 'first', headers });
  const second = await ask('PUT', '/v1/keys/once', { body: 'first', headers });
  t.equal(first.status, 200);
  t.equal(
    (JSON.parse(first.body.toString()) as { revision: string }).revision,
    (JSON.parse(second.body.toString()) as { revision: string }).revision,
  );
});

t.test('only the head takes writes; a node says who it is', async (t) => {
  const stub = new KVClient(lab.named('node-3').grpc, ChannelCredentials.createInsecure());
  t.teardown(() => stub.close());
  const error = await new Promise<Error | null>((resolve) => {
    stub.put({ key: Buffer.from('k'), value: Buffer.from('v'), request: undefined }, (refused) =>
      resolve(refused),
    );
  });
  t.match(error, { code: 14 });
});

t.test('every state is the replay of its log', async (t) => {
  t.same(await differencesFromReplay(lab), []);
});

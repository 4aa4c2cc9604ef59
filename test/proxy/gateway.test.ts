import { type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { NEVER } from 'rxjs';
import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { KeychainError } from '../../src/base/errors.js';
import { systemRandom } from '../../src/base/random.js';
import { MemberState, NodeStatus, type View } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { Operation, OperationResult } from '../../src/gen/keychaindb/v1/kv.js';
import { type GatewayHandle, startGateway } from '../../src/proxy/gateway.js';
import { routes } from '../../src/proxy/routes.js';
import type { ProxyHandle } from '../../src/proxy/runtime.js';
import { initialState } from '../../src/proxy/state.js';
import type { ClusterVerbs } from '../../src/retry/cluster-verbs.js';
import { errorResult } from '../../src/wire/operation-error.js';
import { validateOperation } from '../../src/wire/validate.js';
import { refusal } from '../refusal.js';
import { memberOf, viewOf } from './views.js';

const servedBy = (node: string) => ({ node, epoch: 3, watermark: 41, askedTail: true, chainId: 1 });
/** What node-1 said last. */
const heard = { ...NodeStatus.decode(noBytes), id: 'node-1', incarnation: 1 };
const limits = { keyBytesMax: 64, valueBytesMax: 300_000 };

interface Fake {
  readonly gateway: GatewayHandle;
  readonly operations: Operation[];
  readonly changes: string[];
  /** Answers in place of the usual ones. */
  refusal: KeychainError | undefined;
  /** The id of the node that answers. */
  node: string;
  view: View | undefined;
}

function resultOf(operation: Operation, node: string): OperationResult['result'] {
  const served = servedBy(node);
  const asked = operation.operation;
  switch (asked?.$case) {
    case 'get': {
      const value = new Uint8Array([0xff, 0x00, 0x10]);
      return {
        $case: 'get',
        value: { value, revision: 40, createRevision: 2, version: 3, served },
      };
    }
    case 'put':
      return { $case: 'put', value: { revision: 42, served } };
    default:
      return { $case: 'delete', value: { revision: 43, existed: false, served } };
  }
}

async function startFake(t: Tap, clock: Clock = systemClock): Promise<Fake> {
  const fake: Omit<Fake, 'gateway'> = {
    operations: [],
    changes: [],
    refusal: undefined,
    node: 'node-2',
    view: viewOf(3, ['node-1']),
  };
  const proxy: ProxyHandle = {
    execute(operation) {
      const error = validateOperation(operation, limits) ?? fake.refusal;
      if (error !== undefined) return Promise.resolve(errorResult(operation.id, error));
      fake.operations.push(operation);
      return Promise.resolve({ id: operation.id, result: resultOf(operation, fake.node) });
    },
    get view() {
      return fake.view;
    },
    view$: NEVER,
    state: initialState(new Uint8Array(16)),
    close: () => Promise.resolve(),
  };
  const cluster: ClusterVerbs = {
    members: () =>
      Promise.resolve({
        ...viewOf(7, ['node-1', 'node-2'], ['node-9']),
        members: [
          memberOf('node-1', MemberState.LASTSRV),
          memberOf('node-2', MemberState.SERVING),
          memberOf('node-3', MemberState.JOINING),
        ],
      }),
    status: () =>
      Promise.resolve({
        members: { 'c-1': 'h:1' },
        coordinators: [],
        heard: [],
        leader: 'c-1',
        term: 4,
      }),
    addMember({ id, address, spare, expectedEpoch }) {
      fake.changes.push(`add ${id} ${address}${spare ? ' as a spare' : ''}${at(expectedEpoch)}`);
      return Promise.resolve();
    },
    removeMember({ id, expectedEpoch }) {
      fake.changes.push(`remove ${id}${at(expectedEpoch)}`);
      return id === 'none'
        ? Promise.reject(new KeychainError('MEMBER_NOT_FOUND', 'none is not a member'))
        : Promise.resolve();
    },
    chainStatus: () =>
      Promise.resolve({ view: viewOf(7, ['node-1'], ['node-9']), nodes: [heard], refused: [] }),
    joinCluster(id, address) {
      fake.changes.push(`join ${id} ${address}`);
      return Promise.resolve();
    },
    removeFromCluster(id) {
      fake.changes.push(`leave ${id}`);
      return Promise.resolve();
    },
    transferLeadership: (id) => Promise.resolve(id === '' ? 'c-2' : id),
    snapshotCluster: () => Promise.reject(new Error('not asked here')),
    follow: () => undefined,
    drainMember({ id, expectedEpoch }) {
      fake.changes.push(`drain ${id}${at(expectedEpoch)}`);
      return Promise.resolve();
    },
    reorderChain({ ids, expectedEpoch }) {
      fake.changes.push(`reorder ${ids.join()}${at(expectedEpoch)}`);
      return Promise.resolve();
    },
    recoverChain({ id, lostIds, expectedEpoch }) {
      fake.changes.push(`recover ${id} without ${lostIds.join()}${at(expectedEpoch)}`);
      return Promise.resolve();
    },
    setChainLength({ length, expectedEpoch }) {
      fake.changes.push(`length ${length}${at(expectedEpoch)}`);
      return Promise.resolve();
    },
    close: () => undefined,
  };
  const gateway = await startGateway({
    host: '127.0.0.1',
    port: 0,
    clock,
    proxy,
    cluster,
    random: systemRandom,
    limits,
  });
  t.teardown(() => gateway.close());
  return Object.assign(fake, { gateway });
}

/** The epoch that a change expects. */
const at = (epoch: number): string => (epoch === 0 ? '' : ` at ${epoch}`);

type Tap = Pick<typeof t, 'teardown'>;

interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly raw: Buffer;
  readonly body: unknown;
}

/** One request; the path goes out as it is. */
function ask(
  fake: Fake,
  method: string,
  path: string,
  options: { readonly body?: string | Uint8Array; readonly headers?: Record<string, string> } = {},
): Promise<Reply> {
  const [host, port] = fake.gateway.address.split(':');
  return new Promise((resolve, reject) => {
    const sent = request({
      host,
      port,
      method,
      path,
      headers: { connection: 'keep-alive', ...options.headers },
      agent: false,
    });
    sent.on('error', reject);
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const raw = Buffer.concat(chunks);
        const isJson = response.headers['content-type'] === 'application/json';
        const body: unknown = isJson ? JSON.parse(raw.toString()) : raw.toString();
        resolve({ status: response.statusCode ?? 0, headers: response.headers, raw, body });
      });
    });
    sent.end(options.body);
  });
}

const servedJson = { node: 'node-2', epoch: '3', watermark: '41', askedTail: true, chainId: 1 };
const raw = { 'content-type': 'application/octet-stream' };

function keyOf(operation: Operation | undefined): string {
  return Buffer.from(operation?.operation?.value.key ?? []).toString('hex');
}

t.test('a read answers with proto3 JSON', async (t) => {
  const fake = await startFake(t);
  const reply = await ask(fake, 'GET', '/v1/keys/greeting?node=node-2');
  t.equal(reply.status, 200);
  t.same(reply.body, {
    value: '/wAQ',
    revision: '40',
    createRevision: '2',
    version: '3',
    served: servedJson,
  });
  t.match(fake.operations[0], {
    timeoutMs: 5_000,
    operation: { $case: 'get', value: { node: 'node-2' } },
  });
});

t.test('a raw read answers with the bytes and headers', async (t) => {
  const fake = await startFake(t);
  const reply = await ask(fake, 'GET', '/v1/keys/k', {
    headers: { accept: 'application/octet-stream' },
  });
  t.same([...reply.raw], [0xff, 0x00, 0x10]);
  t.match(reply.headers, {
    'content-type': 'application/octet-stream',
    'x-keychaindb-revision': '40',
    'x-keychaindb-create-revision': '2',
    'x-keychaindb-version': '3',
    'x-keychaindb-node': 'node-2',
    'x-keychaindb-epoch': '3',
    'x-keychaindb-watermark': '41',
    'x-keychaindb-asked-tail': 'true',
    'x-keychaindb-chain-id': '1',
  });
});

t.test('an answer that no header can say is a fault of its request alone', async (t) => {
  const fake = await startFake(t);
  fake.node = 'nπ';
  const octets = { headers: { accept: 'application/octet-stream' } };
  t.match(await ask(fake, 'GET', '/v1/keys/k', octets), {
    status: 500,
    body: { details: [{ reason: 'INTERNAL' }] },
  });
  fake.node = 'node-2';
  t.equal((await ask(fake, 'GET', '/v1/keys/k', octets)).status, 200);
});

t.test('a key is every byte after the route, decoded once and not normalised', async (t) => {
  const fake = await startFake(t);
  const cases = {
    'a//b': Buffer.from('a//b').toString('hex'),
    'a/../b/.': Buffer.from('a/../b/.').toString('hex'),
    '%2F%2f': '2f2f',
    '%FF%00': 'ff00',
    '%2541': Buffer.from('%41').toString('hex'),
    'a+b%20c': Buffer.from('a+b c').toString('hex'),
    '%C3%A9': 'c3a9',
    '/': '2f',
  };
  for (const [path, hex] of Object.entries(cases)) {
    const reply = await ask(fake, 'GET', `/v1/keys/${path}`);
    t.equal(reply.status, 200, path);
    t.equal(keyOf(fake.operations.at(-1)), hex, path);
  }
  for (const path of ['%', '%4', '%zz', 'a%4']) {
    t.match(await ask(fake, 'GET', `/v1/keys/${path}`), {
      status: 400,
      body: { code: 3, details: [{ reason: 'BAD_REQUEST', metadata: { field: 'key' } }] },
    });
  }
});

t.test('a write takes JSON and bytes', async (t) => {
  const fake = await startFake(t);
  const body = JSON.stringify({ key: 'é', value: '/wA=' });
  const posted = await ask(fake, 'POST', '/v1/keys', { body });
  t.same([posted.status, posted.body], [200, { revision: '42', served: servedJson }]);
  await ask(fake, 'POST', '/v1/keys', { body: JSON.stringify({ keyBase64: '_w', value: '' }) });
  await ask(fake, 'PUT', '/v1/keys/k%2F', { body: new Uint8Array([1, 2]), headers: raw });
  await ask(fake, 'PUT', '/v1/keys/k', { body: JSON.stringify({ value: 'AQI=' }) });
  const writes = fake.operations.map(({ operation }) =>
    operation?.$case === 'put'
      ? [operation.value.key, operation.value.value].map((bytes) =>
          Buffer.from(bytes).toString('hex'),
        )
      : [],
  );
  t.same(writes, [
    ['c3a9', 'ff00'],
    ['ff', ''],
    ['6b2f', '0102'],
    ['6b', '0102'],
  ]);
});

t.test('a delete says whether the key existed', async (t) => {
  const fake = await startFake(t);
  const reply = await ask(fake, 'DELETE', '/v1/keys/k');
  t.same(reply.body, { revision: '43', existed: false, served: servedJson });
});

t.test('a body that is wrong is answered with the field', async (t) => {
  const fake = await startFake(t);
  const cases: readonly (readonly [string, string])[] = [
    ['{"key":', 'body'],
    ['[]', 'body'],
    ['null', 'body'],
    ['', 'body'],
    ['{"value":""}', 'key'],
    ['{"key":1,"value":""}', 'key'],
    ['{"key":"a"}', 'value'],
    ['{"key":"a","value":null}', 'value'],
    ['{"key":"a","value":"a"}', 'value'],
    ['{"key":"a","value":"ab!="}', 'value'],
    ['{"key":"a","value":"ab=c"}', 'value'],
    ['{"keyBase64":"~","value":""}', 'keyBase64'],
    ['{"key":"a","keyBase64":"YQ==","value":""}', 'keyBase64'],
  ];
  for (const [body, field] of cases) {
    t.match(
      await ask(fake, 'POST', '/v1/keys', { body }),
      { status: 400, body: { details: [{ reason: 'BAD_REQUEST', metadata: { field } }] } },
      body,
    );
  }
  t.equal(fake.operations.length, 0);
});

t.test(
  'what is too large is answered with limit, size and flag, and the connection stays',
  async (t) => {
    const fake = await startFake(t);
    const key = await ask(fake, 'GET', `/v1/keys/${'%41'.repeat(65)}`);
    t.match(key.body, {
      details: [
        {
          reason: 'KEY_TOO_LARGE',
          metadata: { limit: '64', actual: '65', flag: '--key-bytes-max' },
        },
      ],
    });
    const value = new Uint8Array(limits.valueBytesMax + 1);
    const tooLarge = {
      status: 400,
      body: {
        details: [
          {
            reason: 'VALUE_TOO_LARGE',
            metadata: { limit: '300000', actual: '300001', flag: '--value-bytes-max' },
          },
        ],
      },
    };
    t.match(await ask(fake, 'PUT', '/v1/keys/k', { body: value, headers: raw }), tooLarge);
    const body = JSON.stringify({ key: 'k', value: Buffer.from(value).toString('base64') });
    t.match(await ask(fake, 'POST', '/v1/keys', { body }), tooLarge);
    const huge = JSON.stringify({ key: 'k', value: 'A'.repeat(3_000_000) });
    const reply = await ask(fake, 'POST', '/v1/keys', { body: huge });
    t.match(reply.body, {
      details: [{ reason: 'VALUE_TOO_LARGE', metadata: { limit: '300000' } }],
    });
    t.not(reply.headers.connection, 'close');
    const largest = new Uint8Array(limits.valueBytesMax);
    t.equal((await ask(fake, 'PUT', '/v1/keys/k', { body: largest, headers: raw })).status, 200);
    const asJson = JSON.stringify({ key: 'k', value: Buffer.from(largest).toString('base64') });
    t.equal((await ask(fake, 'POST', '/v1/keys', { body: asJson })).status, 200);
  },
);

t.test('time, request id and trace come as headers', async (t) => {
  const fake = await startFake(t);
  const id = '0123456789abcdef0123456789abcdef';
  const headers = {
    ...raw,
    'x-keychaindb-timeout': '1.5s',
    'x-keychaindb-request-id': `${id}:7:3`,
    traceparent: `00-${id}-0123456789abcdef-00`,
    'x-keychaindb-trace': '1',
  };
  await ask(fake, 'PUT', '/v1/keys/k', { body: 'v', headers });
  const [operation] = fake.operations;
  t.equal(operation?.timeoutMs, 1_500);
  t.equal(Buffer.from(operation?.trace ?? []).toString('hex'), `${id}0123456789abcdef01`);
  const request =
    operation?.operation?.$case === 'put' ? operation.operation.value.request : undefined;
  t.match(request, { seq: 7, answeredBelow: 3 });
  t.equal(Buffer.from(request?.clientId ?? []).toString('hex'), id);
  const traced = await ask(fake, 'GET', '/v1/keys/k', { headers: { 'x-keychaindb-trace': '1' } });
  t.match(traced.headers['x-keychaindb-trace-id'], /^[0-9a-f]{32}$/);
  await ask(fake, 'GET', '/v1/keys/k', { headers: { 'x-keychaindb-timeout': '5m' } });
  t.equal(fake.operations.at(-1)?.timeoutMs, 60_000);
});

t.test('headers that are wrong are answered by name', async (t) => {
  const fake = await startFake(t);
  const cases: readonly (readonly [string, string, string])[] = [
    ['x-keychaindb-timeout', 'soon', 'x-keychaindb-timeout'],
    ['x-keychaindb-timeout', '0s', 'x-keychaindb-timeout'],
    ['x-keychaindb-request-id', '7', 'x-keychaindb-request-id'],
    ['x-keychaindb-request-id', 'abc:7', 'x-keychaindb-request-id'],
    ['x-keychaindb-request-id', 'abcd:7', 'request.client_id'],
    ['x-keychaindb-request-id', `${'0'.repeat(32)}:0`, 'request.seq'],
    ['x-keychaindb-request-id', `${'0'.repeat(32)}:2:3`, 'request.answered_below'],
  ];
  for (const [name, value, field] of cases) {
    const reply = await ask(fake, 'PUT', '/v1/keys/k', {
      body: 'v',
      headers: { ...raw, [name]: value },
    });
    t.match(
      reply,
      { status: 400, body: { details: [{ metadata: { field } }] } },
      `${name}: ${value}`,
    );
  }
});

t.test('errors carry code, message and reason', async (t) => {
  const fake = await startFake(t);
  fake.refusal = new KeychainError('KEY_NOT_FOUND', 'no such key', { key: 'k' });
  t.match(await ask(fake, 'GET', '/v1/keys/k'), {
    status: 404,
    body: {
      code: 5,
      message: 'no such key',
      details: [
        {
          '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
          reason: 'KEY_NOT_FOUND',
          domain: 'keychaindb',
          metadata: { key: 'k' },
        },
      ],
    },
  });
  const statuses = {
    CONDITION_FAILED: 412,
    STALE_EPOCH: 409,
    OVERLOADED: 429,
    NOT_HEAD: 503,
    OUTCOME_UNKNOWN: 504,
    CORRUPT: 500,
    SESSION_EXPIRED: 400,
  } as const;
  for (const [reason, status] of Object.entries(statuses)) {
    fake.refusal = new KeychainError(reason as keyof typeof statuses, '');
    t.equal((await ask(fake, 'DELETE', '/v1/keys/k')).status, status, reason);
  }
});

t.test('an unknown route and a wrong method are told apart by the allow header', async (t) => {
  const fake = await startFake(t);
  const unknown = await ask(fake, 'GET', '/v2/keys/k');
  t.match(unknown, { status: 404, body: { details: [{ reason: 'ROUTE_NOT_FOUND' }] } });
  t.equal(unknown.headers.allow, undefined);
  const wrong = await ask(fake, 'POST', '/v1/keys/k', { body: 'x' });
  t.match(wrong, { status: 405, body: { details: [{ reason: 'ROUTE_NOT_FOUND' }] } });
  t.equal(wrong.headers.allow, 'GET, PUT, DELETE');
  t.match(await ask(fake, 'GET', '/v1/keys/'), { body: { details: [{ reason: 'KEY_EMPTY' }] } });
});

t.test('members and status of the cluster', async (t) => {
  const fake = await startFake(t);
  t.same((await ask(fake, 'GET', '/v1/chain/members')).body, {
    configuration: {
      version: '7',
      length: 0,
      members: [
        {
          id: 'node-1',
          address: 'node-1:1',
          state: 'LASTSRV',
          incarnation: '1',
          drained: false,
          spare: false,
          note: '',
        },
        {
          id: 'node-2',
          address: 'node-2:1',
          state: 'SERVING',
          incarnation: '1',
          drained: false,
          spare: false,
          note: '',
        },
      ],
      others: [
        {
          id: 'node-3',
          address: 'node-3:1',
          state: 'JOINING',
          incarnation: '1',
          drained: false,
          spare: false,
          note: '',
        },
        {
          id: 'node-9',
          address: 'node-9:1',
          state: 'WAITING',
          incarnation: '1',
          drained: false,
          spare: false,
          note: '',
        },
      ],
    },
  });
  t.same((await ask(fake, 'GET', '/v1/cluster/status')).body, {
    members: { 'c-1': 'h:1' },
    leader: 'c-1',
    term: '4',
    coordinators: [],
  });
  t.match((await ask(fake, 'GET', '/v1/status')).body, {
    healthy: false,
    epoch: '7',
    leader: 'c-1',
    nodes: [
      { id: 'node-1', role: 'only', state: 'SERVING' },
      { id: 'node-9', role: '', state: 'WAITING' },
    ],
    problems: [{ kind: 'node-waiting', id: 'node-9', passing: true }],
  });
  const body = JSON.stringify({ id: 'n', address: 'h:2' });
  t.same((await ask(fake, 'POST', '/v1/chain/members', { body })).body, {});
  t.same((await ask(fake, 'DELETE', '/v1/chain/members/n%2F1')).body, {});
  t.same(fake.changes.splice(0), ['add n h:2', 'remove n/1']);
  t.same((await ask(fake, 'POST', '/v1/cluster/members', { body })).body, {});
  t.same((await ask(fake, 'DELETE', '/v1/cluster/members/n%2F1')).body, {});
  t.same(fake.changes, ['join n h:2', 'leave n/1']);
  const to = JSON.stringify({ id: 'c-9' });
  t.same((await ask(fake, 'POST', '/v1/cluster/leader', { body: to })).body, { leader: 'c-9' });
  t.same((await ask(fake, 'POST', '/v1/cluster/leader', { body: '{}' })).body, { leader: 'c-2' });
  t.equal((await ask(fake, 'DELETE', '/v1/chain/members/none')).status, 404);
  const expecting = JSON.stringify({ id: 'n', address: 'h:2', expectedEpoch: '7' });
  await ask(fake, 'POST', '/v1/chain/members', { body: expecting });
  await ask(fake, 'DELETE', '/v1/chain/members/n?expectedEpoch=8');
  t.same(fake.changes.slice(-2), ['add n h:2 at 7', 'remove n at 8']);
  const drain = (rest: string, body?: string) =>
    ask(fake, 'POST', `/v1/chain/members/${rest}`, body === undefined ? {} : { body });
  t.same((await drain('n%2F1/drain')).body, {});
  await drain('n/drain', '{"expectedEpoch":9}');
  t.same(fake.changes.slice(-2), ['drain n/1', 'drain n at 9']);
  for (const rest of ['n', '/drain', 'n/drains', ''])
    t.equal((await drain(rest)).status, 404, rest);
  const order = (body: string) => ask(fake, 'PUT', '/v1/chain/order', { body });
  t.same((await order('{"ids":["b","a"],"expectedEpoch":"9"}')).body, {});
  t.same(fake.changes.slice(-1), ['reorder b,a at 9']);
  for (const body of ['{}', '{"ids":"a"}', '{"ids":[1]}']) {
    t.match((await order(body)).body, { code: 3, message: /^ids: / }, body);
  }
  await ask(fake, 'POST', '/v1/chain/members', { body: '{"id":"s","address":"h:3","spare":true}' });
  t.same(fake.changes.slice(-1), ['add s h:3 as a spare']);
  const length = (body: string) => ask(fake, 'PUT', '/v1/chain/length', { body });
  t.same((await length('{"length":3}')).body, {});
  t.same(fake.changes.slice(-1), ['length 3']);
  for (const body of ['{}', '{"length":-1}', '{"length":1e10}']) {
    t.match((await length(body)).body, { code: 3, message: /^length: / }, body);
  }
  const recover = (body: string) => ask(fake, 'POST', '/v1/chain/recover', { body });
  t.same((await recover('{"id":"c","lostIds":["a","b"]}')).body, {});
  t.same(fake.changes.slice(-1), ['recover c without a,b']);
  t.equal((await recover('{"id":"c"}')).status, 400);
  const wrong = await ask(fake, 'DELETE', '/v1/chain/members/n?expectedEpoch=x');
  t.match(wrong.body, { code: 3, message: /expectedEpoch/ });
});

t.test('readiness follows the view', async (t) => {
  const fake = await startFake(t);
  t.equal((await ask(fake, 'GET', '/livez')).status, 200);
  t.equal((await ask(fake, 'GET', '/readyz')).body, 'ok\n');
  t.match((await ask(fake, 'GET', '/readyz?verbose')).body, /\[\+\]view ok\n\[\+\]chain ok/);
  t.same((await ask(fake, 'GET', '/healthz')).body, { status: 'SERVING' });
  fake.view = undefined;
  t.match(await ask(fake, 'GET', '/readyz'), { status: 503, body: /\[-\]view failed/ });
  t.match(await ask(fake, 'GET', '/healthz'), { status: 503, body: { status: 'NOT_SERVING' } });
  t.equal((await ask(fake, 'GET', '/livez')).status, 200);
});

t.test('a connection serves one request after the other', async (t) => {
  const fake = await startFake(t);
  const [host = '', port = ''] = fake.gateway.address.split(':');
  const socket = connect(Number(port), host);
  t.teardown(() => socket.destroy());
  const one = 'POST /v2/none HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc';
  socket.write(`${one}GET /livez HTTP/1.1\r\nhost: h\r\n\r\n`);
  let seen = '';
  await new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      seen += chunk.toString();
      if (seen.endsWith('ok\n')) resolve();
    });
  });
  t.match(seen, /404 Not Found[\s\S]*200 OK/);
});

t.test('a port in use names the flag', async (t) => {
  const fake = await startFake(t);
  const port = Number(fake.gateway.address.split(':')[1]);
  const again = startGateway({ host: '127.0.0.1', port, limits } as Parameters<
    typeof startGateway
  >[0]);
  await t.rejects(again, refusal('ADDRESS_IN_USE', { flag: '--http' }));
});

t.test('no route hides another', async (t) => {
  const seen = routes.map(({ method, path }) => `${method} ${path}`);
  t.equal(new Set(seen).size, seen.length);
});

t.test(
  'a connection that is silent, or halfway through a request, does not keep it from closing',
  async (t) => {
    let drained: (() => void) | undefined;
    const clock: Clock = {
      ...systemClock,
      after: (_milliseconds, then) => {
        drained = then;
        return () => undefined;
      },
    };
    const fake = await startFake(t, clock);
    const { gateway } = fake;
    const port = Number(gateway.address.replace(/.*:/, ''));
    const silent = connect(port, '127.0.0.1');
    const half = connect(port, '127.0.0.1');
    const ends = [silent, half].map(
      (socket) => new Promise((resolve) => socket.on('close', resolve)),
    );
    for (const socket of [silent, half]) {
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('connect', resolve));
    }
    // The gateway has read the half request when it has answered a whole one that came later.
    half.write('GET /v1/keys/a HTTP/1.1\r\nhost: x\r\n');
    await ask(fake, 'GET', '/v1/keys/a');
    const closed = gateway.close();
    drained?.();
    await closed;
    await Promise.all(ends);
    t.pass('it closed, and so did they');
  },
);

import type { IncomingMessage } from 'node:http';
import { KeychainError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { MemberState } from '../gen/keychaindb/v1/coordinator.js';
import type { GetResponse, Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import type { ClusterVerbs } from '../retry/cluster-verbs.js';
import { type Metrics, metricsContentType } from '../telemetry/metrics.js';
import { forced, parseTraceparent, traceIdOf } from '../telemetry/trace-context.js';
import { fromOperationError } from '../wire/operation-error.js';
import type { OperationLimits } from '../wire/validate.js';
import { readJsonBody, readValueBody } from './http-body.js';
import {
  badRequest,
  bytesField,
  flagField,
  jsonObject,
  keyField,
  percentDecoded,
  requestIdOf,
  textField,
  textsField,
  timeoutMsOf,
  wholeField,
} from './http-fields.js';
import { deleteJson, getJson, membersJson, putJson, statusJson } from './json.js';
import type { ProxyHandle } from './runtime.js';
import { statusReport } from './status.js';

/** What routes work with. */
export interface RouteContext {
  readonly proxy: ProxyHandle;
  readonly cluster: ClusterVerbs;
  readonly random: Random;
  readonly limits: OperationLimits;
  readonly metrics?: Pick<Metrics, 'text'>;
}

export interface HttpReply {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

export interface HttpRequest {
  readonly message: IncomingMessage;
  /** What follows the route's path, still encoded. */
  readonly rest: string;
  /** After the question mark. */
  readonly query: string;
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** One that ends in a slash takes everything that follows; others match whole. */
  readonly path: string;
  /** Throws KeychainError. */
  run(context: RouteContext, request: HttpRequest): Promise<HttpReply> | HttpReply;
}

/** Every route that there is (docs/names.md). */
export const routes: readonly Route[] = [
  { method: 'GET', path: '/v1/keys/', run: getKey },
  { method: 'PUT', path: '/v1/keys/', run: putKey },
  { method: 'DELETE', path: '/v1/keys/', run: deleteKey },
  { method: 'POST', path: '/v1/keys', run: postKey },
  { method: 'GET', path: '/v1/chain/members', run: getMembers },
  { method: 'POST', path: '/v1/chain/members', run: addMember },
  { method: 'DELETE', path: '/v1/chain/members/', run: removeMember },
  { method: 'GET', path: '/v1/status', run: getReport },
  { method: 'POST', path: '/v1/chain/members/', run: drainMember },
  { method: 'PUT', path: '/v1/chain/order', run: putOrder },
  { method: 'POST', path: '/v1/chain/recover', run: recover },
  { method: 'PUT', path: '/v1/chain/length', run: putLength },
  { method: 'GET', path: '/v1/cluster/status', run: getStatus },
  { method: 'POST', path: '/v1/cluster/members', run: joinCluster },
  { method: 'DELETE', path: '/v1/cluster/members/', run: removeFromCluster },
  { method: 'POST', path: '/v1/cluster/leader', run: transferLeadership },
  { method: 'GET', path: '/livez', run: () => text(200, 'ok\n') },
  { method: 'GET', path: '/readyz', run: ready },
  { method: 'GET', path: '/healthz', run: health },
  { method: 'GET', path: '/metrics', run: getMetrics },
];

function json(body: string, headers?: HttpReply['headers']): HttpReply {
  return { status: 200, contentType: 'application/json', body, headers };
}

function text(status: number, body: string): HttpReply {
  return { status, contentType: 'text/plain; charset=utf-8', body };
}

function getKey({ proxy, random }: RouteContext, request: HttpRequest): Promise<HttpReply> {
  const { message, query } = request;
  const key = percentDecoded(request.rest, 'key');
  const node = query === '' ? '' : (new URLSearchParams(query).get('node') ?? '');
  const operation = { $case: 'get', value: { key, node } } as const;
  return execute(proxy, random, message, operation).then(({ result, headers }) => {
    if (result?.$case !== 'get') throw errorOf(result);
    const accept = message.headers.accept;
    if (accept?.includes('application/octet-stream') !== true) {
      return json(getJson(result.value), headers);
    }
    return {
      status: 200,
      contentType: 'application/octet-stream',
      body: result.value.value,
      headers: { ...headers, ...rawHeaders(result.value) },
    };
  });
}

function rawHeaders(response: GetResponse): Readonly<Record<string, string>> {
  const { served } = response;
  return {
    'x-keychaindb-revision': String(response.revision),
    'x-keychaindb-create-revision': String(response.createRevision),
    'x-keychaindb-version': String(response.version),
    'x-keychaindb-node': served?.node ?? '',
    'x-keychaindb-epoch': String(served?.epoch ?? 0),
    'x-keychaindb-watermark': String(served?.watermark ?? 0),
    'x-keychaindb-asked-tail': String(served?.askedTail ?? false),
    'x-keychaindb-chain-id': String(served?.chainId ?? 0),
  };
}

async function putKey(context: RouteContext, request: HttpRequest): Promise<HttpReply> {
  const { message } = request;
  const key = percentDecoded(request.rest, 'key');
  const isRaw = message.headers['content-type']?.startsWith('application/octet-stream') === true;
  const body = await (isRaw ? readValueBody : readJsonBody)(message, context.limits);
  return put(context, message, key, isRaw ? body : bytesField(jsonObject(body), 'value'));
}

async function postKey(context: RouteContext, { message }: HttpRequest): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, context.limits));
  return put(context, message, keyField(body), bytesField(body, 'value'));
}

function put(
  { proxy, random }: RouteContext,
  message: IncomingMessage,
  key: Uint8Array,
  value: Uint8Array,
): Promise<HttpReply> {
  const request = requestIdOf(headerOf(message, 'x-keychaindb-request-id'));
  const operation = { $case: 'put', value: { key, value, request } } as const;
  return execute(proxy, random, message, operation).then(({ result, headers }) => {
    if (result?.$case !== 'put') throw errorOf(result);
    return json(putJson(result.value), headers);
  });
}

function deleteKey(
  { proxy, random }: RouteContext,
  { message, rest }: HttpRequest,
): Promise<HttpReply> {
  const key = percentDecoded(rest, 'key');
  const request = requestIdOf(headerOf(message, 'x-keychaindb-request-id'));
  const operation = { $case: 'delete', value: { key, request } } as const;
  return execute(proxy, random, message, operation).then(({ result, headers }) => {
    if (result?.$case !== 'delete') throw errorOf(result);
    return json(deleteJson(result.value), headers);
  });
}

interface Executed {
  readonly result?: OperationResult['result'];
  /** The id of a trace that the caller asked for. */
  readonly headers?: Readonly<Record<string, string>>;
}

function execute(
  proxy: ProxyHandle,
  random: Random,
  message: IncomingMessage,
  operation: NonNullable<Operation['operation']>,
): Promise<Executed> {
  const timeoutMs = timeoutMsOf(headerOf(message, 'x-keychaindb-timeout'));
  const given = parseTraceparent(headerOf(message, 'traceparent'));
  if (headerOf(message, 'x-keychaindb-trace') !== '1') {
    return proxy.execute({ id: 0, timeoutMs, trace: given, operation }, 'http');
  }
  const trace = forced(given, random);
  return proxy.execute({ id: 0, timeoutMs, trace, operation }, 'http').then(({ result }) => {
    const traceId = traceIdOf(trace);
    if (result?.$case === 'error') {
      const { reason, message: text, metadata } = fromOperationError(result.value);
      throw new KeychainError(reason, text, { ...metadata, trace_id: traceId });
    }
    return { result, headers: { 'x-keychaindb-trace-id': traceId } };
  });
}

function headerOf(message: IncomingMessage, name: string): string | undefined {
  const value = message.headers[name];
  return typeof value === 'string' ? value : undefined;
}

function errorOf(result: OperationResult['result']): KeychainError {
  if (result?.$case === 'error') return fromOperationError(result.value);
  return new KeychainError('INTERNAL', 'the node answered another operation than was asked');
}

async function getMembers({ cluster }: RouteContext, request: HttpRequest): Promise<HttpReply> {
  const stale = new URLSearchParams(request.query).get('stale') === 'true';
  return json(membersJson(await cluster.members(clusterTimeoutMs(request.message), stale)));
}

async function addMember(
  { cluster, limits }: RouteContext,
  { message }: HttpRequest,
): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, limits));
  const id = textField(body, 'id');
  const address = textField(body, 'address');
  const expectedEpoch = wholeField(body, 'expectedEpoch');
  const spare = flagField(body, 'spare');
  await cluster.addMember({ id, address, spare, expectedEpoch }, clusterTimeoutMs(message));
  return json('{}');
}

async function removeMember(
  { cluster }: RouteContext,
  { message, rest, query }: HttpRequest,
): Promise<HttpReply> {
  const id = Buffer.from(percentDecoded(rest, 'id')).toString();
  const asked = { expectedEpoch: new URLSearchParams(query).get('expectedEpoch') ?? undefined };
  const expectedEpoch = wholeField(asked, 'expectedEpoch');
  await cluster.removeMember({ id, expectedEpoch }, clusterTimeoutMs(message));
  return json('{}');
}

/** `{id}/drain` */
async function drainMember(
  { cluster, limits }: RouteContext,
  { message, rest }: HttpRequest,
): Promise<HttpReply> {
  const end = rest.length - drainSuffix.length;
  if (end <= 0 || !rest.endsWith(drainSuffix)) {
    throw new KeychainError('ROUTE_NOT_FOUND', `there is no POST /v1/chain/members/${rest}`);
  }
  const id = Buffer.from(percentDecoded(rest.slice(0, end), 'id')).toString();
  const expectedEpoch = wholeField(await optionalJson(message, limits), 'expectedEpoch');
  await cluster.drainMember({ id, expectedEpoch }, clusterTimeoutMs(message));
  return json('{}');
}

async function putOrder(
  { cluster, limits }: RouteContext,
  { message }: HttpRequest,
): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, limits));
  const order = { ids: textsField(body, 'ids'), expectedEpoch: wholeField(body, 'expectedEpoch') };
  await cluster.reorderChain(order, clusterTimeoutMs(message));
  return json('{}');
}

async function recover(
  { cluster, limits }: RouteContext,
  { message }: HttpRequest,
): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, limits));
  const id = textField(body, 'id');
  const lostIds = textsField(body, 'lostIds');
  const expectedEpoch = wholeField(body, 'expectedEpoch');
  await cluster.recoverChain({ id, lostIds, expectedEpoch }, clusterTimeoutMs(message));
  return json('{}');
}

async function putLength(
  { cluster, limits }: RouteContext,
  { message }: HttpRequest,
): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, limits));
  if (body['length'] === undefined) throw badRequest('length', 'it is missing');
  const length = wholeField(body, 'length');
  if (length > uint32Max) throw badRequest('length', `at most ${uint32Max}`);
  const expectedEpoch = wholeField(body, 'expectedEpoch');
  await cluster.setChainLength({ length, expectedEpoch }, clusterTimeoutMs(message));
  return json('{}');
}

const uint32Max = 0xffff_ffff;

const drainSuffix = '/drain';

/** The body of a change that needs none. */
async function optionalJson(message: IncomingMessage, limits: OperationLimits) {
  const body = await readJsonBody(message, limits);
  return body.byteLength === 0 ? {} : jsonObject(body);
}

async function getStatus({ cluster }: RouteContext, { message }: HttpRequest): Promise<HttpReply> {
  return json(statusJson(await cluster.status(clusterTimeoutMs(message))));
}

/** All that `keychaindb status` shows. */
async function getReport({ cluster }: RouteContext, { message }: HttpRequest): Promise<HttpReply> {
  const timeoutMs = clusterTimeoutMs(message);
  const both = [cluster.chainStatus(timeoutMs), cluster.status(timeoutMs)] as const;
  return json(JSON.stringify(statusReport(...(await Promise.all(both)))));
}

async function joinCluster(
  { cluster, limits }: RouteContext,
  { message }: HttpRequest,
): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, limits));
  const id = textField(body, 'id');
  await cluster.joinCluster(id, textField(body, 'address'), clusterTimeoutMs(message));
  return json('{}');
}

async function removeFromCluster(
  { cluster }: RouteContext,
  { message, rest }: HttpRequest,
): Promise<HttpReply> {
  const id = Buffer.from(percentDecoded(rest, 'id')).toString();
  await cluster.removeFromCluster(id, clusterTimeoutMs(message));
  return json('{}');
}

/** To the coordinator with the longest log where the body names none. */
async function transferLeadership(
  { cluster, limits }: RouteContext,
  { message }: HttpRequest,
): Promise<HttpReply> {
  const body = jsonObject(await readJsonBody(message, limits));
  const id = 'id' in body ? textField(body, 'id') : '';
  const leader = await cluster.transferLeadership(id, clusterTimeoutMs(message));
  return json(JSON.stringify({ leader }));
}

function clusterTimeoutMs(message: IncomingMessage): number {
  return timeoutMsOf(headerOf(message, 'x-keychaindb-timeout'));
}

/** What a proxy needs before it can serve, in the order in which it comes. */
function checks({
  proxy,
}: RouteContext): readonly { readonly name: string; readonly failed: string }[] {
  const { view } = proxy;
  const serves = view?.members.some((member) => member.state === MemberState.SERVING) === true;
  return [
    { name: 'view', failed: view === undefined ? 'no coordinator has shown a view' : '' },
    { name: 'chain', failed: serves ? '' : 'the chain has no serving member' },
  ];
}

function ready(context: RouteContext, { query }: HttpRequest): HttpReply {
  const all = checks(context);
  const isReady = all.every(({ failed }) => failed === '');
  const status = isReady ? 200 : 503;
  const lines = all.map(({ name, failed }) =>
    failed === '' ? `[+]${name} ok` : `[-]${name} failed: ${failed}`,
  );
  const verdict = `readyz check ${isReady ? 'passed' : 'failed'}`;
  if (new URLSearchParams(query).has('verbose') || !isReady) {
    return text(status, `${[...lines, verdict].join('\n')}\n`);
  }
  return text(status, 'ok\n');
}

function health(context: RouteContext): HttpReply {
  const isServing = checks(context).every(({ failed }) => failed === '');
  const body = `{"status":"${isServing ? 'SERVING' : 'NOT_SERVING'}"}`;
  return { ...json(body), status: isServing ? 200 : 503 };
}

async function getMetrics({ metrics }: RouteContext): Promise<HttpReply> {
  const body = (await metrics?.text()) ?? '';
  return { status: 200, contentType: metricsContentType, body };
}

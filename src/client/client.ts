import { ChannelCredentials, connectivityState, type MethodDefinition } from '@grpc/grpc-js';
import { noBytes } from '../base/bytes.js';
import { type Clock, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax, messageBytesMax } from '../base/limits.js';
import { type Random, systemRandom } from '../base/random.js';
import type {
  ChainStatusResponse,
  ClusterStatusResponse,
  View,
} from '../gen/keychaindb/v1/coordinator.js';
import {
  type DeleteResponse,
  type GetResponse,
  KVClient,
  KVService,
  type PutResponse,
} from '../gen/keychaindb/v1/kv.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';
import {
  type GetTraceResponse,
  type SetLogLevelResponse,
  TelemetryService,
} from '../gen/keychaindb/v1/telemetry.js';
import { type ClusterVerbs, clusterVerbs } from '../retry/cluster-verbs.js';
import { clientOptions, failureOf, isReady, noMetadata } from '../retry/grpc-call.js';
import { parseTraceparent } from '../telemetry/trace-context.js';
import { openBidi } from '../wire/grpc-channel.js';
import { type AttemptResult, runOperation } from './attempts.js';
import { type Connection, Endpoint } from './endpoint.js';
import {
  isFailed,
  type KvOperation,
  KvPlan,
  readDelete,
  readGet,
  readPut,
  type Target,
} from './kv-plan.js';
import { connectMs, operationOverheadBytes, operationsMax, utf8BytesMax } from './limits.js';
import { Rotation } from './rotation.js';
import type { Asked } from './session-stream.js';
import { WriteIds } from './write-ids.js';

export type { Reason } from '../base/errors.js';
export { KeychainError } from '../base/errors.js';
export type {
  ChainStatusResponse,
  ClusterStatusResponse,
  Member,
  NodeStatus,
  View,
} from '../gen/keychaindb/v1/coordinator.js';
export type { DeleteResponse, GetResponse, PutResponse, Served } from '../gen/keychaindb/v1/kv.js';
export type { GetTraceResponse, Span } from '../gen/keychaindb/v1/telemetry.js';

export interface ConnectOptions {
  /** host:port of proxies. One is used until it fails, then the next. At least one. */
  readonly endpoints: readonly string[];
  /** Milliseconds that every operation may take where it doesn't say: default 5,000, at most 60,000. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface OperationOptions {
  readonly timeoutMs?: number;
  /**
   * Of the caller's span (W3C Trace Context): the operation belongs to that trace, and is recorded where its
   * flag says so.
   */
  readonly traceparent?: string;
}

export interface MembersOptions extends OperationOptions {
  /** As a coordinator that answers has it, also while they have no leader; else as new as the call. */
  readonly stale?: boolean;
}

export interface GetOptions extends OperationOptions {
  /** Ask this node only. */
  readonly node?: string;
}

export interface ChangeOptions extends OperationOptions {
  /** Refused with STALE_EPOCH where the chain has another; absent: any. */
  readonly expectedEpoch?: number;
}

export interface AddOptions extends ChangeOptions {
  /** It waits until the chain is shorter than `setChainLength` says. */
  readonly spare?: boolean;
}

/** A text key is its UTF-8. */
export type Key = string | Uint8Array;

/**
 * A client of a cluster. Every method rejects with KeychainError. Operations are repeated within their
 * deadline; a write runs at most once, however often it was sent. OUTCOME_UNKNOWN: it may have been applied.
 */
export interface KeychainClient {
  /** Undefined where the key is absent. */
  get(key: Key, options?: GetOptions): Promise<GetResponse | undefined>;
  put(key: Key, value: Key, options?: OperationOptions): Promise<PutResponse>;
  /** Deleting an absent key is fine: `existed` is false. */
  delete(key: Key, options?: OperationOptions): Promise<DeleteResponse>;
  /** The coordinators. */
  status(options?: OperationOptions): Promise<ClusterStatusResponse>;
  /** What the nodes say of themselves, as a coordinator hears them. */
  chainStatus(options?: OperationOptions): Promise<ChainStatusResponse>;
  /** The chain: `members` head to tail, `others` not yet or no more in it. */
  members(options?: MembersOptions): Promise<View>;
  /** Changes of the chain: one that is repeated after it succeeded succeeds. */
  addMember(id: string, address: string, options?: AddOptions): Promise<void>;
  removeMember(id: string, options?: ChangeOptions): Promise<void>;
  /** Takes a node out of the chain until it is another process, or is added again at its address. */
  drainMember(id: string, options?: ChangeOptions): Promise<void>;
  /** Exactly the serving members, head to tail. */
  reorderChain(ids: readonly string[], options?: ChangeOptions): Promise<void>;
  /** Members that the chain is filled up to with spares; 0: spares wait. */
  setChainLength(length: number, options?: ChangeOptions): Promise<void>;
  /**
   * Lossy, for where no serving member comes back: the chain goes on with the store of one that waits. `lostIds`:
   * every serving member that is given up.
   */
  recoverChain(id: string, lostIds: readonly string[], options?: ChangeOptions): Promise<void>;
  /**
   * What the processes of the cluster remember of a trace: one of 32 hexadecimal digits, or that of the write
   * with a revision. `silent`: who could not be asked.
   */
  trace(trace: string | number, options?: OperationOptions): Promise<GetTraceResponse>;
  /** Changes what a process logs; without a name the proxy that answers. Gives the level before. */
  setLogLevel(
    level: string,
    process?: string,
    options?: OperationOptions,
  ): Promise<SetLogLevelResponse>;
  /** Ends the connections; operations in flight fail. */
  close(): void;
}

/** Connects when the first operation needs it. */
export function connect(options: ConnectOptions): KeychainClient {
  return new Client(options);
}

/** One of the endpoints: a connection, with a stream of operations on it, and calls. */
interface ClientTarget extends Target {
  readonly calls: KVClient;
}

const credentials = ChannelCredentials.createInsecure();

class Client implements KeychainClient {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** The one that is used until it fails. */
  readonly #targets: Rotation<ClientTarget>;
  readonly #cluster: ClusterVerbs;
  readonly #writeIds: WriteIds;
  /** Gets, puts and deletes that wait for their answer. */
  #operations = 0;
  #isClosed = false;

  constructor({
    endpoints,
    timeoutMs,
    clock = systemClock,
    random = systemRandom,
  }: ConnectOptions) {
    if (endpoints.length === 0)
      throw new KeychainError('BAD_REQUEST', 'endpoints: name at least one');
    this.#clock = clock;
    this.#timeoutMs = timeoutMs ?? deadlineMsDefault;
    this.#writeIds = new WriteIds(random.bytes(16));
    this.#targets = new Rotation(
      endpoints.map((address) => {
        const calls = new KVClient(address, credentials, clientOptions);
        const connection = connectionOf(calls, address, clock);
        return { calls, endpoint: new Endpoint({ connection, clock, random }) };
      }),
    );
    this.#cluster = clusterVerbs({ addresses: endpoints, clock });
  }

  async get(key: Key, options: GetOptions = {}): Promise<GetResponse | undefined> {
    const { node = '' } = options;
    const value = { key: bytesOf(key, 'key'), node: textOf(node) };
    const asked: Asked = { $case: 'get', value };
    return this.#run<GetResponse | undefined>({
      kind: 'read',
      timeoutMs: this.#timeoutOf(options),
      trace: parseTraceparent(options.traceparent),
      bytes: value.key.byteLength + node.length * utf8BytesMax + operationOverheadBytes,
      asked: () => asked,
      read: readGet,
      renew: () => false,
      settled: () => undefined,
    });
  }

  async put(key: Key, value: Key, options: OperationOptions = {}): Promise<PutResponse> {
    const entry = { key: bytesOf(key, 'key'), value: bytesOf(value, 'value') };
    const bytes = entry.key.byteLength + entry.value.byteLength;
    return this.#write(options, bytes, readPut, (request) => ({
      $case: 'put',
      value: { ...entry, request },
    }));
  }

  async delete(key: Key, options: OperationOptions = {}): Promise<DeleteResponse> {
    const entry = { key: bytesOf(key, 'key') };
    return this.#write(options, entry.key.byteLength, readDelete, (request) => ({
      $case: 'delete',
      value: { ...entry, request },
    }));
  }

  status(options: OperationOptions = {}): Promise<ClusterStatusResponse> {
    return this.#cluster.status(this.#timeoutOf(options));
  }

  chainStatus(options: OperationOptions = {}): Promise<ChainStatusResponse> {
    return this.#cluster.chainStatus(this.#timeoutOf(options));
  }

  members(options: MembersOptions = {}): Promise<View> {
    return this.#cluster.members(this.#timeoutOf(options), options.stale);
  }

  addMember(id: string, address: string, options: AddOptions = {}): Promise<void> {
    const { expectedEpoch = 0, spare = false } = options;
    const request = { id, address, spare, expectedEpoch };
    return this.#cluster.addMember(request, this.#timeoutOf(options));
  }

  removeMember(id: string, options: ChangeOptions = {}): Promise<void> {
    const { expectedEpoch = 0 } = options;
    return this.#cluster.removeMember({ id, expectedEpoch }, this.#timeoutOf(options));
  }

  drainMember(id: string, options: ChangeOptions = {}): Promise<void> {
    const { expectedEpoch = 0 } = options;
    return this.#cluster.drainMember({ id, expectedEpoch }, this.#timeoutOf(options));
  }

  reorderChain(ids: readonly string[], options: ChangeOptions = {}): Promise<void> {
    const { expectedEpoch = 0 } = options;
    return this.#cluster.reorderChain({ ids, expectedEpoch }, this.#timeoutOf(options));
  }

  recoverChain(id: string, lostIds: readonly string[], options: ChangeOptions = {}): Promise<void> {
    const { expectedEpoch = 0 } = options;
    return this.#cluster.recoverChain({ id, lostIds, expectedEpoch }, this.#timeoutOf(options));
  }

  setChainLength(length: number, options: ChangeOptions = {}): Promise<void> {
    const { expectedEpoch = 0 } = options;
    return this.#cluster.setChainLength({ length, expectedEpoch }, this.#timeoutOf(options));
  }

  trace(trace: string | number, options: OperationOptions = {}): Promise<GetTraceResponse> {
    const request = {
      traceId: typeof trace === 'string' ? Buffer.from(trace, 'hex') : noBytes,
      entry: typeof trace === 'number' ? { generation: 0, index: trace } : undefined,
      request: undefined,
      keep: false,
    };
    return this.#ask(TelemetryService.getTrace, request, options);
  }

  setLogLevel(
    level: string,
    process = '',
    options: OperationOptions = {},
  ): Promise<SetLogLevelResponse> {
    return this.#ask(TelemetryService.setLogLevel, { level, process }, options);
  }

  /** A method of another service, on the endpoint's connection; asking twice does no harm. */
  #ask<Request, Response>(
    method: MethodDefinition<Request, Response>,
    request: Request,
    options: OperationOptions,
  ): Promise<Response> {
    let target = this.#targets.current;
    return runOperation<Response>(this.#clock, {
      kind: 'read',
      timeoutMs: this.#timeoutOf(options),
      isPatient: this.#targets.all.length === 1,
      attempt: (remainingMs, ended) => {
        target = this.#targets.current;
        void this.#call(target, remainingMs, method, request).then(ended);
        return () => false;
      },
      leave: () => this.#targets.leave(target),
      renew: () => false,
      settled: () => undefined,
    });
  }

  async #call<Request, Response>(
    target: ClientTarget,
    remainingMs: number,
    { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, Response>,
    request: Request,
  ): Promise<AttemptResult<Response>> {
    if (this.#isClosed) return { type: 'closed', hasLeft: false };
    const { calls } = target;
    const wall = this.#clock.wall();
    if (!(await isReady(calls, new Date(wall + Math.min(connectMs, remainingMs))))) {
      this.#targets.leave(target);
      return { type: 'unsent' };
    }
    // It may have been closed meanwhile: a channel that is shut down throws.
    if (this.#isClosed) return { type: 'closed', hasLeft: false };
    const deadline = new Date(wall + remainingMs);
    return new Promise((resolve) => {
      calls.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        noMetadata,
        { deadline },
        (error, response) => {
          const result: AttemptResult<Response> =
            error === null
              ? { type: 'answered', response: response as Response }
              : failureOf(error);
          if (isFailed(result)) this.#targets.leave(target);
          resolve(result);
        },
      );
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { endpoint, calls } of this.#targets.all) {
      endpoint.close();
      calls.close();
    }
    this.#cluster.close();
  }

  /** Throws BAD_REQUEST. */
  #timeoutOf({ timeoutMs }: OperationOptions): number {
    const asked = Math.min(timeoutMs ?? this.#timeoutMs, deadlineMsMax);
    if (Number.isNaN(asked)) throw new KeychainError('BAD_REQUEST', 'timeoutMs is not a number');
    return asked;
  }

  /** Throws OVERLOADED. */
  #write<Response>(
    options: OperationOptions,
    bytes: number,
    read: KvOperation<Response>['read'],
    asked: (request: RequestId) => Asked,
  ): Promise<Response> {
    const timeoutMs = this.#timeoutOf(options);
    const trace = parseTraceparent(options.traceparent);
    let id = this.#writeIds.take();
    return this.#run<Response>({
      kind: 'write',
      timeoutMs,
      trace,
      bytes: bytes + operationOverheadBytes,
      asked: () => asked(id.request),
      read,
      renew: () => {
        const renewed = this.#writeIds.renew(id);
        id = renewed ?? id;
        return renewed !== undefined;
      },
      settled: () => this.#writeIds.done(id),
    });
  }

  #run<Response>(operation: KvOperation<Response>): Promise<Response> {
    const error = this.#refusal(operation.bytes);
    if (error !== undefined) {
      operation.settled();
      return Promise.reject(error);
    }
    this.#operations += 1;
    const plan = new KvPlan(operation, this.#targets, this.#clock, () => {
      this.#operations -= 1;
    });
    return runOperation(this.#clock, plan);
  }

  /** What this client doesn't even send; a message that is too large would end the stream for all. */
  #refusal(bytes: number): KeychainError | undefined {
    if (bytes > messageBytesMax) {
      const metadata = { limit: String(messageBytesMax), actual: String(bytes), flag: '' };
      const message = `key and value need ${bytes} bytes and a message has at most ${messageBytesMax}`;
      return new KeychainError('VALUE_TOO_LARGE', message, metadata);
    }
    if (this.#operations >= operationsMax) {
      const metadata = { limit: String(operationsMax), actual: String(this.#operations), flag: '' };
      const message = `${this.#operations} operations wait for their answer and the limit is ${operationsMax}`;
      return new KeychainError('OVERLOADED', message, metadata);
    }
    return undefined;
  }
}

function connectionOf(client: KVClient, address: string, clock: Clock): Connection {
  return {
    get isReady() {
      return client.getChannel().getConnectivityState(false) === connectivityState.READY;
    },
    ready: (timeoutMs) => isReady(client, new Date(clock.wall() + timeoutMs)),
    dial: (handler) => openBidi(client, KVService.session, handler, address),
  };
}

/** Throws BAD_REQUEST: what can't be encoded would end the stream for all. */
function bytesOf(key: Key, field: string): Uint8Array {
  if (typeof key === 'string') return Buffer.from(key);
  if (key instanceof Uint8Array) return key;
  throw new KeychainError('BAD_REQUEST', `${field} is neither text nor bytes`, { field });
}

function textOf(node: string): string {
  if (typeof node === 'string') return node;
  throw new KeychainError('BAD_REQUEST', 'node is not a text', { field: 'node' });
}

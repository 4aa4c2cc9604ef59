import {
  ChannelCredentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
} from '@grpc/grpc-js';
import { noBytes } from '../base/bytes.js';
import { type Clock, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
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
import {
  clientIdOf,
  confirm,
  isFull,
  nextId,
  type RequestIds,
  requestIds,
  take,
} from '../retry/request-ids.js';
import { type AttemptResult, type OperationPlan, runOperation } from './attempts.js';
import { connectMs, laneSpanMax, lanesMax, renewalsMax, writesMax } from './limits.js';

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

interface CallOptions {
  readonly deadline: Date;
}
type Callback<Response> = (error: ServiceError | null, response: Response) => void;
type Call<Response> = (
  client: KVClient,
  options: CallOptions,
  callback: Callback<Response>,
) => void;

/** A write's name, and the lane that it came from. */
interface TakenId {
  readonly lane: RequestIds;
  readonly request: RequestId;
}

class Client implements KeychainClient {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #clients: readonly KVClient[];
  readonly #cluster: ClusterVerbs;
  readonly #seed: Uint8Array;
  readonly #lanes: RequestIds[] = [];
  /** Client ids made so far. */
  #idsMade = 0;
  #writes = 0;
  #isClosed = false;
  /** The endpoint that is used until it fails. */
  #preferred = 0;

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
    this.#seed = random.bytes(16);
    const credentials = ChannelCredentials.createInsecure();
    this.#clients = endpoints.map((at) => new KVClient(at, credentials, clientOptions));
    this.#cluster = clusterVerbs({ addresses: endpoints, clock });
  }

  async get(key: Key, options: GetOptions = {}): Promise<GetResponse | undefined> {
    const request = { key: bytesOf(key), node: options.node ?? '' };
    const metadata = metadataOf(options);
    try {
      return await runOperation<GetResponse>(this.#clock, {
        kind: 'read',
        timeoutMs: this.#timeoutOf(options),
        renew: () => false,
        ...this.#attempts<GetResponse>(() => (client, call, done) => {
          client.get(request, metadata, call, done);
        }),
      });
    } catch (error) {
      if (error instanceof KeychainError && error.reason === 'KEY_NOT_FOUND') return undefined;
      throw error;
    }
  }

  put(key: Key, value: Key, options: OperationOptions = {}): Promise<PutResponse> {
    const entry = { key: bytesOf(key), value: bytesOf(value) };
    const metadata = metadataOf(options);
    return this.#write<PutResponse>(
      options,
      (request) => (client, call, done) => client.put({ ...entry, request }, metadata, call, done),
    );
  }

  delete(key: Key, options: OperationOptions = {}): Promise<DeleteResponse> {
    const entry = { key: bytesOf(key) };
    const metadata = metadataOf(options);
    return this.#write<DeleteResponse>(
      options,
      (request) => (client, call, done) =>
        client.delete({ ...entry, request }, metadata, call, done),
    );
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
    { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, Response>,
    request: Request,
    options: OperationOptions,
  ): Promise<Response> {
    return runOperation<Response>(this.#clock, {
      kind: 'read',
      timeoutMs: this.#timeoutOf(options),
      renew: () => false,
      ...this.#attempts<Response>(() => (client, call, done) => {
        client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          request,
          noMetadata,
          call,
          (error, response) => done(error, response as Response),
        );
      }),
    });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const client of this.#clients) client.close();
    this.#cluster.close();
  }

  #timeoutOf({ timeoutMs }: OperationOptions): number {
    return Math.min(timeoutMs ?? this.#timeoutMs, deadlineMsMax);
  }

  async #write<Response>(
    options: OperationOptions,
    callOf: (request: RequestId) => Call<Response>,
  ): Promise<Response> {
    let taken = this.#take();
    let renewals = 0;
    this.#writes += 1;
    try {
      return await runOperation(this.#clock, {
        kind: 'write',
        timeoutMs: this.#timeoutOf(options),
        ...this.#attempts(() => callOf(taken.request)),
        renew: () => {
          renewals += 1;
          if (renewals > renewalsMax) return false;
          const expired = taken;
          const index = this.#lanes.indexOf(expired.lane);
          if (index >= 0) this.#lanes[index] = this.#newLane();
          taken = this.#take();
          confirm(expired.lane, expired.request.seq);
          return true;
        },
      });
    } finally {
      this.#writes -= 1;
      confirm(taken.lane, taken.request.seq);
    }
  }

  #take(): TakenId {
    let lane = this.#lanes.find((each) => !isFull(each));
    if (lane === undefined && this.#lanes.length < lanesMax) {
      lane = this.#newLane();
      this.#lanes.push(lane);
    }
    if (lane === undefined || this.#writes >= writesMax) {
      const metadata = { limit: String(writesMax), actual: String(this.#writes), flag: '' };
      const message = `${this.#writes} writes wait for their answer and the limit is ${writesMax}`;
      throw new KeychainError('OVERLOADED', message, metadata);
    }
    const request = nextId(lane);
    take(lane);
    return { lane, request };
  }

  #newLane(): RequestIds {
    this.#idsMade += 1;
    return requestIds(clientIdOf(this.#seed, this.#idsMade), laneSpanMax);
  }

  /** The part of a plan that is about endpoints. */
  #attempts<Response>(
    callOf: () => Call<Response>,
  ): Pick<OperationPlan<Response>, 'attempt' | 'leave' | 'isPatient'> {
    let index = this.#preferred;
    return {
      isPatient: this.#clients.length === 1,
      attempt: (remainingMs) => {
        index = this.#preferred;
        return this.#attempt(index, remainingMs, callOf());
      },
      leave: () => this.#leave(index),
    };
  }

  async #attempt<Response>(
    index: number,
    remainingMs: number,
    call: Call<Response>,
  ): Promise<AttemptResult<Response>> {
    const client = this.#clients[index];
    if (client === undefined || this.#isClosed) return { type: 'closed' };
    const wall = this.#clock.wall();
    if (!(await isReady(client, new Date(wall + Math.min(connectMs, remainingMs))))) {
      this.#leave(index);
      return { type: 'unsent' };
    }
    const deadline = new Date(wall + remainingMs);
    return new Promise((resolve) => {
      call(client, { deadline }, (error, response) => {
        if (error === null) {
          resolve({ type: 'answered', response });
          return;
        }
        const failure = failureOf(error);
        if (failure.type !== 'refused' || failure.error.status === 'UNAVAILABLE')
          this.#leave(index);
        resolve(failure);
      });
    });
  }

  /** The endpoint failed: the next one is used from now on. */
  #leave(index: number): void {
    if (this.#preferred === index) this.#preferred = (index + 1) % this.#clients.length;
  }
}

function metadataOf({ traceparent }: OperationOptions): Metadata {
  if (traceparent === undefined) return noMetadata;
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent);
  return metadata;
}

function bytesOf(key: Key): Uint8Array {
  return typeof key === 'string' ? Buffer.from(key) : key;
}

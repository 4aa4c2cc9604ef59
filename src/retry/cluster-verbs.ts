import {
  ChannelCredentials,
  type ClientOptions,
  connectivityState,
  type ServiceError,
} from '@grpc/grpc-js';
import { type Clock, pause } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import {
  type AddMemberRequest,
  type ChainStatusResponse,
  type ClusterStatusResponse,
  CoordinatorClient,
  type DrainMemberRequest,
  type RecoverChainRequest,
  type RemoveMemberRequest,
  type ReorderChainRequest,
  type SetChainLengthRequest,
  type SnapshotClusterResponse,
  type TransferLeadershipResponse,
  type View,
} from '../gen/keychaindb/v1/coordinator.js';
import { meantFor, type OwnCluster } from '../wire/cluster-name.js';
import { introducing } from '../wire/grpc-handshake.js';
import type { Handshake } from '../wire/handshake.js';
import { clientOptions, failureOf, isReady, noMetadata } from './grpc-call.js';
import { meanings } from './retry.js';

/** The verbs about membership, at whoever of several addresses answers. All reject with KeychainError. */
export interface ClusterVerbs {
  /**
   * Serving members that are all silent are shown as LASTSRV. As new as the call, unless `stale`: then as the one that
   * answers has it, also while there is no leader.
   */
  members(timeoutMs: number, stale?: boolean): Promise<View>;
  status(timeoutMs: number): Promise<ClusterStatusResponse>;
  /** What the nodes say of themselves. */
  chainStatus(timeoutMs: number): Promise<ChainStatusResponse>;
  /** Changes: one that is repeated after it succeeded succeeds. */
  addMember(request: AddMemberRequest, timeoutMs: number): Promise<void>;
  removeMember(request: RemoveMemberRequest, timeoutMs: number): Promise<void>;
  drainMember(request: DrainMemberRequest, timeoutMs: number): Promise<void>;
  reorderChain(request: ReorderChainRequest, timeoutMs: number): Promise<void>;
  recoverChain(request: RecoverChainRequest, timeoutMs: number): Promise<void>;
  setChainLength(request: SetChainLengthRequest, timeoutMs: number): Promise<void>;
  /** Of the coordinators themselves. The new one has no vote until it has caught up. */
  joinCluster(id: string, address: string, timeoutMs: number): Promise<void>;
  removeFromCluster(id: string, timeoutMs: number): Promise<void>;
  /** To `id`; '' for the coordinator with the longest log. Returns who leads. */
  transferLeadership(id: string, timeoutMs: number): Promise<string>;
  /** The coordinators' state, for `cluster restore`. */
  snapshotCluster(timeoutMs: number): Promise<SnapshotClusterResponse>;
  /** Where they are asked from now on. */
  follow(addresses: readonly string[]): void;
  close(): void;
}

export interface ClusterVerbsOptions {
  /** host:port of coordinators, or of proxies that relay to them. At least one. */
  readonly addresses: readonly string[];
  readonly clock: Clock;
  /** Of a process of the cluster; a client has none. */
  readonly handshake?: Handshake;
  /** Who is of another one is asked nothing: it refuses, and the next address is asked. A client doesn't know. */
  readonly cluster?: OwnCluster;
}

/** Milliseconds that one address is waited for before the next is asked. */
const verbAttemptMs = 1_500;
/** Milliseconds without which a change isn't tried again. */
const changeAttemptMsMin = 250;
/** Milliseconds between two rounds over all addresses. */
const roundPauseMs = 100;

interface VerbOptions {
  readonly deadline: Date;
}

type Callback<Response> = (error: ServiceError | null, response: Response) => void;
type Verb<Response> = (
  client: CoordinatorClient,
  options: VerbOptions,
  callback: Callback<Response>,
) => void;

export function clusterVerbs(options: ClusterVerbsOptions): ClusterVerbs {
  return new RetriedVerbs(options);
}

type Answer<Response> =
  | { readonly type: 'answered'; readonly response: Response }
  /** `isCertain`: a change was refused, or never left. */
  | { readonly type: 'failed'; readonly error: KeychainError; readonly isCertain: boolean };

class RetriedVerbs implements ClusterVerbs {
  #clients: readonly (readonly [address: string, client: CoordinatorClient])[] = [];
  readonly #clock: Clock;
  readonly #clientOptions: ClientOptions;
  /** The address that answered last. */
  #preferred = 0;
  #isClosed = false;

  constructor({ addresses, clock, handshake, cluster }: ClusterVerbsOptions) {
    this.#clock = clock;
    const interceptors = [
      ...(handshake === undefined ? [] : [introducing(handshake)]),
      ...(cluster === undefined ? [] : [meantFor(cluster)]),
    ];
    this.#clientOptions = { ...clientOptions, interceptors };
    this.follow(addresses);
  }

  follow(addresses: readonly string[]): void {
    if (this.#isClosed) return;
    const credentials = ChannelCredentials.createInsecure();
    const before = new Map(this.#clients);
    this.#clients = addresses.map((at) => [
      at,
      before.get(at) ?? new CoordinatorClient(at, credentials, this.#clientOptions),
    ]);
    for (const [at, client] of before) if (!addresses.includes(at)) client.close();
    this.#preferred %= Math.max(1, this.#clients.length);
  }

  async members(timeoutMs: number, stale = false): Promise<View> {
    const { view } = await this.#ask<{ readonly view: View | undefined }>(
      (client, options, callback) => client.getMembers({ stale }, noMetadata, options, callback),
      timeoutMs,
    );
    if (view !== undefined) return view;
    throw new KeychainError('NO_CHAIN', 'no chain was created yet');
  }

  status(timeoutMs: number): Promise<ClusterStatusResponse> {
    return this.#ask<ClusterStatusResponse>(
      (client, options, callback) =>
        client.clusterStatus({ local: false }, noMetadata, options, callback),
      timeoutMs,
    );
  }

  addMember(request: AddMemberRequest, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) => client.addMember(request, noMetadata, options, callback),
      timeoutMs,
    );
  }

  removeMember(request: RemoveMemberRequest, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) => client.removeMember(request, noMetadata, options, callback),
      timeoutMs,
    );
  }

  drainMember(request: DrainMemberRequest, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) => client.drainMember(request, noMetadata, options, callback),
      timeoutMs,
    );
  }

  chainStatus(timeoutMs: number): Promise<ChainStatusResponse> {
    return this.#ask<ChainStatusResponse>(
      (client, options, callback) => client.chainStatus({}, noMetadata, options, callback),
      timeoutMs,
    );
  }

  reorderChain(request: ReorderChainRequest, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) => client.reorderChain(request, noMetadata, options, callback),
      timeoutMs,
    );
  }

  joinCluster(id: string, address: string, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) =>
        client.joinCluster({ id, address }, noMetadata, options, callback),
      timeoutMs,
    );
  }

  recoverChain(request: RecoverChainRequest, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) => client.recoverChain(request, noMetadata, options, callback),
      timeoutMs,
    );
  }

  setChainLength(request: SetChainLengthRequest, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) => client.setChainLength(request, noMetadata, options, callback),
      timeoutMs,
    );
  }

  removeFromCluster(id: string, timeoutMs: number): Promise<void> {
    return this.#change(
      (client, options, callback) =>
        client.removeFromCluster({ id }, noMetadata, options, callback),
      timeoutMs,
    );
  }

  async transferLeadership(id: string, timeoutMs: number): Promise<string> {
    const { leader } = await this.#ask<TransferLeadershipResponse>(
      (client, options, callback) =>
        client.transferLeadership({ id }, noMetadata, options, callback),
      timeoutMs,
      true,
    );
    return leader;
  }

  snapshotCluster(timeoutMs: number): Promise<SnapshotClusterResponse> {
    return this.#ask<SnapshotClusterResponse>(
      (client, options, callback) => client.snapshotCluster({}, noMetadata, options, callback),
      timeoutMs,
    );
  }

  /** May be sent again: a change that was made already succeeds. */
  async #change(verb: Verb<unknown>, timeoutMs: number): Promise<void> {
    await this.#ask(verb, timeoutMs, true);
  }

  close(): void {
    this.#isClosed = true;
    for (const [, client] of this.#clients) client.close();
  }

  /** Asks one address after the other until the deadline. @param isChange it may have been made, by an attempt without answer */
  async #ask<Response>(
    verb: Verb<Response>,
    timeoutMs: number,
    isChange = false,
  ): Promise<Response> {
    const deadline = this.#clock.monotonic() + timeoutMs;
    let isUnknown = false;
    let last = new KeychainError('NO_LEADER', 'no coordinator is known');
    for (let attempt = 1; ; attempt += 1) {
      if (this.#isClosed) throw isUnknown ? unknown(last) : closedError();
      const remaining = deadline - this.#clock.monotonic();
      const client = this.#clients[this.#preferred]?.[1];
      if (remaining <= 0 || client === undefined) break;
      // An attempt that is cut short would make of a certain refusal a change that may have been made.
      if (isChange && attempt > 1 && remaining < changeAttemptMsMin) break;
      const answer = await this.#once(client, verb, Math.min(verbAttemptMs, remaining));
      if (answer.type === 'answered') return answer.response;
      const { error, isCertain } = answer;
      last = error;
      // The caller has named the epoch: another attempt fares no better.
      const isFinal = !meanings[error.reason].retry || error.reason === 'STALE_EPOCH';
      if (isCertain && isFinal) throw isUnknown ? unknown(error) : error;
      if (!isCertain && isChange) isUnknown = true;
      this.#preferred = (this.#preferred + 1) % this.#clients.length;
      if (attempt % this.#clients.length === 0) await pause(this.#clock, roundPauseMs);
    }
    throw isUnknown ? unknown(last) : last;
  }

  async #once<Response>(
    client: CoordinatorClient,
    verb: Verb<Response>,
    timeoutMs: number,
  ): Promise<Answer<Response>> {
    const deadline = new Date(this.#clock.wall() + timeoutMs);
    if (!(await isReady(client, deadline))) {
      return { type: 'failed', error: unreachableError(client), isCertain: true };
    }
    // It may have been closed meanwhile, or its coordinator have left: a channel that is shut down throws.
    if (client.getChannel().getConnectivityState(false) === connectivityState.SHUTDOWN) {
      return { type: 'failed', error: unreachableError(client), isCertain: true };
    }
    return new Promise((resolve) => {
      verb(client, { deadline }, (error, response) => {
        resolve(error === null ? { type: 'answered', response } : failed(client, error));
      });
    });
  }
}

function failed(client: CoordinatorClient, error: ServiceError): Answer<never> {
  const failure = failureOf(error);
  if (failure.type !== 'refused') {
    return { type: 'failed', error: unreachableError(client), isCertain: false };
  }
  const isCertain = meanings[failure.error.reason].applied !== 'unknown';
  return { type: 'failed', error: failure.error, isCertain };
}

function unreachableError(client: CoordinatorClient): KeychainError {
  const target = client.getChannel().getTarget().replace(/^dns:/, '');
  return new KeychainError('NO_LEADER', `${target} did not answer`);
}

function closedError(): KeychainError {
  return new KeychainError('SHUTTING_DOWN', 'this client is closed');
}

function unknown(last: KeychainError): KeychainError {
  return new KeychainError(
    'OUTCOME_UNKNOWN',
    `the change may have been made: ask for the members; the last answer: ${last.message}`,
    {},
    last,
  );
}

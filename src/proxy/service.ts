import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type { Random } from '../base/random.js';
import type {
  CoordinatorServer,
  TransferLeadershipResponse,
  View,
  WatchViewsRequest,
} from '../gen/keychaindb/v1/coordinator.js';
import type { KVServer, Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import type { ClusterVerbs } from '../retry/cluster-verbs.js';
import type { Acceptor } from '../wire/channel.js';
import { answer } from '../wire/grpc-answer.js';
import { serveBidi, serveServerStream } from '../wire/grpc-channel.js';
import { toServiceError } from '../wire/grpc-errors.js';
import { traceOfCall } from '../wire/grpc-trace.js';
import { fromOperationError } from '../wire/operation-error.js';
import type { ProxyHandle } from './runtime.js';
import { acceptSession } from './session.js';

type Result = NonNullable<OperationResult['result']>;
/** The response message of one kind of operation. */
type ResponseOf<Case extends Result['$case']> = Extract<Result, { readonly $case: Case }>['value'];

/** KV for clients: unary calls and sessions. */
export function kvService(proxy: ProxyHandle, clock: Clock, random: Random): KVServer {
  const run = (
    call: ServerUnaryCall<unknown, unknown>,
    operation: NonNullable<Operation['operation']>,
  ): Promise<OperationResult> =>
    proxy.execute({
      id: 0,
      timeoutMs: timeoutOf(call, clock),
      trace: traceOfCall(call, random),
      operation,
    });
  return {
    async get(call, callback) {
      const { result } = await run(call, { $case: 'get', value: call.request });
      reply(callback, result?.$case === 'get' ? result.value : undefined, result);
    },
    async put(call, callback) {
      const { result } = await run(call, { $case: 'put', value: call.request });
      reply(callback, result?.$case === 'put' ? result.value : undefined, result);
    },
    async delete(call, callback) {
      const { result } = await run(call, { $case: 'delete', value: call.request });
      reply(callback, result?.$case === 'delete' ? result.value : undefined, result);
    },
    session: serveBidi(acceptSession(proxy, clock)),
  };
}

function reply<Response extends ResponseOf<'get' | 'put' | 'delete'>>(
  callback: sendUnaryData<Response>,
  response: Response | undefined,
  result: OperationResult['result'],
): void {
  if (response === undefined) callback(toServiceError(errorOf(result)));
  else callback(null, response);
}

function errorOf(result: OperationResult['result']): KeychainError {
  if (result?.$case === 'error') return fromOperationError(result.value);
  return new KeychainError('INTERNAL', 'the node answered another operation than was asked');
}

/** Milliseconds before the caller's deadline at which it is answered, so that the answer still arrives. */
const answerEarlyMs = 50;

/** Milliseconds that a call may take: 5 s where its caller names no deadline, never more than 60 s. */
export function timeoutOf(call: ServerUnaryCall<unknown, unknown>, clock: Clock): number {
  const deadline = call.getDeadline();
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  if (!Number.isFinite(at)) return deadlineMsDefault;
  const left = at - clock.wall();
  return Math.min(Math.max(1, left - Math.min(answerEarlyMs, left / 10)), deadlineMsMax);
}

/** The Coordinator service, relayed: unary verbs go to a coordinator, views are the proxy's own. */
export function coordinatorService(
  proxy: ProxyHandle,
  cluster: ClusterVerbs,
  clock: Clock,
): CoordinatorServer {
  const run = <Response>(
    call: ServerUnaryCall<unknown, Response>,
    verb: (timeoutMs: number) => Promise<Response>,
    callback: sendUnaryData<Response>,
  ): void => {
    answer(verb(timeoutOf(call, clock)), callback);
  };
  return {
    getMembers(call, callback) {
      run(
        call,
        async (timeoutMs) => ({ view: await cluster.members(timeoutMs, call.request.stale) }),
        callback,
      );
    },
    addMember(call, callback) {
      run(call, (timeoutMs) => emptied(cluster.addMember(call.request, timeoutMs)), callback);
    },
    removeMember(call, callback) {
      run(call, (timeoutMs) => emptied(cluster.removeMember(call.request, timeoutMs)), callback);
    },
    drainMember(call, callback) {
      run(call, (timeoutMs) => emptied(cluster.drainMember(call.request, timeoutMs)), callback);
    },
    reorderChain(call, callback) {
      run(call, (timeoutMs) => emptied(cluster.reorderChain(call.request, timeoutMs)), callback);
    },
    recoverChain(call, callback) {
      run(call, (timeoutMs) => emptied(cluster.recoverChain(call.request, timeoutMs)), callback);
    },
    setChainLength(call, callback) {
      run(call, (timeoutMs) => emptied(cluster.setChainLength(call.request, timeoutMs)), callback);
    },
    joinCluster(call, callback) {
      const { id, address } = call.request;
      run(call, (timeoutMs) => emptied(cluster.joinCluster(id, address, timeoutMs)), callback);
    },
    removeFromCluster(call, callback) {
      const { id } = call.request;
      run(call, (timeoutMs) => emptied(cluster.removeFromCluster(id, timeoutMs)), callback);
    },
    transferLeadership(call, callback) {
      const { id } = call.request;
      const verb = async (timeoutMs: number): Promise<TransferLeadershipResponse> => ({
        leader: await cluster.transferLeadership(id, timeoutMs),
      });
      run(call, verb, callback);
    },
    snapshotCluster(call, callback) {
      run(call, (timeoutMs) => cluster.snapshotCluster(timeoutMs), callback);
    },
    chainStatus(call, callback) {
      run(call, (timeoutMs) => cluster.chainStatus(timeoutMs), callback);
    },
    clusterStatus(call, callback) {
      run(call, (timeoutMs) => cluster.status(timeoutMs), callback);
    },
    watchViews: serveServerStream(acceptWatch(proxy)),
    heartbeat: serveBidi((channel) => {
      channel.close('nodes beat to coordinators, not to proxies');
      return { message: () => undefined, closed: () => undefined };
    }),
  };
}

async function emptied(done: Promise<void>): Promise<Record<string, never>> {
  await done;
  return {};
}

/** Every view that this proxy learns of, the present one first. A client that can't keep up is hung up on. */
export function acceptWatch(proxy: ProxyHandle): Acceptor<View, WatchViewsRequest> {
  return (channel) => {
    const watch = proxy.view$.subscribe({
      next: (view) => {
        if (!channel.send(view)) channel.close('the watcher does not keep up');
      },
      complete: () => channel.close('the proxy is shutting down'),
    });
    return { message: () => undefined, closed: () => watch.unsubscribe() };
  };
}

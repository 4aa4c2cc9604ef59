import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type { Random } from '../base/random.js';
import type {
  CoordinatorServer,
  TransferLeadershipResponse,
  View,
  WatchViewsRequest,
} from '../gen/keychaindb/v1/coordinator.js';
import type { KVServer } from '../gen/keychaindb/v1/kv.js';
import type { ClusterVerbs } from '../retry/cluster-verbs.js';
import { answerWithinMs } from '../retry/retry.js';
import type { Acceptor } from '../wire/channel.js';
import { answer } from '../wire/grpc-answer.js';
import { serveBidi, serveServerStream } from '../wire/grpc-channel.js';
import { type KvHandler, kvCalls } from '../wire/kv-service.js';
import type { ProxyHandle } from './runtime.js';
import { acceptSession } from './session.js';

/** KV for clients: what answers its unary calls, however they come in. */
export function kvHandler(proxy: ProxyHandle): KvHandler {
  return {
    budgetMs,
    execute: (operation) => proxy.execute(operation),
  };
}

/** KV for clients: unary calls and sessions. */
export function kvService(proxy: ProxyHandle, clock: Clock, random: Random): KVServer {
  return {
    ...kvCalls(kvHandler(proxy), random),
    session: serveBidi(acceptSession(proxy, clock)),
  };
}

/** Milliseconds that a call may take: 5 s where its caller names no deadline, never more than 60 s. */
function budgetMs(leftMs: number | undefined): number {
  if (leftMs === undefined) return deadlineMsDefault;
  return Math.min(answerWithinMs(leftMs), deadlineMsMax);
}

/** The same of a call that grpc-js serves. */
export function timeoutOf(call: ServerUnaryCall<unknown, unknown>, clock: Clock): number {
  const deadline = call.getDeadline();
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  return budgetMs(Number.isFinite(at) ? at - clock.wall() : undefined);
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

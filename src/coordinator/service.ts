import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { KeychainError, reasonStatus } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type { CoordinatorServer } from '../gen/keychaindb/v1/coordinator.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import { answer } from '../wire/grpc-answer.js';
import { serveBidi, serveServerStream } from '../wire/grpc-channel.js';
import type { CoordinatorHandle } from './runtime.js';

/** Milliseconds before the caller's deadline at which it is answered, so that the answer still arrives. */
const answerEarlyMs = 50;

/** The Coordinator service of one coordinator; every verb is answered by any of them. */
export function coordinatorService(
  coordinator: CoordinatorHandle,
  clock: Clock,
  meter: RequestMeter,
): CoordinatorServer {
  const reply = (verb: string, done: Promise<void>, callback: Callback): void => {
    const from = clock.monotonic();
    const count = (reason: string): void =>
      meter.observe(verb, reasonStatus(reason), reason, clock.monotonic() - from);
    done.then(
      () => count(''),
      (error: unknown) => count(KeychainError.from(error).reason),
    );
    answer(
      done.then(() => ({})),
      callback,
    );
  };
  return {
    getMembers: (_call, callback) => {
      meter.observe('get_members', 'OK', '', 0);
      callback(null, { view: coordinator.shownView() });
    },
    addMember: (call, callback) => {
      const done = coordinator.addMember(call.request, timeoutOf(call, clock));
      reply('add_member', done, callback);
    },
    removeMember: (call, callback) => {
      const done = coordinator.removeMember(call.request, timeoutOf(call, clock));
      reply('remove_member', done, callback);
    },
    drainMember: (call, callback) => {
      const done = coordinator.drainMember(call.request, timeoutOf(call, clock));
      reply('drain_member', done, callback);
    },
    reorderChain: (call, callback) => {
      const done = coordinator.reorderChain(call.request, timeoutOf(call, clock));
      reply('reorder_chain', done, callback);
    },
    recoverChain: (call, callback) => {
      const done = coordinator.recoverChain(call.request, timeoutOf(call, clock));
      reply('recover_chain', done, callback);
    },
    setChainLength: (call, callback) => {
      const done = coordinator.setChainLength(call.request, timeoutOf(call, clock));
      reply('set_chain_length', done, callback);
    },
    joinCluster: (_call, callback) => callback(notYet),
    removeFromCluster: (_call, callback) => callback(notYet),
    clusterStatus: (_call, callback) => {
      meter.observe('cluster_status', 'OK', '', 0);
      callback(null, coordinator.status());
    },
    watchViews: serveServerStream(coordinator.acceptWatch),
    heartbeat: serveBidi(coordinator.acceptHeartbeat),
  };
}

/** gRPC's UNIMPLEMENTED: none of our reasons, as it is no answer of the cluster. */
const notYet = {
  code: 12,
  details:
    'changes of the coordinators themselves come later: name them all with --initial-cluster',
} as const;

type Callback = sendUnaryData<Record<string, never>>;

function timeoutOf(call: ServerUnaryCall<unknown, unknown>, clock: Clock): number {
  const deadline = call.getDeadline();
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  if (!Number.isFinite(at)) return deadlineMsDefault;
  return Math.min(Math.max(1, at - clock.wall() - answerEarlyMs), deadlineMsMax);
}

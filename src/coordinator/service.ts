import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type { CoordinatorServer } from '../gen/keychaindb/v1/coordinator.js';
import { serveBidi, serveServerStream } from '../wire/grpc-channel.js';
import { toServiceError } from '../wire/grpc-errors.js';
import type { CoordinatorHandle } from './runtime.js';

/** Milliseconds before the caller's deadline at which it is answered, so that the answer still arrives. */
const answerEarlyMs = 50;

/** The Coordinator service of one coordinator; every verb is answered by any of them. */
export function coordinatorService(
  coordinator: CoordinatorHandle,
  clock: Clock,
): CoordinatorServer {
  return {
    getMembers: (_call, callback) => callback(null, { view: coordinator.shownView() }),
    addMember: (call, callback) => {
      const { id, address } = call.request;
      reply(coordinator.addMember(id, address, timeoutOf(call, clock)), callback);
    },
    removeMember: (call, callback) => {
      reply(coordinator.removeMember(call.request.id, timeoutOf(call, clock)), callback);
    },
    joinCluster: (_call, callback) => callback(notYet),
    removeFromCluster: (_call, callback) => callback(notYet),
    clusterStatus: (_call, callback) => callback(null, coordinator.status()),
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

function reply(done: Promise<void>, callback: sendUnaryData<Record<string, never>>): void {
  done.then(
    () => callback(null, {}),
    (error: unknown) => callback(toServiceError(error)),
  );
}

function timeoutOf(call: ServerUnaryCall<unknown, unknown>, clock: Clock): number {
  const deadline = call.getDeadline();
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  if (!Number.isFinite(at)) return deadlineMsDefault;
  return Math.min(Math.max(1, at - clock.wall() - answerEarlyMs), deadlineMsMax);
}

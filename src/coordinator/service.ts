import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { KeychainError, reasonStatus } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type {
  ChainStatusResponse,
  CoordinatorServer,
  GetMembersResponse,
} from '../gen/keychaindb/v1/coordinator.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import { answer } from '../wire/grpc-answer.js';
import { serveBidi, serveServerStream } from '../wire/grpc-channel.js';
import type { Handshake } from '../wire/handshake.js';
import type { CoordinatorGroup } from './group.js';
import type { CoordinatorHandle } from './runtime.js';

/** Milliseconds before the caller's deadline at which it is answered, so that the answer still arrives. */
const answerEarlyMs = 50;

/** The Coordinator service of one coordinator; every verb is answered by any of them. */
export function coordinatorService(
  coordinator: CoordinatorHandle,
  group: CoordinatorGroup,
  clock: Clock,
  meter: RequestMeter,
  handshake: Handshake,
): CoordinatorServer {
  const reply = <Response>(
    verb: string,
    done: Promise<Response>,
    callback: sendUnaryData<Response>,
  ): void => {
    const from = clock.monotonic();
    const count = (reason: string): void =>
      meter.observe(verb, reasonStatus(reason), reason, clock.monotonic() - from);
    done.then(
      () => count(''),
      (error: unknown) => count(KeychainError.from(error).reason),
    );
    answer(done, callback);
  };
  const members = async (stale: boolean, timeoutMs: number): Promise<GetMembersResponse> => {
    if (!stale) await group.settleReads(timeoutMs);
    return { view: coordinator.members() };
  };
  const chainStatus = async (): Promise<ChainStatusResponse> => ({
    ...coordinator.chainStatus(),
    refused: handshake.refused,
  });
  return {
    getMembers: (call, callback) => {
      reply('get_members', members(call.request.stale, timeoutOf(call, clock)), callback);
    },
    addMember: (call, callback) => {
      const done = emptied(coordinator.addMember(call.request, timeoutOf(call, clock)));
      reply('add_member', done, callback);
    },
    removeMember: (call, callback) => {
      const done = emptied(coordinator.removeMember(call.request, timeoutOf(call, clock)));
      reply('remove_member', done, callback);
    },
    drainMember: (call, callback) => {
      const done = emptied(coordinator.drainMember(call.request, timeoutOf(call, clock)));
      reply('drain_member', done, callback);
    },
    reorderChain: (call, callback) => {
      const done = emptied(coordinator.reorderChain(call.request, timeoutOf(call, clock)));
      reply('reorder_chain', done, callback);
    },
    recoverChain: (call, callback) => {
      const done = emptied(coordinator.recoverChain(call.request, timeoutOf(call, clock)));
      reply('recover_chain', done, callback);
    },
    setChainLength: (call, callback) => {
      const done = emptied(coordinator.setChainLength(call.request, timeoutOf(call, clock)));
      reply('set_chain_length', done, callback);
    },
    joinCluster: (call, callback) => {
      const { id, address } = call.request;
      reply('join_cluster', emptied(group.join(id, address, timeoutOf(call, clock))), callback);
    },
    removeFromCluster: (call, callback) => {
      const done = emptied(group.remove(call.request.id, timeoutOf(call, clock)));
      reply('remove_from_cluster', done, callback);
    },
    transferLeadership: (call, callback) => {
      const done = group.transfer(call.request.id, timeoutOf(call, clock));
      reply(
        'transfer_leadership',
        done.then((leader) => ({ leader })),
        callback,
      );
    },
    chainStatus: (_call, callback) => {
      reply('chain_status', chainStatus(), callback);
    },
    clusterStatus: (call, callback) => {
      reply('cluster_status', group.status(call.request.local), callback);
    },
    snapshotCluster: (call, callback) => {
      reply('snapshot_cluster', group.snapshot(timeoutOf(call, clock)), callback);
    },
    watchViews: serveServerStream(coordinator.acceptWatch),
    heartbeat: serveBidi(coordinator.acceptHeartbeat),
  };
}

async function emptied(done: Promise<void>): Promise<Record<string, never>> {
  await done;
  return {};
}

function timeoutOf(call: ServerUnaryCall<unknown, unknown>, clock: Clock): number {
  const deadline = call.getDeadline();
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  if (!Number.isFinite(at)) return deadlineMsDefault;
  return Math.min(Math.max(1, at - clock.wall() - answerEarlyMs), deadlineMsMax);
}

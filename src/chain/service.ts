import type { sendUnaryData } from '@grpc/grpc-js';
import { KeychainError } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import { systemRandom } from '../base/random.js';
import type { ChainServer } from '../gen/keychaindb/v1/chain.js';
import type { KVServer, Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import { answer } from '../wire/grpc-answer.js';
import { serveBidi } from '../wire/grpc-channel.js';
import { type TracedCall, traceOfCall } from '../wire/grpc-trace.js';
import { fromOperationError } from '../wire/operation-error.js';
import type { NodeHandle } from './node.js';

type Asked = NonNullable<Operation['operation']>;
type Result = NonNullable<OperationResult['result']>;

/** KV at a node: Get is answered here; Put and Delete only by the head. `node`: the present incarnation. */
export function nodeKvService(node: () => NodeHandle): KVServer {
  return {
    get: (call, callback) =>
      reply(run(node, call, { $case: 'get', value: call.request }), callback, (r) =>
        r.$case === 'get' ? r.value : undefined,
      ),
    put: (call, callback) =>
      reply(run(node, call, { $case: 'put', value: call.request }), callback, (r) =>
        r.$case === 'put' ? r.value : undefined,
      ),
    delete: (call, callback) =>
      reply(run(node, call, { $case: 'delete', value: call.request }), callback, (r) =>
        r.$case === 'delete' ? r.value : undefined,
      ),
    session: serveBidi((channel) => node().acceptSession(channel)),
  };
}

export function nodeChainService(node: () => NodeHandle): ChainServer {
  return {
    follow: serveBidi((channel) => node().acceptFollow(channel)),
    peer: serveBidi((channel) => node().acceptPeer(channel)),
    inspect: (call, callback) => {
      const inspected = async () => node().inspect(call.request.hash);
      answer(inspected(), callback);
    },
  };
}

/** Runs one operation within the call's deadline; rejects with what it was refused with. */
async function run(
  node: () => NodeHandle,
  call: TracedCall & { getDeadline(): Date | number },
  operation: Asked,
): Promise<Result> {
  const timeoutMs = timeoutOf(call.getDeadline());
  const { result } = await node().execute({
    id: 0,
    timeoutMs,
    trace: traceOfCall(call, systemRandom),
    operation,
  });
  if (result === undefined) throw new KeychainError('INTERNAL', 'an answer without a result');
  if (result.$case === 'error') throw fromOperationError(result.value);
  return result;
}

function reply<T>(
  given: Promise<Result>,
  callback: sendUnaryData<T>,
  pick: (result: Result) => T | undefined,
): void {
  const picked = given.then((result) => {
    const response = pick(result);
    if (response === undefined) throw new KeychainError('INTERNAL', `a ${result.$case} came`);
    return response;
  });
  answer(picked, callback);
}

/** Milliseconds left of a call's deadline. */
function timeoutOf(deadline: Date | number): number {
  const at = deadline instanceof Date ? deadline.getTime() : deadline;
  if (!Number.isFinite(at)) return deadlineMsDefault;
  return Math.max(1, Math.min(deadlineMsMax, Math.floor(at - Date.now())));
}

import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { KeychainError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { KVServer, Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import { toServiceError } from './grpc-errors.js';
import { traceOfCall } from './grpc-trace.js';
import { fromOperationError } from './operation-error.js';
import { smallBytes, Unfetched, unfetchedBytesMax } from './unfetched.js';

export type Asked = NonNullable<Operation['operation']>;
export type Result = NonNullable<OperationResult['result']>;
export type Verb = Asked['$case'];

/** Who answers the unary calls of KV, at a proxy or at a node. */
export interface KvHandler {
  /**
   * Milliseconds that an operation may take. `leftMs`: until its caller's deadline, negative where that has
   * passed; undefined: it names none.
   */
  budgetMs(leftMs: number | undefined): number;
  /** May reject, and throw, with KeychainError. */
  execute(operation: Operation): Promise<OperationResult>;
}

/** The unary calls of KV as grpc-js serves them: those that `DirectCalls` leaves to it. */
export function kvCalls(
  handler: KvHandler,
  random: Random,
): Pick<KVServer, 'get' | 'put' | 'delete'> {
  const rooms = new AnswerRooms();
  const run = async <Response>(
    call: ServerUnaryCall<unknown, Response>,
    operation: Asked,
    callback: sendUnaryData<Response>,
    pick: (result: Result) => Response | undefined,
  ): Promise<void> => {
    try {
      const timeoutMs = handler.budgetMs(leftMsOf(call.getDeadline()));
      const trace = traceOfCall(call, random);
      const { result } = await handler.execute({ id: 0, timeoutMs, trace, operation });
      const response = result === undefined ? undefined : pick(result);
      if (result === undefined || response === undefined) throw failureOf(result);
      const refusal = rooms.refusal(call, result);
      if (refusal !== undefined) throw refusal;
      callback(null, response);
    } catch (error) {
      callback(toServiceError(error));
    }
  };
  return {
    get: (call, callback) => {
      void run(call, { $case: 'get', value: call.request }, callback, (result) =>
        result.$case === 'get' ? result.value : undefined,
      );
    },
    put: (call, callback) => {
      void run(call, { $case: 'put', value: call.request }, callback, (result) =>
        result.$case === 'put' ? result.value : undefined,
      );
    },
    delete: (call, callback) => {
      void run(call, { $case: 'delete', value: call.request }, callback, (result) =>
        result.$case === 'delete' ? result.value : undefined,
      );
    },
  };
}

/** Room for the large answers of each connection: grpc-js tells no more of it than who its peer is. */
class AnswerRooms {
  readonly #rooms = new Map<string, Unfetched>();

  /** Takes room for an answer that may have to wait to be fetched, or says why there is none. */
  refusal(call: ServerUnaryCall<unknown, unknown>, result: Result): KeychainError | undefined {
    const bytes = result.$case === 'get' ? result.value.value.byteLength : 0;
    if (bytes <= smallBytes || call.cancelled) return undefined;
    const peer = call.getPeer();
    const room = this.#rooms.get(peer) ?? new Unfetched(unfetchedBytesMax);
    if (!room.take(bytes)) return unfetched(room.bytes + bytes);
    this.#rooms.set(peer, room);
    // grpc-js says so when the call's stream is over, however it ended.
    call.once('cancelled', () => {
      room.give(bytes);
      if (room.bytes === 0) this.#rooms.delete(peer);
    });
    return undefined;
  }
}

function unfetched(actual: number): KeychainError {
  const limit = unfetchedBytesMax;
  return new KeychainError(
    'OVERLOADED',
    `${actual} bytes of this connection's compressed calls wait to be fetched and the limit is ${limit}: fetch answers first`,
    { limit: String(limit), actual: String(actual), flag: '' },
  );
}

/** Why a result isn't the answer to what was asked. */
export function failureOf(result: OperationResult['result']): KeychainError {
  if (result?.$case === 'error') return fromOperationError(result.value);
  return new KeychainError('INTERNAL', 'the answer is to another operation than was asked');
}

function leftMsOf(deadline: Date | number): number | undefined {
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  return Number.isFinite(at) ? at - Date.now() : undefined;
}

import type { ServerUnaryCall, sendUnaryData } from '@grpc/grpc-js';
import { KeychainError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { KVServer, Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import { toServiceError } from './grpc-errors.js';
import { traceOfCall } from './grpc-trace.js';
import { fromOperationError } from './operation-error.js';

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
      if (response === undefined) callback(toServiceError(failureOf(result)));
      else callback(null, response);
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

/** Why a result isn't the answer to what was asked. */
export function failureOf(result: OperationResult['result']): KeychainError {
  if (result?.$case === 'error') return fromOperationError(result.value);
  return new KeychainError('INTERNAL', 'the answer is to another operation than was asked');
}

function leftMsOf(deadline: Date | number): number | undefined {
  const at = typeof deadline === 'number' ? deadline : deadline.getTime();
  return Number.isFinite(at) ? at - Date.now() : undefined;
}

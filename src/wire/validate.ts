import { KeychainError } from '../base/errors.js';
import { idBytesMax } from '../base/limits.js';
import type { Operation } from '../gen/keychaindb/v1/kv.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';

/** Limits on what a client sends, in bytes; each has a flag. */
export interface OperationLimits {
  readonly keyBytesMax: number;
  readonly valueBytesMax: number;
}

export const keyBytesFlag = '--key-bytes-max';
export const valueBytesFlag = '--value-bytes-max';
export const clientIdBytes = 16;

/** What is wrong with an operation, or undefined. */
export function validateOperation(
  operation: Operation,
  limits: OperationLimits,
): KeychainError | undefined {
  const asked = operation.operation;
  if (asked === undefined) {
    return new KeychainError('BAD_REQUEST', 'the operation is none of get, put and delete', {
      field: 'operation',
    });
  }
  const ofKey = validateKey(asked.value.key, limits);
  if (ofKey !== undefined) return ofKey;
  switch (asked.$case) {
    case 'get':
      return validateNode(asked.value.node);
    case 'put':
      return (
        validateValueSize(asked.value.value.byteLength, limits) ??
        validateRequestId(asked.value.request)
      );
    case 'delete':
      return validateRequestId(asked.value.request);
  }
}

export function validateKey(key: Uint8Array, limits: OperationLimits): KeychainError | undefined {
  if (key.byteLength === 0) {
    return new KeychainError('KEY_EMPTY', 'the key is empty: a key has at least one byte');
  }
  if (key.byteLength <= limits.keyBytesMax) return undefined;
  return tooLarge('KEY_TOO_LARGE', 'key', key.byteLength, limits.keyBytesMax, keyBytesFlag);
}

/** Of a member that a read names; longer than any id that there is. */
function validateNode(node: string): KeychainError | undefined {
  if (node.length <= idBytesMax) return undefined;
  return new KeychainError(
    'BAD_REQUEST',
    `the node's id has ${node.length} characters and the limit is ${idBytesMax}`,
    { field: 'node' },
  );
}

/** `bytes`: the size of the value, or what of it was seen. */
export function validateValueSize(
  bytes: number,
  limits: OperationLimits,
): KeychainError | undefined {
  if (bytes <= limits.valueBytesMax) return undefined;
  return tooLarge('VALUE_TOO_LARGE', 'value', bytes, limits.valueBytesMax, valueBytesFlag);
}

function tooLarge(
  reason: 'KEY_TOO_LARGE' | 'VALUE_TOO_LARGE',
  what: string,
  actual: number,
  limit: number,
  flag: string,
): KeychainError {
  return new KeychainError(
    reason,
    `the ${what} has ${actual} bytes and the limit is ${limit}: raise ${flag} on proxies and nodes, or send less`,
    { limit: String(limit), actual: String(actual), flag },
  );
}

/** No id is fine here: a proxy adds its own. */
export function validateRequestId(request: RequestId | undefined): KeychainError | undefined {
  if (request === undefined) return undefined;
  const { clientId, seq, answeredBelow } = request;
  if (clientId.byteLength !== clientIdBytes) {
    return badRequestId(
      'client_id',
      `client_id has ${clientId.byteLength} bytes: it has exactly ${clientIdBytes}`,
    );
  }
  if (!Number.isSafeInteger(seq) || seq < 1) {
    return badRequestId('seq', `seq is ${seq}: it counts 1, 2, 3 … for each client_id`);
  }
  if (!Number.isSafeInteger(answeredBelow) || answeredBelow < 1 || answeredBelow > seq) {
    return badRequestId(
      'answered_below',
      `answered_below is ${answeredBelow}: it is at least 1 and at most seq, ${seq}`,
    );
  }
  return undefined;
}

function badRequestId(field: string, message: string): KeychainError {
  return new KeychainError('BAD_REQUEST', message, { field: `request.${field}` });
}

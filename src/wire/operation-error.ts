import { isReason, KeychainError } from '../base/errors.js';
import type { OperationError, OperationResult } from '../gen/keychaindb/v1/kv.js';

/** The error as it stands in a result of a session. */
export function toOperationError(error: KeychainError): OperationError {
  return { reason: error.reason, message: error.message, metadata: error.metadata };
}

/** A reason that this program doesn't know, of a newer one, is INTERNAL here: outcome unknown for a write. */
export function fromOperationError(error: OperationError): KeychainError {
  if (isReason(error.reason)) return new KeychainError(error.reason, error.message, error.metadata);
  return new KeychainError(
    'INTERNAL',
    `unknown reason ${JSON.stringify(error.reason)}: ${error.message}`,
    error.metadata,
  );
}

/** The result that carries the error of operation `id`. */
export function errorResult(id: number, error: KeychainError): OperationResult {
  return { id, result: { $case: 'error', value: toOperationError(error) } };
}

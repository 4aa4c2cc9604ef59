import { type sendUnaryData, status } from '@grpc/grpc-js';
import { toServiceError } from './grpc-errors.js';

/**
 * Answers a unary call with what a promise gives, or with the error that it rejects with. An answer that can't be sent
 * is said to be one: what a caller can ask for must not end the process.
 */
export function answer<Response>(
  given: Promise<Response>,
  callback: sendUnaryData<Response>,
): void {
  given
    .then(
      (response) => callback(null, response),
      (error: unknown) => callback(toServiceError(error)),
    )
    .catch((error: unknown) => callback({ code: status.INTERNAL, details: unsent(error) }));
}

function unsent(error: unknown): string {
  return `the answer can't be sent: ${error instanceof Error ? error.name : 'unknown'}`;
}

import type { sendUnaryData } from '@grpc/grpc-js';
import { toServiceError } from './grpc-errors.js';

/** Answers a unary call with what a promise gives, or with the error that it rejects with. */
export function answer<Response>(
  given: Promise<Response>,
  callback: sendUnaryData<Response>,
): void {
  given.then(
    (response) => callback(null, response),
    (error: unknown) => callback(toServiceError(error)),
  );
}

import { type Client, connectivityState, Metadata, type ServiceError } from '@grpc/grpc-js';
import { KeychainError } from '../base/errors.js';
import { messageBytesMax } from '../base/limits.js';
import { fromServiceError } from '../wire/grpc-errors.js';

/** Options of a client that is retried by us: reconnects soon, and takes the largest message. */
export const clientOptions = {
  'grpc.max_receive_message_length': messageBytesMax,
  'grpc.max_send_message_length': messageBytesMax,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.enable_retries': 0,
  // A peer whose machine is gone sends no reset: what waits for it ends by these.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
} as const;

/** Calls carry none; one object serves them all, as nothing is added to it. */
export const noMetadata = new Metadata();

/**
 * Resolves true when calls can leave, false when the address can't be reached now or the deadline passed:
 * a call that was never begun was certainly not applied.
 */
export function isReady(client: Client, deadline: Date): Promise<boolean> {
  const channel = client.getChannel();
  if (channel.getConnectivityState(false) === connectivityState.READY) return Promise.resolve(true);
  return new Promise((resolve) => {
    const look = (): void => {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) resolve(true);
      else if (state === connectivityState.IDLE || state === connectivityState.CONNECTING) {
        channel.watchConnectivityState(state, deadline, (error) => {
          if (error === undefined || error === null) look();
          else resolve(false);
        });
      } else resolve(false);
    };
    look();
  });
}

/** How a call failed. */
export type CallFailure =
  /** The answerer's own refusal. */
  | { readonly type: 'refused'; readonly error: KeychainError }
  /** Of the transport: a call that writes may have been applied. */
  | { readonly type: 'lost' }
  | { readonly type: 'timedOut' };

const deadlineExceeded = 4;

export function failureOf(error: ServiceError): CallFailure {
  const known = fromServiceError(error);
  if (known instanceof KeychainError) return { type: 'refused', error: known };
  return { type: error.code === deadlineExceeded ? 'timedOut' : 'lost' };
}

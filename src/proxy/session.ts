import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { OperationResult, SessionRequest, SessionResponse } from '../gen/keychaindb/v1/kv.js';
import { BatchSender } from '../wire/batch-sender.js';
import type { Acceptor } from '../wire/channel.js';
import { errorResult } from '../wire/operation-error.js';
import { messageLimits, sessionAnswerBytesMax, sessionOperationsMax } from './limits.js';
import type { ProxyHandle } from './runtime.js';

/** Serves KV.Session to clients: every operation of a batch runs by itself, answers come as they are ready. */
export function acceptSession(
  proxy: ProxyHandle,
  clock: Pick<Clock, 'soon' | 'after'>,
): Acceptor<SessionResponse, SessionRequest> {
  return (channel) => {
    let inFlight = 0;
    const sender = new BatchSender<OperationResult, SessionResponse>(
      channel,
      messageLimits,
      (results) => ({ results, view: undefined }),
      clock,
    );
    const answer = (result: OperationResult): void => {
      inFlight -= 1;
      if (channel.isClosed) return;
      // However many were asked for before: a value that finds no room isn't kept, it can be read again.
      const waiting = sender.waitingBytes + bytesOf(result);
      const fits = waiting <= sessionAnswerBytesMax || result.result?.$case !== 'get';
      const told = fits
        ? result
        : errorResult(result.id, overloaded('bytes of answers', waiting, sessionAnswerBytesMax));
      sender.add(told, bytesOf(told));
    };
    return {
      message({ operations }) {
        if (operations.length === 0) channel.send({ results: [], view: proxy.view });
        if (operations.length > sessionOperationsMax) {
          channel.close(`a message has at most ${sessionOperationsMax} operations`);
          return;
        }
        // Answers that the client doesn't fetch count too: what waits here is bounded.
        if (sender.waiting.length > 2 * sessionOperationsMax) {
          channel.close('its answers are not fetched');
          return;
        }
        for (const operation of operations) {
          inFlight += 1;
          const actual = inFlight + sender.waiting.length;
          const refusal =
            actual > sessionOperationsMax
              ? overloaded('operations', actual, sessionOperationsMax)
              : sender.waitingBytes > sessionAnswerBytesMax
                ? overloaded('bytes of answers', sender.waitingBytes, sessionAnswerBytesMax)
                : undefined;
          if (refusal !== undefined) answer(errorResult(operation.id, refusal));
          else void proxy.execute(operation).then(answer);
        }
      },
      closed() {
        // Operations in flight run to their end; their answers go nowhere.
      },
    };
  };
}

function overloaded(what: string, actual: number, limit: number): KeychainError {
  return new KeychainError(
    'OVERLOADED',
    `${actual} ${what} of this session wait and the limit is ${limit}: fetch answers first`,
    { limit: String(limit), actual: String(actual), flag: '--session-operations-max' },
  );
}

function bytesOf({ result }: OperationResult): number {
  return result?.$case === 'get' ? result.value.value.byteLength + 64 : 64;
}

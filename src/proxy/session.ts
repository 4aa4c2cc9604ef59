import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { OperationResult, SessionRequest, SessionResponse } from '../gen/keychaindb/v1/kv.js';
import type { Acceptor } from '../wire/channel.js';
import { errorResult } from '../wire/operation-error.js';
import { BatchSender } from './batch-sender.js';
import { messageLimits, sessionOperationsMax } from './limits.js';
import type { ProxyHandle } from './runtime.js';

/** Serves KV.Session to clients: every operation of a batch runs by itself, answers come as they are ready. */
export function acceptSession(
  proxy: ProxyHandle,
  clock: Pick<Clock, 'soon'>,
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
      if (!channel.isClosed) sender.add(result, bytesOf(result));
    };
    return {
      message({ operations }) {
        if (operations.length === 0) channel.send({ results: [], view: proxy.view });
        for (const operation of operations) {
          inFlight += 1;
          // Answers that the client doesn't fetch count too: what waits here is bounded.
          const actual = inFlight + sender.waiting.length;
          if (actual > sessionOperationsMax) answer(errorResult(operation.id, overloaded(actual)));
          else void proxy.execute(operation).then(answer);
        }
      },
      closed() {
        // Operations in flight run to their end; their answers go nowhere.
      },
    };
  };
}

function overloaded(actual: number): KeychainError {
  return new KeychainError(
    'OVERLOADED',
    `${actual} operations of this session wait and the limit is ${sessionOperationsMax}: fetch answers first`,
    {
      limit: String(sessionOperationsMax),
      actual: String(actual),
      flag: '--session-operations-max',
    },
  );
}

function bytesOf({ result }: OperationResult): number {
  return result?.$case === 'get' ? result.value.value.byteLength + 64 : 64;
}

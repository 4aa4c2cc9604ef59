import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import { BatchSender } from '../wire/batch-sender.js';
import type { Acceptor } from '../wire/channel.js';
import { errorResult } from '../wire/operation-error.js';
import { Unfetched } from '../wire/unfetched.js';
import { messageLimits, sessionAnswerBytesMax, sessionOperationsMax } from './limits.js';
import { callerWaits, type ProxyHandle } from './runtime.js';

/** Bytes of a result besides its value. */
const overheadBytes = 64;

/** Serves KV.Session to clients: every operation of a batch runs by itself, answers come as they are ready. */
export function acceptSession(
  proxy: ProxyHandle,
  clock: Omit<Clock, 'wall'>,
): Acceptor<SessionResponse, SessionRequest> {
  return (channel) => {
    let inFlight = 0;
    const room = new Unfetched(sessionAnswerBytesMax);
    const sender = new BatchSender<OperationResult, SessionResponse>(
      channel,
      messageLimits,
      (results) => ({ results, view: undefined }),
      clock,
      undefined,
      (results) => {
        for (const result of results) if (valueBytes(result) > 0) room.give(valueBytes(result));
      },
    );
    const answer = (result: OperationResult): void => {
      inFlight -= 1;
      if (!channel.isClosed) sender.add(result, valueBytes(result) + overheadBytes);
    };
    /** @param isAgain it was let in: whoever takes no room lets the next one in */
    const run = async (operation: Operation, until: number, isAgain = false): Promise<void> => {
      const result = await proxy.execute(operation);
      if (channel.isClosed) return;
      const bytes = valueBytes(result);
      if (bytes > 0 && !room.take(bytes)) {
        waitForRoom(operation, until);
        return;
      }
      if (bytes === 0 && isAgain) room.next();
      answer(result);
    };
    /** No longer than its caller waits. */
    const waitForRoom = (operation: Operation, until: number): void => {
      const leftMs = (): number => Math.ceil(until - clock.monotonic());
      const again = (): void => {
        cancel();
        void run({ ...operation, timeoutMs: Math.max(1, leftMs()) }, until, true);
      };
      const cancel = clock.after(Math.max(0, leftMs()), () => {
        room.leave(again);
        answer(errorResult(operation.id, unfetched()));
      });
      room.wait(again);
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
        const now = clock.monotonic();
        for (const operation of operations) {
          inFlight += 1;
          const actual = inFlight + sender.waiting.length;
          if (actual <= sessionOperationsMax) void run(operation, now + callerWaits(operation));
          else answer(errorResult(operation.id, overloaded(actual)));
        }
      },
      closed() {
        // Operations in flight run to their end; their answers go nowhere.
      },
    };
  };
}

function overloaded(actual: number): KeychainError {
  const limit = sessionOperationsMax;
  return new KeychainError(
    'OVERLOADED',
    `${actual} operations of this session wait and the limit is ${limit}: fetch answers first`,
    { limit: String(limit), actual: String(actual), flag: '' },
  );
}

function unfetched(): KeychainError {
  const limit = String(sessionAnswerBytesMax);
  return new KeychainError(
    'DEADLINE',
    `no answer in time: values of ${limit} bytes waited to be fetched from this session before this one; fetch faster, or read less at once`,
    { limit },
  );
}

function valueBytes({ result }: OperationResult): number {
  return result?.$case === 'get' ? result.value.value.byteLength : 0;
}

import type { Clock } from '../base/clock.js';
import { KeychainError, type Reason } from '../base/errors.js';
import type { CallFailure } from '../retry/grpc-call.js';
import {
  type AttemptHistory,
  type AttemptOutcome,
  attemptHistory,
  attemptTimeoutMs,
  begin,
  end,
  judge,
  mayBeApplied,
  type OperationKind,
  reasonAtDeadline,
} from '../retry/retry.js';

/** How one attempt went. */
export type AttemptResult<Response> =
  | { readonly type: 'answered'; readonly response: Response }
  | CallFailure
  /** No connection: it never left. */
  | { readonly type: 'unsent' }
  /** The client was closed. */
  | { readonly type: 'closed' };

export interface OperationPlan<Response> {
  readonly kind: OperationKind;
  readonly timeoutMs: number;
  /** There is nobody else to ask: an attempt is waited for as long as there is time. */
  readonly isPatient: boolean;
  /** Begins an attempt, which may take as long as the whole operation; never rejects. */
  attempt(remainingMs: number): Promise<AttemptResult<Response>>;
  /** The newest attempt takes long: the next one goes elsewhere. */
  leave(): void;
  /** Gives the write a new id; false where there is none. */
  renew(): boolean;
}

interface Ended<Response> {
  /** Which attempt, counted from 1. */
  readonly attempt: number;
  readonly result: AttemptResult<Response>;
}

/**
 * Runs one operation to its end: attempts, by the rules of the retry room, until one is answered or the
 * time is up. An attempt that takes long is not cancelled: the first answer counts, whichever it is.
 */
export async function runOperation<Response>(
  clock: Clock,
  plan: OperationPlan<Response>,
): Promise<Response> {
  const history = attemptHistory(plan.kind);
  const deadline = clock.monotonic() + plan.timeoutMs;
  const inbox = new Inbox<Ended<Response>>(clock);
  /** Is the newest attempt waited for, or a pause before the next? */
  let isTrying = false;
  let wakeAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    const ended = await inbox.next(wakeAt - clock.monotonic());
    const now = clock.monotonic();
    if (ended === undefined) {
      if (now >= deadline) throw failure(history, reasonAtDeadline(history));
      if (isTrying) plan.leave();
      begin(history);
      const attempt = history.begun;
      void plan.attempt(deadline - now).then((result) => inbox.put({ attempt, result }));
      isTrying = true;
      wakeAt = plan.isPatient ? deadline : now + attemptTimeoutMs(history, deadline - now);
      continue;
    }
    const { result } = ended;
    if (result.type === 'answered') return result.response;
    if (result.type === 'closed') throw closedFailure(history);
    const outcome: AttemptOutcome =
      result.type === 'refused' ? { type: 'refused', reason: result.error.reason } : result;
    end(history, outcome);
    const isNewest = isTrying && ended.attempt === history.begun;
    const verdict = judge(history, outcome, deadline - now);
    if (verdict.type === 'settle') {
      throw result.type === 'refused' ? result.error : failure(history, 'INTERNAL');
    }
    if (verdict.type === 'giveUp' && isNewest) throw failure(history, verdict.reason);
    if (verdict.type === 'renew' && !plan.renew()) throw failure(history, 'SESSION_EXPIRED');
    if (isNewest) {
      isTrying = false;
      wakeAt = verdict.type === 'retry' ? Math.min(now + verdict.afterMs, deadline) : now;
    }
  }
}

/** What attempts have come to, in the order in which they ended. Bound: one a attempt. */
class Inbox<Item> {
  readonly #clock: Clock;
  readonly #items: Item[] = [];
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(item: Item): void {
    this.#items.push(item);
    this.#wake?.();
  }

  /** The next item, or undefined after so many milliseconds. */
  async next(milliseconds: number): Promise<Item | undefined> {
    if (this.#items.length === 0 && milliseconds > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.#clock.after(milliseconds, resolve);
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
      this.#wake = undefined;
    }
    return this.#items.shift();
  }
}

function closedFailure(history: AttemptHistory): KeychainError {
  // The attempt just begun never left.
  end(history, { type: 'unsent' });
  return mayBeApplied(history)
    ? failure(history, 'OUTCOME_UNKNOWN')
    : new KeychainError('SHUTTING_DOWN', 'this client was closed; nothing was applied');
}

function failure(history: AttemptHistory, reason: Reason): KeychainError {
  const attempts = `${history.begun} attempts`;
  const message = mayBeApplied(history)
    ? `no certain answer came in time (${attempts}): the write may have been applied`
    : `no endpoint answered in time (${attempts}); nothing was applied`;
  return new KeychainError(reason, message);
}

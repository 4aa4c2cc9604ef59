import type { Cancel, Clock } from '../base/clock.js';
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

/** What an answerer refused with; becomes an error only where the caller is told it. */
export interface Refusal {
  readonly reason: Reason;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

/** How one attempt went. */
export type AttemptResult<Response> =
  | { readonly type: 'answered'; readonly response: Response }
  /** The answerer's own refusal. */
  | { readonly type: 'refused'; readonly error: Refusal }
  | Exclude<CallFailure, { readonly type: 'refused' }>
  /** No connection: it never left. */
  | { readonly type: 'unsent' }
  /** The client was closed, before the attempt left or after. */
  | { readonly type: 'closed'; readonly hasLeft: boolean };

/** Nobody waits for the attempt any more. True: it never left, and never will. */
export type Abandon = () => boolean;

export interface OperationPlan<Response> {
  readonly kind: OperationKind;
  readonly timeoutMs: number;
  /** There is nobody else to ask: an attempt is waited for as long as there is time. */
  readonly isPatient: boolean;
  /** Begins an attempt, which may take as long as the whole operation. `ended` is called once, and not from within. */
  attempt(remainingMs: number, ended: (result: AttemptResult<Response>) => void): Abandon;
  /** The newest attempt takes long: the next one goes elsewhere. */
  leave(): void;
  /** Gives the write a new id; false where there is none. */
  renew(): boolean;
  /** The operation is over, whichever way; once, before its caller hears of it. */
  settled(): void;
}

/** Less than this is no time for another attempt: timers may fire as much too early. */
const attemptMsMin = 1;

/**
 * Runs one operation to its end: attempts, by the rules of the retry room, until one is answered or the
 * time is up. An attempt that takes long is not cancelled: the first answer counts, whichever it is.
 */
export function runOperation<Response>(
  clock: Clock,
  plan: OperationPlan<Response>,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    new RunningOperation(clock, plan, resolve, reject).next();
  });
}

/** One promise, one timer and one callback an attempt: this is the path of every operation. */
class RunningOperation<Response> {
  readonly #clock: Clock;
  readonly #plan: OperationPlan<Response>;
  readonly #resolve: (response: Response) => void;
  readonly #reject: (error: KeychainError) => void;
  readonly #history: AttemptHistory;
  readonly #deadline: number;
  /** One an attempt. */
  readonly #abandons: Abandon[] = [];
  /** Is the newest attempt waited for, or a pause before the next? */
  #isTrying = false;
  #isOver = false;
  #cancelTimer: Cancel = () => undefined;

  constructor(
    clock: Clock,
    plan: OperationPlan<Response>,
    resolve: (response: Response) => void,
    reject: (error: KeychainError) => void,
  ) {
    this.#clock = clock;
    this.#plan = plan;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#history = attemptHistory(plan.kind);
    this.#deadline = clock.monotonic() + plan.timeoutMs;
  }

  /** Begins the next attempt, or ends the operation where its time is up. */
  next(): void {
    const plan = this.#plan;
    const history = this.#history;
    const remainingMs = this.#deadline - this.#clock.monotonic();
    if (this.#isTrying) plan.leave();
    if (remainingMs < attemptMsMin) {
      this.#expire();
      return;
    }
    begin(history);
    const attempt = history.begun;
    this.#isTrying = true;
    this.#wakeIn(plan.isPatient ? remainingMs : attemptTimeoutMs(history, remainingMs));
    this.#abandons.push(plan.attempt(remainingMs, (result) => this.#ended(attempt, result)));
  }

  #ended(attempt: number, result: AttemptResult<Response>): void {
    if (this.#isOver) return;
    if (result.type === 'answered') {
      this.#finish();
      this.#resolve(result.response);
      return;
    }
    const history = this.#history;
    if (result.type === 'closed') {
      if (!result.hasLeft) end(history, { type: 'unsent' });
      this.#fail(closedFailure(history));
      return;
    }
    const outcome: AttemptOutcome =
      result.type === 'refused' ? { type: 'refused', reason: result.error.reason } : result;
    end(history, outcome);
    const isNewest = this.#isTrying && attempt === history.begun;
    const remainingMs = this.#deadline - this.#clock.monotonic();
    const verdict = judge(history, outcome, remainingMs);
    if (verdict.type === 'settle') {
      this.#fail(result.type === 'refused' ? errorOf(result.error) : failure(history, 'INTERNAL'));
      return;
    }
    if (verdict.type === 'giveUp' && isNewest) {
      this.#fail(failure(history, verdict.reason));
      return;
    }
    if (verdict.type === 'renew' && !this.#plan.renew()) {
      this.#fail(failure(history, 'SESSION_EXPIRED'));
      return;
    }
    if (!isNewest) return;
    this.#isTrying = false;
    const pauseMs = verdict.type === 'retry' ? Math.min(verdict.afterMs, remainingMs) : 0;
    if (pauseMs > 0) this.#wakeIn(pauseMs);
    else this.next();
  }

  #expire(): void {
    for (const abandon of this.#abandons) {
      if (abandon()) end(this.#history, { type: 'unsent' });
    }
    this.#fail(failure(this.#history, reasonAtDeadline(this.#history)));
  }

  #fail(error: KeychainError): void {
    this.#finish();
    this.#reject(error);
  }

  #finish(): void {
    this.#isOver = true;
    this.#cancelTimer();
    for (const abandon of this.#abandons) abandon();
    this.#plan.settled();
  }

  #wakeIn(milliseconds: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#clock.after(milliseconds, () => this.next());
  }
}

function errorOf(refusal: Refusal): KeychainError {
  if (refusal instanceof KeychainError) return refusal;
  return new KeychainError(refusal.reason, refusal.message, refusal.metadata);
}

function closedFailure(history: AttemptHistory): KeychainError {
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

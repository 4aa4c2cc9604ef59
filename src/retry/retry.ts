import type { Reason } from '../base/errors.js';

/** A write changes something, so that running it twice, or not knowing whether it ran, matters. */
export type OperationKind = 'read' | 'write';

/** How one attempt ended, or seems to have ended: after `timedOut` an answer may still come. */
export type AttemptOutcome =
  /** The operation's own answer, e.g. a value, or a revision. */
  | { readonly type: 'answered' }
  | { readonly type: 'refused'; readonly reason: Reason }
  /** It never left this process. */
  | { readonly type: 'unsent' }
  /** The link was lost after it was sent. */
  | { readonly type: 'lost' }
  | { readonly type: 'timedOut' };

/** What to do after an attempt. */
export type Verdict =
  /** Hand the attempt's answer or refusal to the caller. */
  | { readonly type: 'settle' }
  /** Try again, after `afterMs` or when the view or a link changes: a read elsewhere, a write at the head. */
  | { readonly type: 'retry'; readonly where: 'elsewhere' | 'head'; readonly afterMs: number }
  /** The session's outcomes are gone, and nothing was applied: run it under a new client id, where ours. */
  | { readonly type: 'renew' }
  | { readonly type: 'giveUp'; readonly reason: Reason };

/** What is known of one operation's attempts. Changed by `begin`, `end` and `resolve` alone. */
export interface AttemptHistory {
  readonly kind: OperationKind;
  /** Attempts begun. */
  begun: number;
  /**
   * Attempts of a write that were sent and not refused with certainty: in flight, lost or timed out. While
   * it isn't 0 the write may have been applied, whatever other attempts were answered.
   */
  unresolved: number;
  /** The newest refusal that applied nothing: what the caller is told when the time is up. */
  refusal: Reason | undefined;
  /** Answers that speak of a fault of the answerer. */
  faults: number;
}

/** What a refusal says of the attempt that it answers, and whether another attempt may fare better. */
interface Meaning {
  readonly retry: boolean;
  /**
   * `nothing`: this attempt was not applied. `unknown`: it may have been. `outcome`: it is the recorded
   * outcome of the request (R12), as good as an answer.
   */
  readonly applied: 'nothing' | 'unknown' | 'outcome';
}

const final: Meaning = { retry: false, applied: 'nothing' };
const again: Meaning = { retry: true, applied: 'nothing' };
const doubtful: Meaning = { retry: true, applied: 'unknown' };

/** One row for every reason, so that a new one can't be forgotten. */
export const meanings: Readonly<Record<Reason, Meaning>> = {
  KEY_EMPTY: final,
  KEY_TOO_LARGE: final,
  VALUE_TOO_LARGE: final,
  BAD_REQUEST: final,
  KEY_NOT_FOUND: final,
  MEMBER_NOT_FOUND: final,
  ROUTE_NOT_FOUND: final,
  TRACE_NOT_FOUND: final,
  REVISION_NOT_FOUND: final,
  NO_CHAIN: final,
  MEMBER_EXISTS: final,
  ADDRESS_IN_USE: final,
  LAST_SERVING: final,
  LAST_MAJORITY: final,
  MEMBER_REMOVED: final,
  MEMBER_BEHIND: final,
  // Another one that is asked may speak it: while the cluster is upgraded they differ.
  VERSION_UNKNOWN: again,
  SESSION_EXPIRED: final,
  CONDITION_FAILED: { retry: false, applied: 'outcome' },
  STALE_EPOCH: again,
  OVERLOADED: again,
  NO_LEADER: again,
  CHANGE_PENDING: again,
  TRANSFER_FAILED: final,
  NOT_HEAD: again,
  NOT_SERVING: again,
  LEASE_EXPIRED: again,
  SHUTTING_DOWN: again,
  DEADLINE: again,
  OUTCOME_UNKNOWN: doubtful,
  CORRUPT: doubtful,
  INTERNAL: doubtful,
};

/** Milliseconds that the first attempt may take; every further one twice as long. */
export const readAttemptMs = 400;
export const writeAttemptMs = 1_500;
/** Milliseconds before a retry after the first refusal; doubles up to the longest. */
export const backoffMsFirst = 10;
export const backoffMsLongest = 320;
/** Retries of an operation before the first wait: another node may have the answer at once. */
const eagerRetries = 2;
/** Attempts that may end in a fault of the answerer before the caller is told. */
export const faultsMax = 4;
/** A doubling stops here, so that shifts stay numbers. */
const doublingsMax = 10;

/** Milliseconds before a caller's deadline at which it is answered, so that the answer still arrives. */
const answerEarlyMs = 50;

/** Milliseconds that an answerer may take, of those that its caller has left. */
export function answerWithinMs(leftMs: number): number {
  return Math.max(1, leftMs - Math.min(answerEarlyMs, leftMs / 10));
}

export function attemptHistory(kind: OperationKind): AttemptHistory {
  return { kind, begun: 0, unresolved: 0, refusal: undefined, faults: 0 };
}

/** An attempt leaves. */
export function begin(history: AttemptHistory): void {
  history.begun += 1;
  if (history.kind === 'write') history.unresolved += 1;
}

/** Milliseconds that the attempt just begun may take. */
export function attemptTimeoutMs(history: AttemptHistory, remainingMs: number): number {
  const first = history.kind === 'read' ? readAttemptMs : writeAttemptMs;
  const doublings = Math.min(Math.max(history.begun - 1, 0), doublingsMax);
  return Math.max(0, Math.min(first * 2 ** doublings, remainingMs));
}

/**
 * An attempt ended. An attempt that timed out or was abandoned may end once more, by a late answer: that
 * one is told here too.
 */
export function end(history: AttemptHistory, outcome: AttemptOutcome): void {
  if (outcome.type === 'refused') {
    const { applied } = meanings[outcome.reason];
    if (applied === 'nothing') history.refusal = outcome.reason;
    if (applied !== 'unknown') resolve(history);
    if (isFault(outcome.reason)) history.faults += 1;
  } else if (outcome.type === 'answered' || outcome.type === 'unsent') {
    resolve(history);
  }
}

function resolve(history: AttemptHistory): void {
  if (history.unresolved > 0) history.unresolved -= 1;
}

/** Could the write have been applied, for all that is known? */
export function mayBeApplied(history: AttemptHistory): boolean {
  return history.unresolved > 0;
}

/** What to do after `end` was told of this outcome; `remainingMs`: what is left of the caller's deadline. */
export function judge(
  history: AttemptHistory,
  outcome: AttemptOutcome,
  remainingMs: number,
): Verdict {
  if (outcome.type === 'answered') return { type: 'settle' };
  if (outcome.type === 'refused') {
    const { retry, applied } = meanings[outcome.reason];
    if (applied === 'outcome') return { type: 'settle' };
    if (!retry) {
      if (mayBeApplied(history)) return { type: 'giveUp', reason: 'OUTCOME_UNKNOWN' };
      return outcome.reason === 'SESSION_EXPIRED' ? { type: 'renew' } : { type: 'settle' };
    }
    if (isFault(outcome.reason) && history.faults >= faultsMax) {
      if (!mayBeApplied(history)) return { type: 'settle' };
      return { type: 'giveUp', reason: 'OUTCOME_UNKNOWN' };
    }
  }
  if (remainingMs <= 0) return { type: 'giveUp', reason: reasonAtDeadline(history) };
  return {
    type: 'retry',
    where: history.kind === 'read' ? 'elsewhere' : 'head',
    afterMs: backoffMs(history, outcome),
  };
}

/** What the caller is told when the time is up. */
export function reasonAtDeadline(history: AttemptHistory): Reason {
  if (mayBeApplied(history)) return 'OUTCOME_UNKNOWN';
  return history.refusal ?? 'DEADLINE';
}

function backoffMs(history: AttemptHistory, outcome: AttemptOutcome): number {
  if (outcome.type === 'timedOut') return 0;
  const eager = outcome.type === 'refused' && outcome.reason === 'OVERLOADED' ? 0 : eagerRetries;
  const waits = history.begun - eager;
  if (waits <= 0 && history.kind === 'read') return 0;
  const doublings = Math.min(Math.max(waits - 1, 0), doublingsMax);
  return Math.min(backoffMsFirst * 2 ** doublings, backoffMsLongest);
}

function isFault(reason: Reason): boolean {
  return reason === 'CORRUPT' || reason === 'INTERNAL';
}

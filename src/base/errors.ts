/**
 * The closed set of errors that this program answers with. Names and codes: docs/names.md.
 * An error is a value; it is thrown only where a promise carries it.
 */
const reasons = {
  KEY_EMPTY: 'INVALID_ARGUMENT',
  KEY_TOO_LARGE: 'INVALID_ARGUMENT',
  VALUE_TOO_LARGE: 'INVALID_ARGUMENT',
  BAD_REQUEST: 'INVALID_ARGUMENT',
  KEY_NOT_FOUND: 'NOT_FOUND',
  MEMBER_NOT_FOUND: 'NOT_FOUND',
  ROUTE_NOT_FOUND: 'NOT_FOUND',
  TRACE_NOT_FOUND: 'NOT_FOUND',
  REVISION_NOT_FOUND: 'NOT_FOUND',
  NO_CHAIN: 'FAILED_PRECONDITION',
  MEMBER_EXISTS: 'FAILED_PRECONDITION',
  ADDRESS_IN_USE: 'FAILED_PRECONDITION',
  LAST_SERVING: 'FAILED_PRECONDITION',
  LAST_MAJORITY: 'FAILED_PRECONDITION',
  MEMBER_REMOVED: 'FAILED_PRECONDITION',
  MEMBER_BEHIND: 'FAILED_PRECONDITION',
  VERSION_UNKNOWN: 'FAILED_PRECONDITION',
  SESSION_EXPIRED: 'FAILED_PRECONDITION',
  CONDITION_FAILED: 'FAILED_PRECONDITION',
  STALE_EPOCH: 'ABORTED',
  OVERLOADED: 'RESOURCE_EXHAUSTED',
  NO_LEADER: 'UNAVAILABLE',
  CHANGE_PENDING: 'UNAVAILABLE',
  TRANSFER_FAILED: 'UNAVAILABLE',
  NOT_HEAD: 'UNAVAILABLE',
  NOT_SERVING: 'UNAVAILABLE',
  LEASE_EXPIRED: 'UNAVAILABLE',
  SHUTTING_DOWN: 'UNAVAILABLE',
  DEADLINE: 'DEADLINE_EXCEEDED',
  OUTCOME_UNKNOWN: 'DEADLINE_EXCEEDED',
  CORRUPT: 'DATA_LOSS',
  INTERNAL: 'INTERNAL',
} as const;

export type Reason = keyof typeof reasons;
export type Status = (typeof reasons)[Reason];

/** gRPC status number of each status. */
export const statusNumber: Readonly<Record<Status, number>> = {
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
};

/** HTTP status of each status; CONDITION_FAILED alone is 412. */
export const httpNumber: Readonly<Record<Status, number>> = {
  INVALID_ARGUMENT: 400,
  DEADLINE_EXCEEDED: 504,
  NOT_FOUND: 404,
  RESOURCE_EXHAUSTED: 429,
  FAILED_PRECONDITION: 400,
  ABORTED: 409,
  INTERNAL: 500,
  UNAVAILABLE: 503,
  DATA_LOSS: 500,
};

export const allReasons = Object.keys(reasons) as readonly Reason[];

export function isReason(text: string): text is Reason {
  return Object.hasOwn(reasons, text);
}

/** The gRPC status that a reason is counted under; '' is OK, and what isn't a reason INTERNAL. */
export function reasonStatus(reason: string): Status | 'OK' {
  if (reason === '') return 'OK';
  return isReason(reason) ? reasons[reason] : 'INTERNAL';
}

/** Reasons that only a fault of the program or of a disk gives: where it came from is worth its price. */
const faults: ReadonlySet<Reason> = new Set(['INTERNAL', 'CORRUPT']);

/**
 * An operating error. The message says what happened, the limit, and what to do. A stack is taken of faults
 * alone: the others are answers, and taking a stack costs more than all else of a refusal.
 */
export class KeychainError extends Error {
  override readonly name = 'KeychainError';
  readonly reason: Reason;
  readonly metadata: Readonly<Record<string, string>>;

  constructor(
    reason: Reason,
    message: string,
    metadata: Readonly<Record<string, string>> = {},
    cause?: unknown,
  ) {
    const { stackTraceLimit } = Error;
    if (!faults.has(reason)) Error.stackTraceLimit = 0;
    super(message, cause === undefined ? undefined : { cause });
    Error.stackTraceLimit = stackTraceLimit;
    this.reason = reason;
    this.metadata = metadata;
  }

  get status(): Status {
    return reasons[this.reason];
  }

  /** The one funnel from whatever was thrown. */
  static from(thrown: unknown): KeychainError {
    if (thrown instanceof KeychainError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new KeychainError('INTERNAL', message, {}, thrown);
  }
}

import { KeychainError } from '../base/errors.js';
import type { Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import { toOperationError } from '../wire/operation-error.js';
import type { ReadAnswer, Token, WriteAnswer } from './messages.js';

/** A request that is answered. Times are monotonic milliseconds. */
export interface Answered {
  readonly kind: 'get' | 'put' | 'delete';
  /** As it came with the operation. */
  readonly trace: Uint8Array;
  readonly beganAt: number;
  /** Its object was loaded, and the core has it. */
  readonly handedAt: number;
  /** The tail's answer came; 0: it wasn't asked. */
  readonly tailAt: number;
}

interface Waiting extends Answered {
  readonly id: number;
  readonly deadline: number;
  readonly answer: (result: OperationResult) => void;
  /** Handed to the core: it may be staged, so a late answer is "outcome unknown". */
  handed: boolean;
  handedAt: number;
  tailAt: number;
}

/** Requests whose answer is owed, by token: answered once, at the latest at their deadline. */
export class Pending {
  readonly #waiting = new Map<Token, Waiting>();
  readonly #node: string;
  readonly #chainId: number;
  readonly #answered: (answered: Answered, result: OperationResult['result']) => void;
  #next = 1;

  /** @param answered told of every request once, when its answer goes out */
  constructor(
    node: string,
    chainId: number,
    answered: (answered: Answered, result: OperationResult['result']) => void,
  ) {
    this.#node = node;
    this.#chainId = chainId;
    this.#answered = answered;
  }

  get size(): number {
    return this.#waiting.size;
  }

  add(operation: Operation, now: number, answer: (result: OperationResult) => void): Token {
    const token = this.#next;
    this.#next += 1;
    const { id, trace, timeoutMs } = operation;
    this.#waiting.set(token, {
      id,
      kind: operation.operation?.$case ?? 'get',
      trace,
      beganAt: now,
      deadline: now + timeoutMs,
      answer,
      handed: false,
      handedAt: 0,
      tailAt: 0,
    });
    return token;
  }

  hand(token: Token, now: number): void {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined) return;
    waiting.handed = true;
    if (waiting.handedAt === 0) waiting.handedAt = now;
  }

  /** The tail has said how far a read may look. */
  tailAnswered(token: Token, now: number): void {
    const waiting = this.#waiting.get(token);
    if (waiting !== undefined) waiting.tailAt = now;
  }

  answerRead(token: Token, answer: ReadAnswer): void {
    if (answer.type === 'refused') {
      this.fail(token, new KeychainError(answer.reason, answer.message));
      return;
    }
    if (answer.found === undefined) {
      this.fail(
        token,
        new KeychainError('KEY_NOT_FOUND', 'the key does not exist', {
          node: this.#node,
          epoch: String(answer.epoch),
          watermark: String(answer.watermark),
          asked_tail: String(answer.askedTail),
        }),
      );
      return;
    }
    const { found } = answer;
    this.#settle(token, {
      $case: 'get',
      value: {
        value: found.value,
        revision: found.modRevision,
        createRevision: found.createRevision,
        version: found.version,
        served: this.#served(answer, answer.askedTail),
      },
    });
  }

  answerWrite(token: Token, answer: WriteAnswer): void {
    if (answer.type === 'refused') {
      this.fail(token, new KeychainError(answer.reason, answer.message));
      return;
    }
    const { outcome } = answer;
    const served = this.#served(answer, false);
    const kind = this.#waiting.get(token)?.kind;
    this.#settle(
      token,
      kind === 'delete'
        ? {
            $case: 'delete',
            value: { revision: outcome.revision, existed: outcome.existed, served },
          }
        : { $case: 'put', value: { revision: outcome.revision, served } },
    );
  }

  fail(token: Token, error: KeychainError): void {
    this.#settle(token, { $case: 'error', value: toOperationError(error) });
  }

  /** Answers what is overdue; the core forgets it by the same deadlines. */
  expire(now: number): void {
    for (const [token, waiting] of this.#waiting) {
      if (waiting.deadline > now) continue;
      this.fail(
        token,
        waiting.kind !== 'get' && waiting.handed
          ? new KeychainError(
              'OUTCOME_UNKNOWN',
              'the deadline passed before the write was committed: it may be applied yet',
            )
          : new KeychainError('DEADLINE', 'the deadline passed; nothing was applied'),
      );
    }
  }

  failAll(error: KeychainError): void {
    for (const [token, waiting] of this.#waiting) {
      this.fail(
        token,
        waiting.kind !== 'get' && waiting.handed
          ? new KeychainError('OUTCOME_UNKNOWN', `${error.message}: the write may be applied yet`)
          : error,
      );
    }
  }

  #served(answer: { epoch: number; watermark: number }, askedTail: boolean) {
    return {
      node: this.#node,
      epoch: answer.epoch,
      watermark: answer.watermark,
      askedTail,
      chainId: this.#chainId,
    };
  }

  #settle(token: Token, result: OperationResult['result']): void {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined) return;
    this.#waiting.delete(token);
    waiting.answer({ id: waiting.id, result });
    this.#answered(waiting, result);
  }
}

import { KeychainError } from '../base/errors.js';
import type { Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import { toOperationError } from '../wire/operation-error.js';
import type { ReadAnswer, Token, WriteAnswer } from './messages.js';

interface Waiting {
  readonly id: number;
  readonly kind: 'get' | 'put' | 'delete';
  readonly deadline: number;
  readonly answer: (result: OperationResult) => void;
  /** Handed to the core: it may be staged, so a late answer is "outcome unknown". */
  handed: boolean;
}

/** Requests whose answer is owed, by token: answered once, at the latest at their deadline. */
export class Pending {
  readonly #waiting = new Map<Token, Waiting>();
  readonly #node: string;
  readonly #chainId: number;
  #next = 1;

  constructor(node: string, chainId: number) {
    this.#node = node;
    this.#chainId = chainId;
  }

  get size(): number {
    return this.#waiting.size;
  }

  add(operation: Operation, deadline: number, answer: (result: OperationResult) => void): Token {
    const token = this.#next;
    this.#next += 1;
    const kind = operation.operation?.$case ?? 'get';
    this.#waiting.set(token, { id: operation.id, kind, deadline, answer, handed: false });
    return token;
  }

  hand(token: Token): void {
    const waiting = this.#waiting.get(token);
    if (waiting !== undefined) waiting.handed = true;
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
  }
}

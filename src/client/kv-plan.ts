import type { Clock } from '../base/clock.js';
import { isReason, reasonStatus } from '../base/errors.js';
import type {
  DeleteResponse,
  GetResponse,
  OperationResult,
  PutResponse,
} from '../gen/keychaindb/v1/kv.js';
import type { OperationKind } from '../retry/retry.js';
import { fromOperationError } from '../wire/operation-error.js';
import type { Abandon, AttemptResult, OperationPlan } from './attempts.js';
import type { Endpoint } from './endpoint.js';
import type { Rotation } from './rotation.js';
import { type Asked, SessionCall } from './session-stream.js';

type Result = OperationResult['result'];

/** One of the addresses that the client was given. */
export interface Target {
  readonly endpoint: Endpoint;
}

export interface KvOperation<Response> {
  readonly kind: OperationKind;
  readonly timeoutMs: number;
  /** Trace context (src/telemetry/trace-context.ts). */
  readonly trace: Uint8Array;
  /** About what it adds to a message. */
  readonly bytes: number;
  /** What every attempt asks, as it stands then. */
  asked(): Asked;
  read(result: Result): AttemptResult<Response>;
  renew(): boolean;
  settled(): void;
}

/** Where an operation is tried: at the endpoint in use, on its stream. */
export class KvPlan<Response> implements OperationPlan<Response> {
  readonly kind: OperationKind;
  readonly timeoutMs: number;
  readonly isPatient: boolean;
  readonly #operation: KvOperation<Response>;
  readonly #targets: Rotation<Target>;
  readonly #clock: Clock;
  readonly #settled: () => void;
  /** Of the newest attempt. */
  #target: Target;
  #call: SessionCall | undefined;

  /** @param settled called once, when the operation is over */
  constructor(
    operation: KvOperation<Response>,
    targets: Rotation<Target>,
    clock: Clock,
    settled: () => void,
  ) {
    this.kind = operation.kind;
    this.timeoutMs = operation.timeoutMs;
    this.isPatient = targets.all.length === 1;
    this.#operation = operation;
    this.#targets = targets;
    this.#clock = clock;
    this.#settled = settled;
    this.#target = targets.current;
  }

  attempt(remainingMs: number, ended: (result: AttemptResult<Response>) => void): Abandon {
    const { asked, trace, bytes, read } = this.#operation;
    const target = this.#targets.current;
    const deadline = this.#clock.monotonic() + remainingMs;
    const call = new SessionCall(asked(), trace, bytes, deadline, (end) => {
      const result = end.type === 'heard' ? read(end.result) : end;
      if (isFailed(result)) this.#targets.leave(target);
      ended(result);
    });
    this.#target = target;
    this.#call = call;
    target.endpoint.send(call);
    return () => target.endpoint.abandon(call);
  }

  leave(): void {
    this.#targets.leave(this.#target);
    if (this.#call !== undefined) this.#target.endpoint.doubt(this.#call);
  }

  renew(): boolean {
    return this.#operation.renew();
  }

  settled(): void {
    this.#operation.settled();
    this.#settled();
  }
}

/** Does the result speak against the endpoint? */
export function isFailed(result: AttemptResult<unknown>): boolean {
  if (result.type === 'refused') return reasonStatus(result.error.reason) === 'UNAVAILABLE';
  return result.type !== 'answered' && result.type !== 'closed';
}

const absent: AttemptResult<undefined> = { type: 'answered', response: undefined };

/** Undefined is the answer where the key is absent. */
export function readGet(result: Result): AttemptResult<GetResponse | undefined> {
  if (result?.$case === 'get') return { type: 'answered', response: owned(result.value) };
  if (result?.$case === 'error' && result.value.reason === 'KEY_NOT_FOUND') return absent;
  return refusedBy(result);
}

export function readPut(result: Result): AttemptResult<PutResponse> {
  if (result?.$case === 'put') return { type: 'answered', response: result.value };
  return refusedBy(result);
}

export function readDelete(result: Result): AttemptResult<DeleteResponse> {
  if (result?.$case === 'delete') return { type: 'answered', response: result.value };
  return refusedBy(result);
}

/** A small value that is a piece of a large message is copied: who keeps it would keep the message. */
function owned(response: GetResponse): GetResponse {
  const { value } = response;
  if (value.byteLength * 2 >= value.buffer.byteLength) return response;
  return { ...response, value: Buffer.from(value) };
}

function refusedBy(result: Result): AttemptResult<never> {
  if (result?.$case !== 'error') {
    const message = 'the proxy answered another operation than was asked';
    return { type: 'refused', error: { reason: 'INTERNAL', message, metadata: {} } };
  }
  const { reason, message, metadata } = result.value;
  const isKnown = isReason(reason);
  const error = isKnown ? { reason, message, metadata } : fromOperationError(result.value);
  return { type: 'refused', error };
}

import { toHex } from '../base/bytes.js';
import { reasonStatus } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import { type Instance, type Span, SpanKind, type SpanSink, spanOf } from '../telemetry/span.js';
import { FreshIds } from '../telemetry/span-ids.js';
import { contextOf, isSampled, parentIdOf, traceIdOf } from '../telemetry/trace-context.js';
import { textOf } from '../telemetry/write-spans.js';
import { attemptTrace } from './core.js';
import type { Attempt, Pending, ProxyEvent } from './state.js';

/** How an operation came in. */
export type Edge = 'grpc' | 'http' | 'session';

/** What a proxy reports to. */
export interface ProxyTelemetry {
  readonly meter: RequestMeter;
  readonly own: Instance;
  readonly sink: SpanSink;
  /** The part of the operations without a caller's decision that is recorded, 0 to 1. */
  readonly ratio: number;
  /** Milliseconds from which on a write counts as slow and is kept. */
  readonly slowMs: number;
  /** Bytes of keys and values that spans show. */
  readonly contentBytes: number;
  /** Microseconds since 1970 of a monotonic time. */
  readonly micros: (monotonicMs: number) => number;
  /** Has the nodes keep what they remember of a write that wasn't sampled; gives what was found. */
  readonly keep: (request: RequestId, traceId: string) => Promise<readonly Span[]>;
  /** Told of every answer; it must be quick. */
  readonly answered: (
    verb: string,
    reason: string,
    milliseconds: number,
    trace: Uint8Array,
  ) => void;
  /** Told of a write that failed or was slow. */
  readonly noted: (write: NotedWrite) => void;
}

export interface NotedWrite {
  readonly traceId: string;
  readonly verb: string;
  readonly milliseconds: number;
  /** '' where it was only slow. */
  readonly reason: string;
  /** Others since the last one that was told of. */
  readonly unsaid: number;
}

/** An operation whose caller waits. */
export interface Caller {
  readonly answer: (result: OperationResult) => void;
  readonly operation: Operation;
  readonly edge: Edge;
  readonly beganAt: number;
  /** The caller's context, or no bytes. */
  readonly parent: Uint8Array;
  request: RequestId | undefined;
  attempts: number;
}

/** Writes a second that are logged because they failed or were slow, and kept where they weren't sampled. */
const notedMax = 10;

/** The spans of operations at a proxy. */
export class ProxyTracing {
  readonly #telemetry: ProxyTelemetry;
  readonly #random: Random;
  readonly #ids: FreshIds;
  /** The attempt that each sampled operation waits for. */
  readonly #open = new Map<Pending, { readonly attempt: Attempt; readonly number: number }>();
  #notedSince = 0;
  #noted = 0;
  #unsaid = 0;

  constructor(telemetry: ProxyTelemetry, random: Random) {
    this.#telemetry = telemetry;
    this.#random = random;
    this.#ids = new FreshIds(random.bytes(16));
  }

  /**
   * The operation as it goes on. A caller's decision holds; without one the ratio decides. What is recorded
   * carries the context of the span that is made here when it is answered.
   */
  begin(operation: Operation): Operation {
    const { trace } = operation;
    if (trace.byteLength > 0 && !isSampled(trace)) return operation;
    if (trace.byteLength === 0) {
      const { ratio } = this.#telemetry;
      if (ratio === 0 || (ratio < 1 && this.#random.float() >= ratio)) return operation;
    }
    const traceId = traceIdOf(trace) || this.#ids.traceId();
    return { ...operation, trace: contextOf(traceId, this.#ids.spanId(), true) };
  }

  /** What the core decided about operations: attempts begin and end. */
  observe(events: readonly ProxyEvent[], callers: ReadonlyMap<number, Caller>, now: number): void {
    for (const event of events) {
      switch (event.type) {
        case 'AttemptBegun': {
          const { current, operation, history } = event.pending;
          if (current === undefined || !isSampled(operation.trace)) break;
          this.#open.set(event.pending, { attempt: current, number: history.begun });
          break;
        }
        case 'AttemptEnded': {
          const { outcome } = event;
          const error = outcome.type === 'refused' ? outcome.reason : outcome.type;
          this.#ended(event.attempt, now, outcome.type === 'answered' ? '' : error);
          break;
        }
        case 'AttemptAbandoned':
          this.#ended(event.attempt, now, 'no answer in time');
          break;
        case 'OperationSettled': {
          const { pending } = event;
          const open = this.#open.get(pending);
          if (open !== undefined) this.#ended(open.attempt, now, 'no answer in time');
          const caller = callers.get(pending.token);
          if (caller === undefined) break;
          caller.request = pending.request;
          caller.attempts = pending.history.begun;
          break;
        }
        default:
      }
    }
  }

  /** An operation is over; its spans are made where it was sampled, and of a write that failed or was slow. */
  answered(caller: Caller, result: OperationResult['result'], now: number): void {
    const { meter, sink, slowMs } = this.#telemetry;
    const { operation, beganAt } = caller;
    const verb = operation.operation?.$case ?? 'get';
    const reason = result?.$case === 'error' ? result.value.reason : '';
    const milliseconds = now - beganAt;
    meter.observe(verb, reasonStatus(reason), reason, milliseconds);
    this.#telemetry.answered(verb, reason, milliseconds, operation.trace);
    const isFailed = reason !== '' && reasonStatus(reason) !== 'INVALID_ARGUMENT';
    const isNoted = verb !== 'get' && (isFailed || milliseconds >= slowMs) && this.#mayNote(now);
    if (isSampled(operation.trace)) {
      const span = this.#span(caller, result, now, operation.trace);
      sink.record(span);
      if (isNoted) this.#note(span.traceId, verb, milliseconds, reason);
    } else if (isNoted) {
      void this.#keep(caller, result, now, verb, milliseconds, reason);
    }
  }

  /** A write that nobody asked to record, and somebody will ask about. */
  async #keep(
    caller: Caller,
    result: OperationResult['result'],
    now: number,
    verb: string,
    milliseconds: number,
    reason: string,
  ): Promise<void> {
    const given = traceIdOf(caller.parent);
    const request = caller.request;
    const found =
      request === undefined ? [] : await this.#telemetry.keep(request, given).catch(() => []);
    const traceId = given || found[0]?.traceId || this.#ids.traceId();
    const context = contextOf(traceId, this.#ids.spanId(), true);
    this.#telemetry.sink.record(this.#span(caller, result, now, context));
    this.#note(traceId, verb, milliseconds, reason);
  }

  #note(traceId: string, verb: string, milliseconds: number, reason: string): void {
    this.#telemetry.noted({ traceId, verb, milliseconds, reason, unsaid: this.#unsaid });
    this.#unsaid = 0;
  }

  /** May this one be told of: when everything is slow at once, a few of them say it. */
  #mayNote(now: number): boolean {
    if (now - this.#notedSince >= 1_000) {
      this.#notedSince = now;
      this.#noted = 0;
    }
    this.#noted += 1;
    if (this.#noted > notedMax) this.#unsaid += 1;
    return this.#noted <= notedMax;
  }

  #span(caller: Caller, result: OperationResult['result'], now: number, context: Uint8Array): Span {
    const { own, micros, contentBytes } = this.#telemetry;
    const { operation, edge, beganAt, parent, request, attempts } = caller;
    const asked = operation.operation;
    const verb = asked?.$case ?? 'get';
    const failure = result?.$case === 'error' ? result.value : undefined;
    const code = reasonStatus(failure?.reason ?? '');
    const answer = result?.$case === 'error' ? undefined : result?.value;
    const isFault = failure !== undefined && failure.reason !== 'KEY_NOT_FOUND';
    return spanOf(own, {
      traceId: traceIdOf(context),
      spanId: parentIdOf(context),
      parentId: parentIdOf(parent),
      name: `keychaindb.v1.KV/${verb.charAt(0).toUpperCase()}${verb.slice(1)}`,
      kind: SpanKind.SERVER,
      startUs: micros(beganAt),
      endUs: micros(now),
      attributes: {
        'rpc.status_code': code,
        'db.operation.name': verb,
        'keychaindb.edge': edge,
        'keychaindb.attempts': attempts,
        'keychaindb.revision': answer?.revision ?? 0,
        'keychaindb.epoch': answer?.served?.epoch ?? 0,
        'keychaindb.chain.id': answer?.served?.chainId ?? 0,
        'keychaindb.node': answer?.served?.node ?? '',
        ...(request === undefined
          ? {}
          : { 'keychaindb.request.id': `${toHex(request.clientId)}:${request.seq}` }),
        ...(contentBytes > 0 && asked !== undefined
          ? { 'keychaindb.key': textOf(asked.value.key, contentBytes) }
          : {}),
      },
      error: isFault ? `${failure.reason}: ${failure.message}` : '',
    });
  }

  /** An attempt that was abandoned and is answered later has its span already. */
  #ended(attempt: Attempt, now: number, error: string): void {
    const open = this.#open.get(attempt.pending);
    if (open?.attempt !== attempt) return;
    this.#open.delete(attempt.pending);
    const { number } = open;
    const { own, micros, sink } = this.#telemetry;
    const { trace } = attempt.pending.operation;
    const traceId = traceIdOf(trace);
    sink.record(
      spanOf(own, {
        traceId,
        spanId: parentIdOf(attemptTrace(trace, attempt.id)),
        parentId: parentIdOf(trace),
        name: 'chain.route',
        kind: SpanKind.CLIENT,
        startUs: micros(attempt.beganAt),
        endUs: micros(now),
        attributes: {
          'keychaindb.node': attempt.node.id,
          'server.address': attempt.node.address,
          'keychaindb.attempt': number,
        },
        error: error === 'KEY_NOT_FOUND' ? '' : error,
      }),
    );
  }
}

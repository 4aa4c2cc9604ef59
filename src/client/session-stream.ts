import type { Clock } from '../base/clock.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import { answerWithinMs } from '../retry/retry.js';
import { BatchSender } from '../wire/batch-sender.js';
import type { Channel, ChannelHandler } from '../wire/channel.js';
import { messageLimits, sessionOperationsMax, silenceMs } from './limits.js';

export type Asked = NonNullable<Operation['operation']>;

/** How an attempt on a stream ended. */
export type CallEnd =
  | { readonly type: 'heard'; readonly result: OperationResult['result'] }
  /** No channel took it. */
  | { readonly type: 'unsent' }
  /** A channel took it, and closed. */
  | { readonly type: 'lost' }
  /** The client was closed. */
  | { readonly type: 'closed'; readonly hasLeft: boolean };

/** One attempt of an operation, on its way to an endpoint and back. */
export class SessionCall {
  readonly asked: Asked;
  /** Trace context (src/telemetry/trace-context.ts). */
  readonly trace: Uint8Array;
  /** About what it adds to a message. */
  readonly bytes: number;
  /** On the monotonic clock; who begins it abandons it then. */
  readonly deadline: number;
  /** Called once, unless it was abandoned. */
  readonly ended: (end: CallEnd) => void;
  /** The one on which it waits for its answer. This and what follows is changed by the stream alone. */
  stream: SessionStream | undefined = undefined;
  id = 0;
  sentAt = 0;

  constructor(
    asked: Asked,
    trace: Uint8Array,
    bytes: number,
    deadline: number,
    ended: (end: CallEnd) => void,
  ) {
    this.asked = asked;
    this.trace = trace;
    this.bytes = bytes;
    this.deadline = deadline;
    this.ended = ended;
  }
}

export interface SessionStreamOptions {
  readonly clock: Clock;
  dial(handler: ChannelHandler<SessionResponse>): Channel<SessionRequest>;
  /** It has answered, or fewer wait for its answers. */
  eased(stream: SessionStream): void;
  /** It closed by itself; what was on it is told after this. */
  lost(stream: SessionStream): void;
}

const unsent: CallEnd = { type: 'unsent' };
const lost: CallEnd = { type: 'lost' };

/** Operations on one KV.Session stream, from when it is dialed until it ends. */
export class SessionStream {
  readonly #options: SessionStreamOptions;
  readonly #channel: Channel<SessionRequest>;
  readonly #sender: BatchSender<SessionCall, SessionRequest>;
  /** By id; also what was abandoned, as the proxy counts it until it has answered. */
  readonly #inFlight = new Map<number, SessionCall>();
  /** How many of them are waited for. */
  #awaited = 0;
  #nextId = 1;
  #heardAt = Number.NEGATIVE_INFINITY;
  #isOver = false;

  constructor(options: SessionStreamOptions) {
    this.#options = options;
    this.#channel = options.dial({
      message: ({ results }) => this.#hear(results),
      closed: () => {
        // A channel may close before `dial` has returned it.
        queueMicrotask(() => this.#lost());
      },
    });
    this.#sender = new BatchSender(
      this.#channel,
      messageLimits,
      (calls) => this.#message(calls),
      options.clock,
    );
  }

  /** As many as the proxy lets one session have. */
  get isFull(): boolean {
    return this.#inFlight.size >= sessionOperationsMax;
  }

  get isAwaited(): boolean {
    return this.#awaited > 0;
  }

  get hasHeard(): boolean {
    return this.#heardAt > Number.NEGATIVE_INFINITY;
  }

  /** Only while it isn't full. */
  send(call: SessionCall): void {
    call.stream = this;
    call.id = this.#nextId;
    call.sentAt = this.#options.clock.monotonic();
    this.#nextId += 1;
    this.#inFlight.set(call.id, call);
    this.#awaited += 1;
    this.#sender.add(call, call.bytes);
  }

  /** Of a call that waits here. True: no channel has taken it, and none will. */
  abandon(call: SessionCall): boolean {
    call.stream = undefined;
    this.#awaited -= 1;
    const isUnsent = this.#sender.remove(call);
    if (isUnsent) this.#inFlight.delete(call.id);
    this.#options.eased(this);
    return isUnsent;
  }

  /** Has nothing at all been heard for a while, in which this call waited here? */
  isSilent(call: SessionCall): boolean {
    if (call.stream !== this) return false;
    return this.#options.clock.monotonic() - Math.max(call.sentAt, this.#heardAt) >= silenceMs;
  }

  /** Ends it; who still waits is told that the client was closed. */
  close(reason: string): void {
    const waiting = this.#end();
    this.#channel.close(reason);
    for (const [call, isUnsent] of waiting) call.ended({ type: 'closed', hasLeft: !isUnsent });
  }

  /** Made when it leaves: the proxy is told the time that is left then. */
  #message(calls: readonly SessionCall[]): SessionRequest {
    const now = this.#options.clock.monotonic();
    return {
      operations: calls.map(({ id, deadline, trace, asked }) => ({
        id,
        timeoutMs: Math.ceil(answerWithinMs(deadline - now)),
        trace,
        operation: asked,
      })),
    };
  }

  #hear(results: readonly OperationResult[]): void {
    if (this.#isOver) return;
    this.#heardAt = this.#options.clock.monotonic();
    for (const { id, result } of results) {
      const call = this.#inFlight.get(id);
      if (call === undefined) continue;
      this.#inFlight.delete(id);
      // Abandoned: nobody wants the answer.
      if (call.stream !== this) continue;
      call.stream = undefined;
      this.#awaited -= 1;
      call.ended({ type: 'heard', result });
    }
    this.#options.eased(this);
  }

  #lost(): void {
    if (this.#isOver) return;
    const waiting = this.#end();
    this.#options.lost(this);
    for (const [call, isUnsent] of waiting) call.ended(isUnsent ? unsent : lost);
  }

  /** Who waited, and whether their operation never left. */
  #end(): readonly (readonly [SessionCall, boolean])[] {
    this.#isOver = true;
    const never = new Set(this.#sender.waiting);
    const waiting: (readonly [SessionCall, boolean])[] = [];
    for (const call of this.#inFlight.values()) {
      if (call.stream !== this) continue;
      call.stream = undefined;
      waiting.push([call, never.has(call)]);
    }
    this.#awaited = 0;
    this.#inFlight.clear();
    return waiting;
  }
}

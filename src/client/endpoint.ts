import type { Cancel, Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { SessionRequest, SessionResponse } from '../gen/keychaindb/v1/kv.js';
import type { Channel, ChannelHandler } from '../wire/channel.js';
import { connectMs, idleMs, redialMsFirst, redialMsLongest, retiredMax } from './limits.js';
import { type SessionCall, SessionStream } from './session-stream.js';

/** The connection to one proxy. */
export interface Connection {
  /** False: there is none, or the proxy wants new streams to come on another one. */
  readonly isReady: boolean;
  /** Connects where there is need. False: it can't be reached now, or the time is up. Never rejects. */
  ready(timeoutMs: number): Promise<boolean>;
  dial(handler: ChannelHandler<SessionResponse>): Channel<SessionRequest>;
}

export interface EndpointOptions {
  readonly connection: Connection;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * One proxy: a stream while operations need it. A stream that fell silent, or whose connection is on its way
 * out, is retired: it gets nothing new, and its answers are still taken.
 */
export class Endpoint {
  readonly #options: EndpointOptions;
  /** Calls that wait for the stream, or for room on it; the client bounds them. In order. */
  readonly #queue = new Set<SessionCall>();
  #stream: SessionStream | undefined;
  readonly #retired = new Set<SessionStream>();
  #isConnecting = false;
  #isClosed = false;
  /** No dialing before: the last stream closed without a word. */
  #dialAfter = Number.NEGATIVE_INFINITY;
  #redialMs = redialMsFirst;
  /** Since the last look at whether the stream is idle. */
  #wasUsed = false;
  #cancelIdle: Cancel = () => undefined;

  constructor(options: EndpointOptions) {
    this.#options = options;
  }

  send(call: SessionCall): void {
    if (this.#isClosed) {
      queueMicrotask(() => call.ended({ type: 'closed', hasLeft: false }));
      return;
    }
    if (this.#stream !== undefined && !this.#options.connection.isReady) this.#retire(this.#stream);
    const stream = this.#stream;
    if (stream !== undefined && this.#queue.size === 0 && !stream.isFull) {
      this.#wasUsed = true;
      stream.send(call);
      return;
    }
    this.#queue.add(call);
    if (stream === undefined) void this.#connect();
  }

  /** True: it never left, and never will. */
  abandon(call: SessionCall): boolean {
    if (this.#queue.delete(call)) return true;
    return call.stream?.abandon(call) ?? false;
  }

  /** A call takes long: where its stream is silent, what comes next goes on another. */
  doubt(call: SessionCall): void {
    const stream = this.#stream;
    if (stream?.isSilent(call) === true && this.#retired.size < retiredMax) this.#retire(stream);
  }

  /** For good. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelIdle();
    const streams = [...this.#retired];
    if (this.#stream !== undefined) streams.push(this.#stream);
    const queue = this.#emptyQueue();
    for (const stream of streams) stream.close('the client was closed');
    for (const call of queue) call.ended({ type: 'closed', hasLeft: false });
  }

  async #connect(): Promise<void> {
    if (this.#isConnecting) return;
    this.#isConnecting = true;
    const { connection, clock } = this.#options;
    const isPaused = clock.monotonic() < this.#dialAfter;
    const isReady = await (isPaused ? false : connection.ready(connectMs));
    this.#isConnecting = false;
    if (this.#isClosed) return;
    if (isReady) this.#dial();
    else for (const call of this.#emptyQueue()) call.ended({ type: 'unsent' });
  }

  #dial(): void {
    // Who waited may have given up meanwhile.
    if (this.#queue.size === 0) return;
    const { connection, clock } = this.#options;
    this.#stream = new SessionStream({
      clock,
      dial: (handler) => connection.dial(handler),
      eased: (stream) => this.#eased(stream),
      lost: (stream) => this.#lost(stream),
    });
    this.#watchIdle();
    this.#pump();
  }

  #pump(): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    for (const call of this.#queue) {
      if (stream.isFull) return;
      this.#queue.delete(call);
      this.#wasUsed = true;
      stream.send(call);
    }
  }

  #eased(stream: SessionStream): void {
    if (stream === this.#stream) {
      if (this.#queue.size > 0) this.#pump();
    } else if (!stream.isAwaited && this.#retired.delete(stream)) {
      stream.close('it is replaced by another');
    }
  }

  #retire(stream: SessionStream): void {
    this.#stream = undefined;
    this.#cancelIdle();
    this.#retired.add(stream);
    this.#eased(stream);
    if (this.#queue.size > 0) void this.#connect();
  }

  #lost(stream: SessionStream): void {
    this.#retired.delete(stream);
    if (stream.hasHeard) {
      this.#redialMs = redialMsFirst;
    } else {
      const { clock, random } = this.#options;
      this.#dialAfter = clock.monotonic() + this.#redialMs * (0.5 + random.float() / 2);
      this.#redialMs = Math.min(this.#redialMs * 2, redialMsLongest);
    }
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    this.#cancelIdle();
    if (this.#queue.size > 0) void this.#connect();
  }

  /** An open stream keeps the process alive; one timer for all operations, as most streams are never idle. */
  #watchIdle(): void {
    this.#cancelIdle = this.#options.clock.after(idleMs, () => {
      const stream = this.#stream;
      if (stream === undefined) return;
      if (this.#wasUsed || stream.isAwaited) {
        this.#wasUsed = false;
        this.#watchIdle();
        return;
      }
      this.#stream = undefined;
      stream.close('nothing was asked for a while');
    });
  }

  #emptyQueue(): readonly SessionCall[] {
    const calls = [...this.#queue];
    this.#queue.clear();
    return calls;
  }
}

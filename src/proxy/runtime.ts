import {
  distinctUntilChanged,
  filter,
  finalize,
  mergeMap,
  Observable,
  ReplaySubject,
  retry,
  type Subscription,
  takeUntil,
} from 'rxjs';
import { noBytes, toHex } from '../base/bytes.js';
import type { Cancel, Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type { Random } from '../base/random.js';
import type { Timing } from '../base/timing.js';
import type { View, WatchViewsRequest } from '../gen/keychaindb/v1/coordinator.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import { contextBytes } from '../telemetry/trace-context.js';
import type { Dialer } from '../wire/channel.js';
import { errorResult } from '../wire/operation-error.js';
import { type OperationLimits, validateOperation } from '../wire/validate.js';
import { isSameCluster, step } from './core.js';
import { drainMs, redialMsFirst, redialMsLongest, tickMs } from './limits.js';
import { NodeLink } from './node-link.js';
import { initialState, type ProxyEffect, type ProxyInput, type ProxyState } from './state.js';
import { type Caller, type Edge, type ProxyTelemetry, ProxyTracing } from './tracing.js';

export interface ProxyOptions {
  readonly id: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly timing: Timing;
  /** Every coordinator is dialed; the newest view counts, whoever shows it. */
  readonly views: {
    /** host:port of every coordinator, as far as it is known; starts with the present ones. */
    readonly addresses$: Observable<readonly string[]>;
    readonly dialer: Dialer<WatchViewsRequest, View>;
  };
  readonly nodes: Dialer<SessionRequest, SessionResponse>;
  readonly limits: OperationLimits;
  readonly telemetry?: ProxyTelemetry;
  fatal(error: unknown): void;
  /** What an operator should know. */
  notice?(text: string): void;
}

export interface ProxyHandle {
  /**
   * Runs one operation. `timeoutMs` is the caller's whole deadline: 0 is the default of 5 s, more than 60 s
   * is 60 s. Never rejects: an error is a result.
   */
  execute(operation: Operation, edge?: Edge): Promise<OperationResult>;
  /** For /metrics; nobody outside the room changes it. */
  readonly state: ProxyState;
  /** The newest view, or undefined before the first. */
  readonly view: View | undefined;
  /** Starts with the present view where there is one; epochs only grow. */
  readonly view$: Observable<View>;
  /** Refuses new operations, waits a while for the ones that were taken. */
  close(): Promise<void>;
}

/** Milliseconds that the caller of an operation waits: 5 s where it names none, never more than 60 s. */
export function callerWaits({ timeoutMs }: Operation): number {
  return Math.min(timeoutMs || deadlineMsDefault, deadlineMsMax);
}

export function startProxy(options: ProxyOptions): ProxyHandle {
  return new RunningProxy(options);
}

/** The shell: inputs → step → effects. One inbox, one writer; nothing is stored. */
class RunningProxy implements ProxyHandle {
  readonly view$: Observable<View>;
  readonly #options: ProxyOptions;
  readonly #clock: Clock;
  readonly state: ProxyState;
  readonly #tracing: ProxyTracing | undefined;
  readonly #views = new ReplaySubject<View>(1);
  readonly #closed = new ReplaySubject<void>(1);
  readonly #watch: Subscription;
  readonly #links = new Map<string, NodeLink>();
  /** By token; bounded by the core's `operationsMax`. */
  readonly #callers = new Map<number, Caller>();
  /** Inputs that arrived while one was being decided; empty between turns. */
  readonly #inbox: ProxyInput[] = [];
  #deciding = false;
  /** A process of another cluster: told once. */
  #hasMet = false;
  #nextToken = 1;
  #ticking = false;
  #cancelTick: Cancel = () => undefined;
  #closing: Promise<void> | undefined;
  #drained: () => void = () => undefined;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.state = initialState(options.random.bytes(16));
    const { telemetry } = options;
    this.#tracing =
      telemetry === undefined ? undefined : new ProxyTracing(telemetry, options.random);
    this.view$ = this.#views.pipe(distinctUntilChanged((a, b) => a.epoch === b.epoch));
    this.#watch = allViews$(options)
      .pipe(
        filter(
          (view) => view.epoch > (this.view?.epoch ?? -1) && this.#isOurs(view, 'a coordinator'),
        ),
        takeUntil(this.#closed),
      )
      .subscribe({
        next: (view) => this.#feed({ type: 'ViewReceived', view, now: this.#clock.monotonic() }),
        error: (error: unknown) => options.fatal(error),
      });
  }

  get view(): View | undefined {
    return this.state.view;
  }

  /** The first view says which cluster this proxy serves. */
  #isOurs(view: View, shownBy: string): boolean {
    const own = this.view;
    if (own === undefined || isSameCluster(view, own)) return true;
    if (!this.#hasMet) {
      const [theirs, ours] = [toHex(view.clusterId), toHex(own.clusterId)];
      this.#options.notice?.(
        `${shownBy} belongs to cluster ${theirs}, this proxy serves ${ours}: what it says is not used; where the cluster was made anew, restart this proxy`,
      );
    }
    this.#hasMet = true;
    return false;
  }

  execute(given: Operation, edge: Edge = 'grpc'): Promise<OperationResult> {
    const asked = withoutBadTrace(given);
    if (this.#closing !== undefined) {
      const error = new KeychainError('SHUTTING_DOWN', 'this proxy is shutting down');
      return Promise.resolve(errorResult(asked.id, error));
    }
    const operation = this.#tracing?.begin(asked) ?? asked;
    const parent = asked.trace;
    const invalid = validateOperation(asked, this.#options.limits);
    if (invalid !== undefined) {
      return this.#refused(operation, parent, edge, errorResult(asked.id, invalid));
    }
    const timeoutMs = callerWaits(asked);
    return new Promise((answer) => {
      const token = this.#nextToken;
      this.#nextToken += 1;
      const now = this.#clock.monotonic();
      const request = undefined;
      this.#callers.set(token, {
        answer,
        operation,
        edge,
        beganAt: now,
        parent,
        request,
        attempts: 0,
      });
      this.#feed({ type: 'OperationReceived', token, operation, timeoutMs, now });
      this.#tickSoon();
    });
  }

  /** Answered here: it never got to the core. */
  #refused(
    operation: Operation,
    parent: Uint8Array,
    edge: Edge,
    result: OperationResult,
  ): Promise<OperationResult> {
    const beganAt = this.#clock.monotonic();
    const answer = (): void => undefined;
    const caller = { answer, operation, edge, beganAt, parent, request: undefined, attempts: 0 };
    this.#tracing?.answered(caller, result.result, beganAt);
    return Promise.resolve(result);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#callers.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.#clock.after(drainMs, resolve);
        this.#drained = () => {
          cancel();
          resolve();
        };
      });
    }
    this.#feed({ type: 'Closed', now: this.#clock.monotonic() });
    this.#cancelTick();
    this.#closed.next();
    this.#watch.unsubscribe();
    for (const link of this.#links.values()) link.close('the proxy is shutting down');
    this.#links.clear();
    this.#views.complete();
  }

  #feed(input: ProxyInput): void {
    this.#inbox.push(input);
    if (this.#deciding) return;
    this.#deciding = true;
    try {
      for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift()) {
        const epoch = this.state.view?.epoch;
        const { events, effects } = step(this.state, next);
        this.#tracing?.observe(events, this.#callers, next.now);
        for (const effect of effects) this.#perform(effect);
        const { view } = this.state;
        if (view !== undefined && view.epoch !== epoch) this.#views.next(view);
      }
    } catch (error) {
      this.#options.fatal(error);
    } finally {
      this.#deciding = false;
    }
  }

  #perform(effect: ProxyEffect): void {
    switch (effect.type) {
      case 'send':
        this.#links.get(effect.node)?.send(effect.operation, effect.bytes);
        return;
      case 'answer': {
        const caller = this.#callers.get(effect.token);
        this.#callers.delete(effect.token);
        caller?.answer(effect.result);
        if (caller !== undefined) {
          this.#tracing?.answered(caller, effect.result.result, this.#clock.monotonic());
        }
        if (this.#callers.size === 0) this.#drained();
        return;
      }
      case 'dial':
        this.#dial(effect.node, effect.address);
        return;
      case 'hangUp':
        this.#links.get(effect.node)?.close('the node left the chain');
        this.#links.delete(effect.node);
        return;
    }
  }

  #dial(node: string, address: string): void {
    const { clock, random, nodes: dialer } = this.#options;
    const link = new NodeLink({
      address,
      dialer,
      clock,
      random,
      isOurs: (view) => this.#isOurs(view, `${node} at ${address}`),
      connected: () => this.#feed({ type: 'NodeConnected', node, now: clock.monotonic() }),
      message: ({ results, view }) =>
        this.#feed({ type: 'ResultsReceived', node, results, view, now: clock.monotonic() }),
      lost: (unsent) => this.#feed({ type: 'NodeLost', node, unsent, now: clock.monotonic() }),
    });
    this.#links.set(node, link);
  }

  /** A timer runs only while somebody waits. */
  #tickSoon(): void {
    if (this.#ticking || this.#callers.size === 0) return;
    this.#ticking = true;
    this.#cancelTick = this.#clock.after(tickMs, () => {
      this.#ticking = false;
      this.#feed({ type: 'Ticked', now: this.#clock.monotonic() });
      this.#tickSoon();
    });
  }
}

/** What isn't a trace context would travel all the same, uncounted, in a message with the operations of others. */
function withoutBadTrace(operation: Operation): Operation {
  const { byteLength } = operation.trace;
  if (byteLength === 0 || byteLength === contextBytes) return operation;
  return { ...operation, trace: noBytes };
}

/** Of every coordinator, as they come and go. */
function allViews$({ views, clock, random }: ProxyOptions): Observable<View> {
  const { addresses$, dialer } = views;
  const known = new Set<string>();
  return addresses$.pipe(
    mergeMap((addresses) => addresses.filter((address) => !known.has(address))),
    mergeMap((address) => {
      known.add(address);
      const gone$ = addresses$.pipe(filter((addresses) => !addresses.includes(address)));
      return views$(address, dialer, { clock, random }).pipe(
        takeUntil(gone$),
        finalize(() => known.delete(address)),
      );
    }),
  );
}

/** The views that one coordinator shows; dialed again, for ever, whenever the stream is lost. */
function views$(
  address: string,
  dialer: Dialer<WatchViewsRequest, View>,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): Observable<View> {
  const once$ = new Observable<View>((subscriber) => {
    const channel = dialer.dial(address, {
      message: (view) => subscriber.next(view),
      closed: (reason) => subscriber.error(new Error(reason)),
    });
    channel.send({});
    return () => channel.close('no more views are wanted');
  });
  return once$.pipe(
    retry({
      resetOnSuccess: true,
      delay: (_error, attempt) => {
        const longest = Math.min(redialMsFirst * 2 ** Math.min(attempt - 1, 10), redialMsLongest);
        return after$(clock, longest * (0.5 + random.float() / 2));
      },
    }),
  );
}

function after$(clock: Clock, milliseconds: number): Observable<void> {
  return new Observable((subscriber) =>
    clock.after(milliseconds, () => {
      subscriber.next();
      subscriber.complete();
    }),
  );
}

import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { Operation, OperationResult } from '../gen/keychaindb/v1/kv.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';
import { clientIdOf, type RequestIds, requestIds } from '../retry/request-ids.js';
import type { AttemptHistory, AttemptOutcome, OperationKind } from '../retry/retry.js';
import { laneSpanMax, lanesMax } from './limits.js';
import type { NodeHealth } from './route.js';

/** A member of the newest view. Changed by `evolve` alone. */
export interface ProxyNode extends NodeHealth {
  readonly id: string;
  readonly address: string;
  connected: boolean;
  suspected: boolean;
  inFlight: number;
  /** Monotonic milliseconds of its last word; 0: none. */
  heardAt: number;
}

/** One sending of an operation to a node. */
export interface Attempt {
  /** The operation's id on the stream to the node; unique in this process. */
  readonly id: number;
  readonly pending: Pending;
  readonly node: ProxyNode;
  readonly beganAt: number;
}

/** An operation whose caller waits. Changed by `evolve` alone. */
export interface Pending {
  /** The caller's, opaque. */
  readonly token: number;
  /** As it came in. */
  readonly operation: Operation;
  readonly kind: OperationKind;
  readonly bytes: number;
  /** Monotonic milliseconds. */
  readonly deadline: number;
  readonly history: AttemptHistory;
  /** The ids that this proxy took the request's from; undefined for reads and ids of the caller. */
  lane: RequestIds | undefined;
  request: RequestId | undefined;
  /** What may still be answered, abandoned ones included. */
  readonly open: Attempt[];
  /** The attempt that is waited for. Undefined: parked. */
  current: Attempt | undefined;
  /** When the current attempt times out, or a parked operation is tried again; Infinity: on a change only. */
  due: number;
  /** The node that the last attempt failed at. */
  avoid: string | undefined;
  renewals: number;
}

/** What the proxy knows; all of it is lost with the process, and nothing depends on it. */
export interface ProxyState {
  /** 16 random bytes that the client ids are made of. */
  readonly seed: Uint8Array;
  /** Client ids made so far. */
  idsMade: number;
  readonly lanes: RequestIds[];
  /** Writes with an id of ours that wait for their answer. */
  ownWrites: number;
  /** The newest one shown by anybody. */
  view: View | undefined;
  /** Every member of the view, by id. */
  readonly nodes: Map<string, ProxyNode>;
  /** The SERVING ones, head first. */
  serving: readonly ProxyNode[];
  readonly pendings: Set<Pending>;
  pendingBytes: number;
  readonly attempts: Map<number, Attempt>;
  nextAttempt: number;
}

export type ProxyInput =
  | {
      readonly type: 'OperationReceived';
      readonly token: number;
      readonly operation: Operation;
      readonly timeoutMs: number;
      readonly now: number;
    }
  | { readonly type: 'ViewReceived'; readonly view: View; readonly now: number }
  | {
      readonly type: 'ResultsReceived';
      readonly node: string;
      readonly results: readonly OperationResult[];
      readonly view: View | undefined;
      readonly now: number;
    }
  | { readonly type: 'NodeConnected'; readonly node: string; readonly now: number }
  /** `unsent`: attempts that never left this process. */
  | {
      readonly type: 'NodeLost';
      readonly node: string;
      readonly unsent: ReadonlySet<number>;
      readonly now: number;
    }
  | { readonly type: 'Ticked'; readonly now: number }
  /** Whoever still waits is answered. */
  | { readonly type: 'Closed'; readonly now: number };

export type ProxyEvent =
  | { readonly type: 'OperationTaken'; readonly pending: Pending }
  | {
      readonly type: 'AttemptBegun';
      readonly pending: Pending;
      readonly node: ProxyNode;
      readonly now: number;
    }
  /** It was answered or lost, and can't be answered again. */
  | { readonly type: 'AttemptEnded'; readonly attempt: Attempt; readonly outcome: AttemptOutcome }
  /** Nobody waits for it any more; an answer is welcome. */
  | { readonly type: 'AttemptAbandoned'; readonly attempt: Attempt }
  | { readonly type: 'AttemptExtended'; readonly pending: Pending; readonly due: number }
  | { readonly type: 'OperationParked'; readonly pending: Pending; readonly due: number }
  | { readonly type: 'LaneReplaced'; readonly lane: number }
  | { readonly type: 'OperationRenamed'; readonly pending: Pending; readonly lane: RequestIds }
  | { readonly type: 'OperationSettled'; readonly pending: Pending }
  | { readonly type: 'ViewSeen'; readonly view: View }
  | { readonly type: 'NodeLinked'; readonly node: ProxyNode; readonly now: number }
  | { readonly type: 'NodeUnlinked'; readonly node: ProxyNode }
  | { readonly type: 'NodeHeard'; readonly node: ProxyNode; readonly now: number }
  | { readonly type: 'NodeSuspected'; readonly node: ProxyNode };

export type ProxyEffect =
  | {
      readonly type: 'send';
      readonly node: string;
      readonly operation: Operation;
      /** About what it adds to a message. */
      readonly bytes: number;
    }
  | { readonly type: 'answer'; readonly token: number; readonly result: OperationResult }
  | { readonly type: 'dial'; readonly node: string; readonly address: string }
  | { readonly type: 'hangUp'; readonly node: string };

/** @param seed 16 random bytes, new for every process start */
export function initialState(seed: Uint8Array): ProxyState {
  return {
    seed,
    idsMade: lanesMax,
    lanes: Array.from({ length: lanesMax }, (_, n) => requestIds(clientIdOf(seed, n), laneSpanMax)),
    ownWrites: 0,
    view: undefined,
    nodes: new Map(),
    serving: [],
    pendings: new Set(),
    pendingBytes: 0,
    attempts: new Map(),
    nextAttempt: 1,
  };
}

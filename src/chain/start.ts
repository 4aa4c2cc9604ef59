import { promiseMs } from '../base/timing.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import { type ComparePace, comparePaceDefault, emptyComparison } from './comparison.js';
import { emptyLedger } from './fold.js';
import { everythingKept, type Kept, type LogBounds } from './kept.js';
import { logBoundsDefault, sessionSilenceMs } from './limits.js';
import type { Ledger, NodeIdentity, NodeState, NodeTiming } from './state.js';
import { everyoneIn, nameKey } from './views.js';

/** What a process finds on its disk. */
export interface Remembered {
  readonly ledger?: Ledger;
  readonly kept?: Kept;
  readonly seen?: View | undefined;
  readonly leaseMaxMs?: number;
}

/** A process that takes part in nothing yet; `now`: monotonic milliseconds of its start (R5). */
export function startState(
  self: NodeIdentity,
  chainId: number,
  timing: NodeTiming,
  now: number,
  remembered: Remembered = {},
  {
    pace = comparePaceDefault,
    bounds = logBoundsDefault,
    silenceMs = sessionSilenceMs,
  }: {
    readonly pace?: ComparePace;
    readonly bounds?: LogBounds;
    readonly silenceMs?: number;
  } = {},
): NodeState {
  const leaseMaxMs = remembered.leaseMaxMs ?? 0;
  const { seen } = remembered;
  const seenStores = new Map<string, Uint8Array>();
  for (const m of seen === undefined ? [] : everyoneIn(seen)) {
    if (m.storeId.byteLength > 0) seenStores.set(nameKey(m), m.storeId);
  }
  return {
    self,
    chainId,
    timing,
    ledger: remembered.ledger ?? emptyLedger(),
    bounds,
    kept: remembered.kept ?? everythingKept,
    incomplete: false,
    seen,
    active: undefined,
    removed: false,
    // A store without a record may be new, or have lost what an older one promised: it waits too.
    bootWaitUntil: now + promiseMs(Math.max(leaseMaxMs, timing.leaseMs), timing.drift),
    leaseMaxMs,
    given: new Map(),
    held: new Map(),
    needed: [],
    leaseUntil: Number.NEGATIVE_INFINITY,
    seenStores,
    stopped: new Set(),
    lastGrant: new Map(),
    up: undefined,
    down: undefined,
    hellos: [],
    upHeardAt: now,
    nextSession: 1,
    authority: false,
    authorityAt: undefined,
    waiting: { writes: new Map(), unleased: [], parked: [], query: undefined, queries: [] },
    nextNonce: 1,
    comparison: emptyComparison(pace, now),
    damage: undefined,
    counters: { queriesAnswered: 0, queriesSent: 0 },
    leasesDroppedAt: Number.NEGATIVE_INFINITY,
    lastTick: undefined,
    lastPromiseRound: Number.NEGATIVE_INFINITY,
    silence: { afterMs: silenceMs, marks: [], lookAt: now, found: [], through: 0 },
  };
}

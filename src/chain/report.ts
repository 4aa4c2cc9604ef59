import {
  type JoinReport,
  MemberState,
  type NodeHeartbeat,
} from '../gen/keychaindb/v1/coordinator.js';
import { joinLagEntriesMax } from './limits.js';
import type { NodeState } from './state.js';
import { fedOf, isTail, nameKey, predecessorOf, sameName, servesIn } from './views.js';

/** What this node tells the coordinators (R9, R13). `join`: it asks to be a member. */
export function heartbeatOf(
  state: NodeState,
  join: boolean,
  clusterId: Uint8Array,
  now: number,
  stuckMs: number,
): NodeHeartbeat {
  const { self, ledger } = state;
  return {
    chainId: state.chainId,
    clusterId,
    lineage: state.seen?.lineage ?? 0,
    id: self.id,
    incarnation: self.incarnation,
    storeId: self.storeId,
    address: self.address,
    seenEpoch: state.seen?.epoch ?? 0,
    activeEpoch: state.active?.epoch ?? 0,
    last: ledger.last,
    watermark: ledger.watermark,
    incomplete: state.incomplete,
    silentPeers: silentPeers(state, now),
    join,
    report: joinReport(state),
    process: self.process ?? self.incarnation,
    stuckMs: Math.floor(stuckMs),
    bootWaitMs: Math.max(0, Math.ceil(state.bootWaitUntil - now)),
    stagedKeys: ledger.dirty.size,
    leaseMs: leaseLeft(state, now),
    version: '',
    damage: state.damage?.what ?? '',
    outlier: state.damage?.outlier ?? '',
    comparedRevision: state.comparison.through,
  };
}

/** Where nobody's promise is needed there is no end to it: then the longest that a heartbeat can say. */
function leaseLeft({ leaseUntil, active, removed }: NodeState, now: number): number {
  if (active === undefined || removed) return 0;
  return Math.max(0, Math.min(Math.floor(leaseUntil - now), 0xffff_ffff));
}

/**
 * R9: the tail reports the member that it feeds. SYNCING and nearly caught up: may be JOINING. JOINING
 * and it has acknowledged, by a message of this epoch, all that is committed: may be SERVING; from here
 * on it misses nothing, since commits wait for it, so the report can't go stale.
 */
export function joinReport(state: NodeState): JoinReport | undefined {
  const { active, down, ledger } = state;
  if (active === undefined || state.removed || !isTail(active, state.self)) return undefined;
  if (!state.authority || state.authorityAt === undefined) return undefined;
  const fed = fedOf(active);
  if (fed === undefined || down === undefined || !sameName(down.from, fed)) return undefined;
  if (down.epoch !== active.epoch || down.acked === undefined) return undefined;
  const report = { epoch: active.epoch, id: fed.id, incarnation: fed.incarnation };
  if (fed.state === MemberState.SYNCING) {
    const near = ledger.last.index - down.acked.index <= joinLagEntriesMax;
    return near ? { ...report, next: MemberState.JOINING } : undefined;
  }
  const complete = down.acked.index >= ledger.watermark.index;
  return complete ? { ...report, next: MemberState.SERVING } : undefined;
}

/** Members whose promise or link this node has lacked for the detection time (R13). Who doesn't serve asks for no promise. */
function silentPeers(state: NodeState, now: number): string[] {
  const { active, timing, self } = state;
  if (active === undefined || state.removed) return [];
  const silent = new Set<string>();
  for (const name of servesIn(active, self) ? state.needed : []) {
    const since = state.lastGrant.get(nameKey(name)) ?? now;
    if (now - since > timing.detectionMs) silent.add(name.id);
  }
  const predecessor = predecessorOf(active, self);
  if (predecessor !== undefined && state.up?.heard !== true) {
    if (now - state.upHeardAt > timing.detectionMs) silent.add(predecessor.id);
  }
  return [...silent];
}

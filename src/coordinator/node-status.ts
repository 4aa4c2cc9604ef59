import type { NodeStatus } from '../gen/keychaindb/v1/coordinator.js';
import type { DetectorState } from './detector.js';

/** What each node said last. @param epoch of the newest view */
export function nodesHeard(
  state: DetectorState,
  epoch: number,
  now: number,
): readonly NodeStatus[] {
  const beats = [...state.heard.values()];
  const committed = Math.max(0, ...beats.map(({ beat }) => beat.watermark?.index ?? 0));
  return beats.map(({ beat, at }) => ({
    id: beat.id,
    incarnation: beat.incarnation,
    silentMs: Math.max(0, Math.floor(now - at)),
    activeEpoch: beat.activeEpoch,
    revision: beat.last?.index ?? 0,
    watermark: beat.watermark?.index ?? 0,
    lag: committed - (beat.watermark?.index ?? 0),
    stagedKeys: beat.stagedKeys,
    leaseMs: beat.leaseMs,
    bootWaitMs: beat.bootWaitMs,
    silentPeers: beat.silentPeers,
    version: beat.version,
    damage: beat.damage,
    outlier: beat.outlier,
    comparedRevision: beat.comparedRevision,
    stuckMs: beat.stuckMs,
    idleMs: beat.activeEpoch < epoch ? Math.max(1, Math.floor(now - state.viewSince)) : 0,
  }));
}

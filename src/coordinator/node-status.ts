import type { NodeHeartbeat, NodeStatus, View } from '../gen/keychaindb/v1/coordinator.js';
import type { DetectorState } from './detector.js';

/** Of a field of 32 bits: a longer time could not be sent at all. */
const millisecondsMax = 0xffff_ffff;

/** What each node said last. @param view the newest one */
export function nodesHeard(state: DetectorState, view: View, now: number): readonly NodeStatus[] {
  const idleMs = Math.min(Math.max(1, Math.floor(now - state.viewSince)), millisecondsMax);
  // Who is in no chain takes up no view.
  const isIdle = ({ id, incarnation, activeEpoch }: NodeHeartbeat): boolean =>
    activeEpoch < view.epoch &&
    view.members.some((m) => m.id === id && m.incarnation === incarnation);
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
    idleMs: isIdle(beat) ? idleMs : 0,
  }));
}

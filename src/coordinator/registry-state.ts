import type { View } from '../gen/keychaindb/v1/coordinator.js';

/** The registry: what the coordinators' log folds to. Only `registry.ts` changes it. */
export interface RegistryState {
  /** Empty until CreateCluster. */
  readonly clusterId: Uint8Array;
  /** The newest view; epoch 0: no chain yet. Every member and other that was ever added and not removed. */
  readonly view: View;
  /** Highest incarnation that each id ever had, also of removed ones: an incarnation once gone never returns. */
  readonly incarnations: ReadonlyMap<string, number>;
  /** Ids that were removed long ago are forgotten: an id that is not in `incarnations` had none above this one. */
  readonly forgotten: number;
}

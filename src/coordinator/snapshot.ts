import { noBytes } from '../base/bytes.js';
import { RegistrySnapshot, View } from '../gen/keychaindb/v1/coordinator.js';
import type { RegistryState } from './registry-state.js';

/** The registry as it stands in a snapshot of the coordinators' log; the same bytes at every coordinator. */
export function encodeRegistry({ view, incarnations, forgotten }: RegistryState): Uint8Array {
  const ids = [...incarnations.keys()].sort();
  return RegistrySnapshot.encode({
    view,
    incarnations: Object.fromEntries(ids.map((id) => [id, incarnations.get(id) ?? 0])),
    forgotten,
  }).finish();
}

export function decodeRegistry(bytes: Uint8Array): RegistryState {
  const { view, incarnations, forgotten } = RegistrySnapshot.decode(bytes);
  const known = view ?? View.decode(noBytes);
  return {
    clusterId: known.clusterId,
    view: known,
    incarnations: new Map(Object.entries(incarnations)),
    forgotten,
  };
}

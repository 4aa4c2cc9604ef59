import { createHash } from 'node:crypto';
import { View } from '../gen/keychaindb/v1/coordinator.js';
import type { Envelope } from '../gen/keychaindb/v1/log.js';
import { assertView } from './invariants.js';
import { emptyRegistry } from './registry.js';
import { type Applied, applyCommand } from './registry-machine.js';
import type { RegistryState } from './registry-state.js';

/** What one entry of a coordinator's log does to the registry; undefined for a leader's own entry. */
export function replayEntry(state: RegistryState, entry: Envelope): Applied | undefined {
  if (entry.payload.byteLength === 0 || entry.isGroup) return undefined;
  const applied = applyCommand(state, entry.payload, entry.at);
  if (applied.state !== state) assertView(state.view, applied.state.view);
  return applied;
}

/** The registry that a log folds to, from its beginning or from what a snapshot says. */
export function replayEntries(
  entries: Iterable<Envelope>,
  from: RegistryState = emptyRegistry,
): RegistryState {
  let state = from;
  for (const entry of entries) state = replayEntry(state, entry)?.state ?? state;
  return state;
}

/** SHA-256 in hex of the registry: equal at two coordinators that have applied the same entries. */
export function registryHash({ view, incarnations, forgotten }: RegistryState): string {
  const hash = createHash('sha256').update(View.encode(view).finish());
  for (const id of [...incarnations.keys()].sort()) {
    hash.update(` ${id.length} ${id} ${incarnations.get(id) ?? 0}`);
  }
  if (forgotten > 0) hash.update(` ${forgotten}`);
  return hash.digest('hex');
}

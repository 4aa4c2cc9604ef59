import { BehaviorSubject } from 'rxjs';
import { assert } from '../base/assert.js';
import { RegistryCommand, RegistryResult, type View } from '../gen/keychaindb/v1/coordinator.js';
import type { CommittedEntry, ReplicatedStateMachine } from '../raft/raft.js';
import { assertView } from './invariants.js';
import { decide, emptyRegistry, evolve } from './registry.js';
import type { RegistryState } from './registry-state.js';
import { decodeRegistry, encodeRegistry } from './snapshot.js';

/** The registry on the Raft log: its events are what the log produces, in the same order everywhere. */
export class RegistryMachine implements ReplicatedStateMachine {
  readonly state$ = new BehaviorSubject<RegistryState>(emptyRegistry);

  get state(): RegistryState {
    return this.state$.value;
  }

  apply(entry: CommittedEntry): Uint8Array {
    const { state, reason, message } = applyCommand(this.state, entry.payload, entry.at);
    const isNew = state !== this.state;
    if (isNew) assertView(this.state.view, state.view);
    if (isNew) this.state$.next(state);
    return RegistryResult.encode({ reason, message, view: state.view }).finish();
  }

  snapshot(): Uint8Array {
    return encodeRegistry(this.state);
  }

  restore(snapshot: Uint8Array): void {
    const state = decodeRegistry(snapshot);
    assert(state.view.epoch >= this.state.view.epoch, 'a snapshot never goes back', {
      own: this.state.view.epoch,
      snapshot: state.view.epoch,
    });
    this.state$.next(state);
  }
}

export interface Applied {
  readonly state: RegistryState;
  readonly reason: string;
  readonly message: string;
  readonly view: View;
}

/** What one entry does: for the machine, and for whoever replays a log. */
export function applyCommand(state: RegistryState, payload: Uint8Array, at: number): Applied {
  const { events, reason, message } = decide(state, RegistryCommand.decode(payload));
  const next = events.reduce((before, event) => evolve(before, event, at), state);
  return { state: next, reason, message, view: next.view };
}

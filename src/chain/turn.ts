import type { ChainEvent } from './events.js';
import { evolve } from './evolve.js';
import type { StoreChanges } from './fold.js';
import type { ChainEffect } from './inputs.js';
import type { NodeState } from './state.js';

/**
 * One step of the core: an event is applied as soon as it is decided, so that the next decision of the
 * same step sees it. State changes through `emit` alone.
 */
export class Turn {
  readonly state: NodeState;
  readonly events: ChainEvent[] = [];
  readonly effects: ChainEffect[] = [];
  readonly #changes: StoreChanges | undefined;

  constructor(state: NodeState, changes: StoreChanges | undefined) {
    this.state = state;
    this.#changes = changes;
  }

  emit(event: ChainEvent): void {
    this.events.push(event);
    evolve(this.state, event, this.#changes);
  }

  effect(effect: ChainEffect): void {
    this.effects.push(effect);
  }
}

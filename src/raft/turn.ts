import { noBytes } from '../base/bytes.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { RaftEffect } from './inputs.js';
import { evolve, type RaftEvent, type RaftState } from './state.js';

/** One step in the making: events are applied at once, effects are collected. */
export class Turn {
  readonly state: RaftState;
  readonly events: RaftEvent[] = [];
  readonly effects: RaftEffect[] = [];
  readonly now: number;
  readonly chance: number;

  constructor(state: RaftState, now: number, chance: number) {
    this.state = state;
    this.now = now;
    this.chance = chance;
  }

  emit(event: RaftEvent): void {
    evolve(this.state.durable, event);
    this.events.push(event);
  }

  effect(effect: RaftEffect): void {
    this.effects.push(effect);
  }

  /** `term`: of the message, the own one unless it is said. */
  send(
    to: string,
    message: NonNullable<RaftMessage['message']>,
    options: { readonly term?: number; readonly afterSync: boolean },
  ): void {
    const { id, durable } = this.state;
    this.effect({
      type: 'send',
      afterSync: options.afterSync,
      message: { from: id, to, term: options.term ?? durable.term, clusterId: noBytes, message },
    });
  }
}

import { noBytes } from '../base/bytes.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { Moment, RaftEffect } from './inputs.js';
import { evolve, keepsLog, type RaftEvent, type RaftState } from './state.js';

/** What the disk is asked for; `Stored` with its id says that it is done, and all before it. */
export interface StoreRequest {
  readonly id: number;
  readonly events: readonly RaftEvent[];
}

/** One step in the making: events are applied at once, effects are collected. */
export class Turn {
  readonly state: RaftState;
  readonly events: RaftEvent[] = [];
  readonly effects: RaftEffect[] = [];
  readonly #then: RaftEffect[] = [];
  readonly now: number;
  readonly chance: number;
  readonly wall: number;

  constructor(state: RaftState, { now, chance, wall }: Moment) {
    this.state = state;
    this.now = now;
    this.chance = chance;
    this.wall = wall;
  }

  emit(event: RaftEvent): void {
    const { state } = this;
    if (event.type === 'SuffixCut') this.#forgetWrites(event.after);
    if (event.type === 'SnapshotInstalled' && !keepsLog(state.durable, event.snapshot)) {
      this.#forgetWrites(0);
    }
    evolve(state.durable, event);
    this.events.push(event);
  }

  /** What is on its way to the disk of entries that are cut vouches for nothing that takes their place (B8). */
  #forgetWrites(after: number): void {
    const { state } = this;
    state.synced = Math.min(state.synced, after);
    for (const storing of state.storing) storing.through = Math.min(storing.through, after);
  }

  effect(effect: RaftEffect): void {
    this.effects.push(effect);
  }

  /** `term`: of the message, the own one unless it is said. `afterSync`: it vouches for what is stored by now. */
  send(
    to: string,
    message: NonNullable<RaftMessage['message']>,
    options: { readonly term?: number; readonly afterSync: boolean },
  ): void {
    const { id, durable } = this.state;
    const term = options.term ?? durable.term;
    const effect: RaftEffect = {
      type: 'send',
      // The shell adds what is the same in all of them.
      message: { from: id, to, term, clusterId: noBytes, address: '', message },
    };
    (options.afterSync ? this.#then : this.effects).push(effect);
  }

  /** What has to be stored, with what waits for it; what need not wait is among the effects. */
  finish(): StoreRequest | undefined {
    const { state, events } = this;
    if (events.length === 0) {
      // Nothing was stored since the newest write, which is all that has to be waited for.
      const newest = state.storing.at(-1);
      if (newest === undefined) this.effects.push(...this.#then);
      else newest.effects = joined(newest.effects, this.#then);
      return undefined;
    }
    const id = state.nextStore;
    state.nextStore += 1;
    const { term, log } = state.durable;
    state.storing.push({ id, through: log.last.index, term, effects: this.#then });
    return { id, events };
  }
}

/** A disk that hangs is asked on, with every heartbeat: of the answers that wait each member gets the newest. */
function joined(waiting: readonly RaftEffect[], more: readonly RaftEffect[]): RaftEffect[] {
  const newer = new Set(more.map(answerOf));
  const isOld = (effect: RaftEffect): boolean => {
    const answer = answerOf(effect);
    return answer !== '' && newer.has(answer);
  };
  return [...waiting.filter((effect) => !isOld(effect)), ...more];
}

/** Whose question it answers, where an answer that is lost is asked for again; '' where it may not be left out. */
function answerOf(effect: RaftEffect): string {
  if (effect.type !== 'send') return '';
  const { to, message } = effect.message;
  if (message?.$case === 'appendResponse') return `append ${to}`;
  return message?.$case === 'voteResponse' && message.value.preVote ? `pre-vote ${to}` : '';
}

import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { type EventLog, isDamage } from '../log/event-log.js';
import { objectPrefix } from '../log/keys.js';
import type { AskedRange } from './compare.js';
import type { ComparePace, RangeHash } from './comparison.js';
import type { ChainEffect, ChainInput } from './inputs.js';
import { StateChunk, stateEnd } from './state-chunk.js';

export type ScanEffect = Extract<ChainEffect, { type: 'readRange' | 'hashRange' | 'rollRange' }>;

/** Parts of the state that are read for neighbours at a time; more are not answered. */
const hashedMax = 2;

/** What is committed at a node. */
export interface Committed {
  /** The newest entry that is known to be, stored or not. */
  watermark(): EntryId;
  /** Resolves when what is committed by now is in the store. */
  stored(): Promise<void>;
}

/** Reads parts of the state for comparisons (R18), beside everything else: nothing waits for it. */
export class StateScan {
  readonly #log: EventLog;
  readonly #clock: Clock;
  readonly #pace: ComparePace;
  readonly #committed: Committed;
  readonly #give: (input: ChainInput) => void;
  /** The own part of the present round. */
  #own: { readonly nonce: number; readonly chunk: StateChunk } | undefined;
  #hashing = 0;

  constructor(
    log: EventLog,
    clock: Clock,
    pace: ComparePace,
    committed: Committed,
    give: (input: ChainInput) => void,
  ) {
    this.#log = log;
    this.#clock = clock;
    this.#pace = pace;
    this.#committed = committed;
    this.#give = give;
  }

  perform(effect: ScanEffect): void {
    switch (effect.type) {
      case 'readRange':
        void this.#read(effect.nonce, effect.from);
        break;
      case 'hashRange':
        void this.#hash(effect.asked);
        break;
      case 'rollRange':
        void this.#roll(effect.nonce, effect.theirs);
        break;
    }
  }

  async #read(nonce: number, from: Uint8Array): Promise<void> {
    this.#own = undefined;
    const chunk = await this.#unlessDamaged(() => this.#chunk(from, stateEnd));
    if (chunk !== undefined) this.#own = { nonce, chunk };
    this.#give({
      type: 'RangeRead',
      nonce,
      range: chunk?.range,
      now: this.#clock.monotonic(),
    });
  }

  async #hash(asked: AskedRange): Promise<void> {
    const { from, to, atLeast } = asked;
    const isState = Buffer.compare(from, objectPrefix) >= 0 && Buffer.compare(to, stateEnd) <= 0;
    if (!isState || Buffer.compare(from, to) >= 0 || this.#hashing >= hashedMax) return;
    this.#hashing += 1;
    const hash = await this.#unlessDamaged(async () => {
      const chunk = await this.#chunk(from, to);
      const { through } = chunk.range;
      return chunk.hashAt(this.#log, through.index > atLeast.index ? through : atLeast);
    });
    this.#hashing -= 1;
    this.#give({ type: 'RangeHashed', asked, hash, now: this.#clock.monotonic() });
  }

  async #roll(nonce: number, theirs: RangeHash): Promise<void> {
    const own = this.#own;
    const hash =
      own?.nonce === nonce
        ? await this.#unlessDamaged(() => own.chunk.hashAt(this.#log, theirs.at, theirs.to))
        : undefined;
    this.#give({ type: 'RangeRolled', nonce, theirs, own: hash, now: this.#clock.monotonic() });
  }

  async #chunk(from: Uint8Array, to: Uint8Array): Promise<StateChunk> {
    // What is not in the store would be folded from the log, at once.
    await this.#committed.stored();
    return StateChunk.read(this.#log, from, to, this.#pace, this.#committed.watermark);
  }

  /** A damaged record that is met on the way is told of; a log that doesn't reach back is no damage. */
  async #unlessDamaged<T>(work: () => Promise<T | undefined>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (isDamage(error)) {
        const { message: what } = KeychainError.from(error);
        this.#give({ type: 'DamageFound', what, now: this.#clock.monotonic() });
      }
      return undefined;
    }
  }
}

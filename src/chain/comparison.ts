import { equalBytes } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { objectPrefix } from '../log/keys.js';
import type { Name } from './views.js';

/*
 * Where a node is in comparing its state with its neighbours' (R18): of this incarnation alone, and a round of one
 * epoch alone. Never changed in place.
 */

/** How much of a node's time goes into it. */
export interface ComparePace {
  /** Milliseconds from the end of one pass over the state to the begin of the next. */
  readonly intervalMs: number;
  /** Of the time, between 0 and 1; 0: nothing is compared. */
  readonly share: number;
  /** Records and bytes of one round: what is read at a stretch. */
  readonly records: number;
  readonly bytes: number;
}

export const comparePaceDefault: ComparePace = {
  intervalMs: 60_000,
  share: 0.02,
  records: 1_024,
  bytes: 1 << 20,
};

/** A part of the state, as keys of the store. */
export interface StateRange {
  readonly from: Uint8Array;
  /** Exclusive. */
  readonly to: Uint8Array;
  /** It ends where the state ends. */
  readonly isLast: boolean;
  /** What was read contains nothing that was committed after this entry. */
  readonly through: EntryId;
}

/** The hash of a part of the state as it was after one entry. */
export interface RangeHash {
  readonly at: EntryId;
  /** Where the part ends, exclusive. */
  readonly to: Uint8Array;
  /** Hex. */
  readonly hash: string;
}

/** One range, compared with one member, and with the others where it differs. */
export interface Round {
  readonly nonce: number;
  readonly epoch: number;
  /** Monotonic milliseconds. */
  readonly since: number;
  /** How long the own part took to read, in milliseconds. */
  readonly tookMs: number;
  readonly predecessor: Name;
  /** Whose answer is waited for. */
  readonly asked: Name;
  /** Undefined until it has been read. */
  readonly range: StateRange | undefined;
  /** Who has answered, with what came of it. */
  readonly agree: readonly Name[];
  readonly differ: readonly Name[];
}

/** What is wrong with a store. */
export interface StoreDamage {
  readonly what: string;
  /** Id of the member whose state differs from the others'; empty: a record of the own store can't be read. */
  readonly outlier: string;
}

export interface Comparison {
  readonly pace: ComparePace;
  /** The first key of the next round. */
  readonly from: Uint8Array;
  /** Monotonic milliseconds before which no round begins. */
  readonly nextAt: number;
  readonly round: Round | undefined;
  /** The revision of the first round of this pass; undefined before it. */
  readonly passFrom: number | undefined;
  /** The whole state was equal to the predecessor's at this revision or later ones; 0: not yet. */
  readonly through: number;
}

export type ComparisonEvent =
  | {
      readonly type: 'RoundBegan';
      readonly nonce: number;
      readonly epoch: number;
      readonly predecessor: Name;
      readonly now: number;
    }
  | { readonly type: 'RangeRead'; readonly range: StateRange; readonly now: number }
  /** `to`: where the part ends that differs. */
  | { readonly type: 'RangeDiffered'; readonly from: Name; readonly to: Uint8Array }
  | { readonly type: 'RangeAgreed'; readonly from: Name }
  | { readonly type: 'RangeAsked'; readonly of: Name }
  /** Equal to the predecessor's: the next round goes on behind it. */
  | {
      readonly type: 'RoundEqual';
      readonly at: EntryId;
      readonly to: Uint8Array;
      readonly nextAt: number;
    }
  /** Without a verdict: the range comes again. */
  | { readonly type: 'RoundEnded'; readonly nextAt: number };

const stateBegin = objectPrefix;

export function emptyComparison(pace: ComparePace, now: number): Comparison {
  return {
    pace,
    from: stateBegin,
    nextAt: now + pace.intervalMs,
    round: undefined,
    passFrom: undefined,
    through: 0,
  };
}

export function evolveComparison(comparison: Comparison, event: ComparisonEvent): Comparison {
  if (event.type === 'RoundBegan') {
    const { nonce, epoch, predecessor, now } = event;
    const round: Round = {
      ...{ nonce, epoch, predecessor, since: now, tookMs: 0 },
      ...{ asked: predecessor, range: undefined, agree: [], differ: [] },
    };
    return { ...comparison, round };
  }
  const { round } = comparison;
  if (round === undefined) return comparison;
  switch (event.type) {
    case 'RangeRead': {
      const tookMs = event.now - round.since;
      return { ...comparison, round: { ...round, tookMs, range: event.range } };
    }
    case 'RangeDiffered': {
      const range = round.range && endingAt(round.range, event.to);
      return { ...comparison, round: { ...round, range, differ: [...round.differ, event.from] } };
    }
    case 'RangeAgreed':
      return { ...comparison, round: { ...round, agree: [...round.agree, event.from] } };
    case 'RangeAsked':
      return { ...comparison, round: { ...round, asked: event.of } };
    case 'RoundEqual':
      return afterEqual(comparison, round, event);
    case 'RoundEnded':
      return { ...comparison, round: undefined, nextAt: event.nextAt };
  }
}

/** A range, or its beginning. */
export function endingAt(range: StateRange, to: Uint8Array): StateRange {
  return { ...range, to, isLast: range.isLast && equalBytes(range.to, to) };
}

function afterEqual(
  comparison: Comparison,
  round: Round,
  { at, to, nextAt }: Extract<ComparisonEvent, { type: 'RoundEqual' }>,
): Comparison {
  if (round.range === undefined) return comparison;
  const range = endingAt(round.range, to);
  const passFrom = comparison.passFrom ?? at.index;
  const over = { ...comparison, round: undefined, nextAt };
  return range.isLast
    ? { ...over, from: stateBegin, passFrom: undefined, through: passFrom }
    : { ...over, from: range.to, passFrom };
}

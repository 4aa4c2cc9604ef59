import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { origin } from '../log/event-log.js';
import { holds } from './spans.js';
import type { NodeState } from './state.js';

/*
 * What a node keeps of its log (R17). A base stands for the log through its revision, so the log may begin there;
 * it begins one base earlier, so that a follower that was away for a while is fed from the log.
 */

/** When a base is made. Of both about the same is kept: what is written between two bases, twice. */
export interface LogBounds {
  /** Bytes of blocks. */
  readonly bytesMax: number;
  readonly entriesMax: number;
}

/** Times the bound that a log may grow for a follower that needs it; one that is farther behind gets a snapshot. */
const followerFactor = 2;

/** A place in the log: the end of a block. */
export interface LogMark {
  readonly id: EntryId;
  /** Of blocks, as the ledger counts them: about, where they were written by an earlier process. */
  readonly bytes: number;
}

export interface Kept {
  /** Every block that is kept follows it. Invariant: start <= base <= watermark. */
  readonly start: LogMark;
  /** The newest base; `origin`, the empty state, where there is none. */
  readonly base: LogMark;
}

export const everythingKept: Kept = {
  start: { id: origin, bytes: 0 },
  base: { id: origin, bytes: 0 },
};

/** Half of what the log may hold was written since the newest base, and more is committed than that one has. */
export function isBaseDue({ kept, ledger, incomplete, removed, bounds }: NodeState): boolean {
  if (incomplete || removed || ledger.watermark.index <= kept.base.id.index) return false;
  const bytes = ledger.bytes - kept.base.bytes;
  const entries = ledger.last.index - kept.base.id.index;
  return bytes > bounds.bytesMax / 2 || entries > bounds.entriesMax / 2;
}

/** About where a base that is made now would stand: at the watermark of what is stored by then. */
export function markOfWatermark({ ledger }: NodeState): LogMark {
  return { id: ledger.watermark, bytes: ledger.bytes - ledger.stagedBytes };
}

/** Through where the log may go once a newer base than `kept.base` is valid: through that one; undefined: it stays. */
export function droppable(state: NodeState): LogMark | undefined {
  const { kept, ledger, down, bounds } = state;
  const { start, base } = kept;
  if (base.id.index <= start.id.index) return undefined;
  if (down === undefined) return base;
  const needed = (down.acked ?? down.fedAfter).index;
  const isLong =
    ledger.bytes - start.bytes > bounds.bytesMax * followerFactor ||
    ledger.last.index - start.id.index > bounds.entriesMax * followerFactor;
  return needed >= base.id.index || isLong ? base : undefined;
}

/**
 * How a follower whose log ends at one of these, newest first, is fed (R6, R17): from the last common entry, if the log
 * is kept from there on; by a snapshot where it is not; from the beginning where the logs have nothing in common.
 */
export function feedFrom(
  { kept, ledger }: NodeState,
  ends: readonly EntryId[],
): { readonly after: EntryId; readonly isSnapshot: boolean } {
  const common = ends.find((end) => holds(ledger.spans, end));
  if (common === undefined) return { after: origin, isSnapshot: false };
  const isSnapshot = common.index < kept.start.id.index;
  return { after: isSnapshot ? kept.base.id : common, isSnapshot };
}

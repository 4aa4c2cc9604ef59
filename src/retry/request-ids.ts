import { assert } from '../base/assert.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';

/** The ids that one client id gives out. Changed by `take` and `confirm` alone. */
export interface RequestIds {
  readonly clientId: Uint8Array;
  /** The seq of the next id: 1, 2, 3 … */
  next: number;
  /** The lowest seq without its answer; `next` where there is none. Invariant: next - lowest <= span. */
  lowest: number;
  /** Answered seqs from `lowest` up, by seq modulo the span. */
  readonly answered: Uint8Array;
}

/** @param span how far `next` may run ahead of the lowest seq without an answer */
export function requestIds(clientId: Uint8Array, span: number): RequestIds {
  return { clientId, next: 1, lowest: 1, answered: new Uint8Array(span) };
}

/** No id can be taken before the lowest unanswered one has its answer. */
export function isFull(ids: RequestIds): boolean {
  return ids.next - ids.lowest >= ids.answered.length;
}

/** The id that `take` will count as given out. */
export function nextId(ids: RequestIds): RequestId {
  return { clientId: ids.clientId, seq: ids.next, answeredBelow: ids.lowest };
}

export function take(ids: RequestIds): void {
  assert(!isFull(ids), 'an id was taken beyond the span', { next: ids.next, lowest: ids.lowest });
  ids.answered[ids.next % ids.answered.length] = 0;
  ids.next += 1;
}

/** The request has its answer, or nobody will ask for it again. */
export function confirm(ids: RequestIds, seq: number): void {
  assert(seq >= ids.lowest && seq < ids.next, 'a seq is confirmed once', {
    seq,
    lowest: ids.lowest,
    next: ids.next,
  });
  const span = ids.answered.length;
  ids.answered[seq % span] = 1;
  while (ids.lowest < ids.next && ids.answered[ids.lowest % span] === 1) {
    ids.answered[ids.lowest % span] = 0;
    ids.lowest += 1;
  }
}

/**
 * The n-th client id made of one seed of 16 random bytes, n counted from 0: its last four bytes count, so
 * that a new id needs no new chance.
 */
export function clientIdOf(seed: Uint8Array, n: number): Uint8Array {
  assert(seed.byteLength === 16, 'a client id has 16 bytes', { bytes: seed.byteLength });
  const id = new Uint8Array(seed);
  const view = new DataView(id.buffer);
  view.setUint32(12, (view.getUint32(12) + n) >>> 0);
  return id;
}

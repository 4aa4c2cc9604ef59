import {
  linkWindowBytesMax,
  loadingReadsMax,
  parkedReadsMax,
  stagedBytesMax,
  stagedEntriesMax,
} from './limits.js';
import type { Requests } from './requests.js';
import type { NodeState } from './state.js';

/** A queue and its bound. */
export interface Queue {
  readonly name: string;
  readonly length: number;
  readonly limit: number;
}

/** What waits at a node, and how much of it may, by name. */
export function queuesOf(
  { ledger, waiting }: NodeState,
  { collectingBytes, loadingReads }: Pick<Requests, 'collectingBytes' | 'loadingReads'>,
  linkWindowBytes: number,
): readonly Queue[] {
  const reads = waiting.unleased.length + waiting.parked.length;
  return [
    { name: 'staged_entries', length: ledger.stagedEntries, limit: stagedEntriesMax },
    { name: 'staged_bytes', length: ledger.stagedBytes, limit: stagedBytesMax },
    { name: 'parked_reads', length: reads, limit: parkedReadsMax },
    { name: 'loading_reads', length: loadingReads, limit: loadingReadsMax },
    { name: 'collecting_bytes', length: collectingBytes, limit: stagedBytesMax },
    { name: 'link_window_bytes', length: linkWindowBytes, limit: linkWindowBytesMax },
  ];
}

import { crc32 } from 'node:zlib';
import { KeychainError } from '../base/errors.js';
import {
  type EntryId,
  SnapshotBase,
  SnapshotChunk,
  type SnapshotRecord,
} from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import { type EventLog, origin, sameEntry } from '../log/event-log.js';
import { chunkKey, chunksOf, metaKey } from '../log/keys.js';

/*
 * What a base looks like: the committed state at a revision, in chunks under prefix `c`, and the record that makes
 * them valid. The same chunks go over a link.
 */

export const baseKey = metaKey('base');
/** Is there while a store holds a part of a snapshot only, or is being emptied (R17). */
export const incompleteKey = metaKey('incomplete');

/** A store's checked records: of an EventLog, or a folder that is only read. */
export type Records = Pick<EventLog, 'get' | 'scan'>;

/** The newest base of a store. Throws KeychainError CORRUPT. */
export async function readBase(records: Pick<Records, 'get'>): Promise<SnapshotBase | undefined> {
  const bytes = await records.get(baseKey);
  return bytes === undefined ? undefined : SnapshotBase.decode(bytes);
}

/** Through where it stands for the log; `origin` where there is none. */
export function revisionOf(base: Pick<SnapshotBase, 'at'> | undefined): EntryId {
  return base?.at ?? origin;
}

/** The chunks of a base, in order, checked. Throws KeychainError CORRUPT where one is missing or changed. */
export async function* readChunks(
  records: Pick<Records, 'scan'>,
  base: SnapshotBase,
): AsyncIterable<SnapshotChunk> {
  const at = revisionOf(base);
  let count = 0;
  for await (const [, value] of records.scan(chunksOf(at.index))) {
    const chunk = SnapshotChunk.decode(value);
    if (count === base.chunks) break;
    const wrong = faultOf(chunk, at, count);
    if (wrong !== undefined) throw corrupt(base, wrong);
    count += 1;
    yield chunk;
  }
  if (count < base.chunks) throw corrupt(base, `chunk ${count} of ${base.chunks} is missing`);
}

/** Why a chunk can't be the one of this number; undefined where it is. */
export function faultOf(chunk: SnapshotChunk, at: EntryId, sequence: number): string | undefined {
  const isIt = chunk.at !== undefined && sameEntry(chunk.at, at) && chunk.sequence === sequence;
  if (!isIt) return `chunk ${chunk.sequence} stands where chunk ${sequence} belongs`;
  if (checksumOf(chunk.records) === chunk.checksum) return undefined;
  return `chunk ${sequence}: its checksum doesn't match`;
}

function corrupt(base: SnapshotBase, what: string): KeychainError {
  return new KeychainError('CORRUPT', `the base at revision ${revisionOf(base).index}: ${what}`);
}

export function checksumOf(records: readonly SnapshotRecord[]): number {
  let sum = 0;
  for (const { key, value } of records) {
    sum = crc32(key, sum);
    // zlib answers 0 for an empty input, whatever came before.
    if (value.byteLength > 0) sum = crc32(value, sum);
  }
  return sum;
}

/** Deletes records from one prefix through another, in batches; what is left when `isStill` says no stays. */
export async function deleteRecords(
  log: Pick<EventLog, 'scan' | 'record' | 'settled'>,
  [from, through]: readonly [Uint8Array, Uint8Array],
  options: {
    readonly atOnce: number;
    readonly isStill: () => boolean;
    /** After each batch. */
    readonly deleted?: () => Promise<void>;
  },
): Promise<void> {
  const { atOnce, isStill, deleted } = options;
  let ops: WriteOp[] = [];
  const flush = async (): Promise<void> => {
    log.record(ops, { sync: false });
    ops = [];
    await log.settled();
    await deleted?.();
  };
  for await (const [key] of log.scan(from, through)) {
    if (!isStill()) return;
    ops.push({ type: 'del', key });
    if (ops.length >= atOnce) await flush();
  }
  if (ops.length > 0 && isStill()) await flush();
}

export function recordChunk(at: EntryId, chunk: SnapshotChunk): WriteOp {
  const key = chunkKey(at.index, chunk.sequence);
  return { type: 'put', key, value: SnapshotChunk.encode(chunk).finish() };
}

export function recordBase(base: SnapshotBase): WriteOp {
  return { type: 'put', key: baseKey, value: SnapshotBase.encode(base).finish() };
}

/** The chunks of a base that has been replaced. */
export function forgetChunks(base: SnapshotBase): readonly WriteOp[] {
  const { index } = revisionOf(base);
  return Array.from({ length: base.chunks }, (_, i) => ({ type: 'del', key: chunkKey(index, i) }));
}

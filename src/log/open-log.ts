import { KeychainError } from '../base/errors.js';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import { decodeBlock } from './block.js';
import { cleanCloseKey, DurableLog, type LogStart, logStartKey } from './durable-log.js';
import type { StorageEngine } from './engine.js';
import { type EventLog, type LogBlock, origin, sameEntry } from './event-log.js';
import { HighWater, type SyncedThrough } from './high-water.js';
import {
  blockIndexOf,
  blockKey,
  blockPrefix,
  decodeMarker,
  endOfPrefix,
  markerIndexOf,
  markerPrefix,
} from './keys.js';
import { markersMax } from './limits.js';
import { nameOf, unseal } from './record.js';

/** Synced data is missing or changed: the store must not be served from, or voted with. */
export interface Damage {
  readonly kind: 'checksum' | 'gap' | 'behind-high-water';
  /** Names the record and what was expected. */
  readonly message: string;
}

/**
 * Opens a log: walks the blocks since the last clean close, checks every checksum and that nothing is
 * missing between them, and compares with the high-water beside the store.
 */
export async function openLog(options: {
  readonly engine: StorageEngine;
  readonly fatal: (error: unknown) => void;
}): Promise<{ readonly log: EventLog; readonly damage: Damage | undefined }> {
  const { engine, fatal } = options;
  const walked = await walk(engine);
  const highWater = await HighWater.read(engine);
  const { start, markers } = walked;
  const damage = walked.damage ?? (highWater && behindOf(start.last, markers, highWater));
  const log = new DurableLog(engine, new HighWater(engine), walked.start, fatal);
  return { log, damage };
}

interface Walk {
  readonly start: LogStart;
  readonly markers: Markers;
  readonly damage: Damage | undefined;
}

/** A store that ends before what was synced; cuts since then made it shorter on purpose. */
export function behindOf(
  last: EntryId,
  { oldest, newest, cuts }: Markers,
  { entry, marker }: SyncedThrough,
): Damage | undefined {
  const behind = (what: string): Damage => ({
    kind: 'behind-high-water',
    message: `${what} (high-water)`,
  });
  // An old high-water: cuts since then may be among the markers that are not kept any more.
  if (oldest > marker + 1) return undefined;
  let expected = entry;
  for (const cut of cuts) {
    const { index, generation } = cut.after;
    // A log that begins anew after a snapshot may be longer, and of an older generation.
    const isShorter = index < expected.index || generation < expected.generation;
    if (cut.marker > marker && isShorter) expected = cut.after;
  }
  if (last.index < expected.index || last.generation < expected.generation) {
    return behind(
      `the log ends at entry ${last.index} of generation ${last.generation}; it was synced through ${expected.index} of ${expected.generation}`,
    );
  }
  if (newest >= marker) return undefined;
  return behind(
    `the newest batch without a block is ${newest}; they were synced through ${marker}`,
  );
}

async function walk(engine: StorageEngine): Promise<Walk> {
  let start: EntryId = origin;
  let last: EntryId = origin;
  let markers: Markers = { oldest: 0, newest: 0, cuts: [] };
  const found = (damage: Damage | undefined): Walk => ({
    start: { start, last, marker: markers.newest },
    markers,
    damage,
  });
  try {
    start = await readLogStart((key) => engine.get(key));
    last = await checkedThrough(engine, start);
    const range = { gte: blockKey(last.index + 1), lt: endOfPrefix(blockPrefix) };
    for await (const [key, sealed] of engine.scan(range)) {
      const block = decodeBlock(unseal(key, sealed));
      const gap = gapBefore(block, key, last);
      if (gap !== undefined) throw new Gap(gap);
      last = block.end;
    }
    markers = await checkMarkers(engine);
  } catch (error) {
    return found(damageOf(error));
  }
  return found(undefined);
}

/** Why a block can't stand where it stands, after `last`; undefined where it can. */
export function gapBefore(block: LogBlock, key: Uint8Array, last: EntryId): string | undefined {
  const { previous, end } = block;
  if (sameEntry(previous, last) && end.index === blockIndexOf(key)) return undefined;
  return `the block that ends at ${end.index} follows entry ${previous.index} of generation ${previous.generation}; before it stands ${last.index} of ${last.generation}`;
}

class Gap extends Error {}

/** What kind of damage an error tells of; what is none is thrown on. */
export function damageOf(error: unknown): Damage {
  if (error instanceof Gap) return { kind: 'gap', message: error.message };
  if (error instanceof KeychainError && error.reason === 'CORRUPT') {
    return { kind: 'checksum', message: error.message };
  }
  throw error;
}

/** The end of the log at the last clean close, if that block is still there. */
async function checkedThrough(engine: StorageEngine, start: EntryId): Promise<EntryId> {
  const sealed = await engine.get(cleanCloseKey);
  if (sealed === undefined) return start;
  const id = EntryId.decode(unseal(cleanCloseKey, sealed));
  if (id.index <= start.index) return start;
  const key = blockKey(id.index);
  const block = await engine.get(key);
  if (block === undefined) return start;
  return sameEntry(decodeBlock(unseal(key, block)).end, id) ? id : start;
}

/** The end of the newest block that was dropped. Throws KeychainError CORRUPT. */
export async function readLogStart(
  get: (key: Uint8Array) => Promise<Uint8Array | undefined>,
): Promise<EntryId> {
  const sealed = await get(logStartKey);
  return sealed === undefined ? origin : EntryId.decode(unseal(logStartKey, sealed));
}

/** A marker of a batch that cut the log, and the entry it was cut to. */
interface Cut {
  readonly marker: number;
  readonly after: EntryId;
}

/** The markers that are kept, by their numbers. */
export interface Markers {
  readonly oldest: number;
  readonly newest: number;
  readonly cuts: readonly Cut[];
}

/** Batches without a block, or with a cut, left numbered markers: one that is missing is a hole. */
export async function checkMarkers(engine: StorageEngine): Promise<Markers> {
  let oldest = 0;
  let newest = 0;
  const cuts: Cut[] = [];
  const range = { gte: markerPrefix, lt: endOfPrefix(markerPrefix) };
  for await (const [key, sealed] of engine.scan(range)) {
    const value = unseal(key, sealed);
    const marker = markerIndexOf(key);
    if (oldest === 0) oldest = marker;
    else if (marker !== newest + 1) {
      throw new Gap(`records are missing: ${nameOf(key)} follows batch ${newest}`);
    }
    newest = marker;
    const after = decodeMarker(value);
    if (after !== undefined) cuts.push({ marker, after });
  }
  if (oldest > Math.max(1, newest - markersMax + 1)) {
    throw new Gap(
      `records are missing: batch ${oldest} is the oldest; they are kept through ${newest}`,
    );
  }
  return { oldest, newest, cuts };
}

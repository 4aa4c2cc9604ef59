import { KeychainError } from '../base/errors.js';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import { decodeBlock } from './block.js';
import { cleanCloseKey, DurableLog, type LogStart } from './durable-log.js';
import type { StorageEngine } from './engine.js';
import { type EventLog, origin, sameEntry } from './event-log.js';
import { HighWater } from './high-water.js';
import {
  blockIndexOf,
  blockKey,
  blockPrefix,
  endOfPrefix,
  markerIndexOf,
  markerPrefix,
} from './keys.js';
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
  const behind =
    highWater !== undefined && highWater.index > walked.start.last.index
      ? {
          kind: 'behind-high-water' as const,
          message: `the log ends at entry ${walked.start.last.index}; it was synced through ${highWater.index} (high-water)`,
        }
      : undefined;
  const log = new DurableLog(engine, new HighWater(engine), walked.start, fatal);
  return { log, damage: walked.damage ?? behind };
}

interface Walk {
  readonly start: LogStart;
  readonly damage: Damage | undefined;
}

async function walk(engine: StorageEngine): Promise<Walk> {
  let last: EntryId = origin;
  let marker = 0;
  try {
    last = await checkedThrough(engine);
    const range = { gte: blockKey(last.index + 1), lt: endOfPrefix(blockPrefix) };
    for await (const [key, sealed] of engine.scan(range)) {
      const block = decodeBlock(unseal(key, sealed));
      if (!sameEntry(block.previous, last) || block.end.index !== blockIndexOf(key)) {
        throw new Gap(
          `the block that ends at ${block.end.index} follows entry ${block.previous.index} of generation ${block.previous.generation}; before it stands ${last.index} of ${last.generation}`,
        );
      }
      last = block.end;
    }
    marker = await checkMarkers(engine);
  } catch (error) {
    return { start: { last, marker }, damage: damageOf(error) };
  }
  return { start: { last, marker }, damage: undefined };
}

class Gap extends Error {}

function damageOf(error: unknown): Damage {
  if (error instanceof Gap) return { kind: 'gap', message: error.message };
  if (error instanceof KeychainError && error.reason === 'CORRUPT') {
    return { kind: 'checksum', message: error.message };
  }
  throw error;
}

/** The end of the log at the last clean close, if that block is still there. */
async function checkedThrough(engine: StorageEngine): Promise<EntryId> {
  const sealed = await engine.get(cleanCloseKey);
  if (sealed === undefined) return origin;
  const id = EntryId.decode(unseal(cleanCloseKey, sealed));
  if (id.index === 0) return origin;
  const key = blockKey(id.index);
  const block = await engine.get(key);
  if (block === undefined) return origin;
  return sameEntry(decodeBlock(unseal(key, block)).end, id) ? id : origin;
}

/** Batches without a block left numbered markers: one that is missing is a hole. */
async function checkMarkers(engine: StorageEngine): Promise<number> {
  let before: number | undefined;
  const range = { gte: markerPrefix, lt: endOfPrefix(markerPrefix) };
  for await (const [key, sealed] of engine.scan(range)) {
    unseal(key, sealed);
    const index = markerIndexOf(key);
    if (before !== undefined && index !== before + 1) {
      throw new Gap(`records are missing: ${nameOf(key)} follows batch ${before}`);
    }
    before = index;
  }
  return before ?? 0;
}

import { join } from 'node:path';
import { pause, systemClock } from '../../src/base/clock.js';
import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import { decodeBlock } from '../../src/log/block.js';
import { type LogBlock, origin, sameEntry } from '../../src/log/event-log.js';
import { blockPrefix } from '../../src/log/keys.js';
import { unseal } from '../../src/log/record.js';
import { type LogDamage, LogFolder } from './folder.js';
import { logNumbers, UnknownContent, WriteAheadLog } from './write-ahead-log.js';

/** Milliseconds between two looks at the file: seldom enough that a node on a busy machine does not notice. */
const lookMs = 500;
/** A store that had to be opened anew is left alone for so many times as long as that took. */
const restFactor = 20;

export interface FollowOptions {
  readonly from: number;
  readonly skipped: ((damage: LogDamage) => void) | undefined;
  readonly say: (text: string) => void;
}

/**
 * The log, and then what is added to it, for ever. Opening a store reads its whole write-ahead log, so it is
 * opened once; then the end of that log is read as it grows. Where that doesn't fit what was shown (a cut,
 * a file that was removed, a store that was emptied) the store is opened anew.
 */
export async function* follow(
  folder: LogFolder,
  { from, skipped, say }: FollowOptions,
): AsyncIterable<readonly LogBlock[]> {
  const store = join(folder.dir, 'store');
  let last: EntryId | undefined;
  let open: LogFolder | undefined = folder;
  for (;;) {
    const began = performance.now();
    // Before the store is opened: what is written meanwhile is met twice, and passed over.
    const tail = await endOf(store);
    let isShown = false;
    try {
      open ??= await LogFolder.open(folder.dir);
      if (last !== undefined) last = await common(open, last, say);
      for await (const block of open.blocks(last === undefined ? from : last.index + 1, skipped)) {
        yield [block];
        last = block.end;
      }
      // Where nothing was wanted yet, the tail goes on from the end all the same.
      last ??= (await open.blockOf(await open.lastIndex()))?.end ?? origin;
      isShown = true;
    } finally {
      await open?.close();
      open = undefined;
      if (!isShown) await tail?.close();
    }
    const took = performance.now() - began;
    if (tail !== undefined) last = yield* tailed(store, tail, last);
    await pause(systemClock, took * restFactor);
  }
}

/** The newest write-ahead log, at its end. */
async function endOf(store: string): Promise<WriteAheadLog | undefined> {
  const number = (await logNumbers(store)).at(-1);
  if (number === undefined) return undefined;
  let log: WriteAheadLog | undefined;
  try {
    log = await WriteAheadLog.open(store, number);
    await log.skip();
    return log;
  } catch {
    await log?.close();
    return undefined;
  }
}

/** What is shown of the log as it grows, until something doesn't fit; the end of what was shown. */
async function* tailed(
  store: string,
  first: WriteAheadLog,
  from: EntryId,
): AsyncGenerator<readonly LogBlock[], EntryId> {
  let log = first;
  let last = from;
  try {
    for (;;) {
      // Looked up before the end is read: what was written before the next file is all there then.
      const numbers = await logNumbers(store);
      const next = numbers.find((number) => number > log.number);
      const isGone = next === undefined && !numbers.includes(log.number);
      const blocks: LogBlock[] = [];
      let fits = true;
      for await (const changes of log.added()) {
        for (const { key, value } of changes) {
          // A block that goes is known by what comes in its place, if not the same comes again.
          if (!fits || key[0] !== blockPrefix[0] || value === undefined) continue;
          const block = decodeBlock(unseal(key, value));
          if (sameEntry(block.previous, last)) {
            blocks.push(block);
            last = block.end;
          } else {
            fits = block.end.index <= last.index && block.end.generation <= last.generation;
          }
        }
      }
      if (blocks.length > 0) yield blocks;
      if (!fits || isGone) return last;
      if (next === undefined) await pause(systemClock, lookMs);
      else {
        await log.close();
        log = await WriteAheadLog.open(store, next);
      }
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const isKnown = error instanceof UnknownContent || code === 'ENOENT';
    const isTorn = (error as { reason?: string }).reason === 'CORRUPT';
    if (!isKnown && !isTorn) throw error;
    return last;
  } finally {
    await log.close();
  }
}

/** Where the log as it is now and what was shown have their last entry in common. */
async function common(
  folder: LogFolder,
  last: EntryId,
  say: (text: string) => void,
): Promise<EntryId> {
  if (last.index === 0) return last;
  const block = await folder.blockOf(last.index);
  const isThere = block?.entries.some((entry) => sameEntry(entry, last)) === true;
  if (isThere) return last;
  let found: EntryId = origin;
  for await (const { end } of folder.blocks(1)) {
    if (end.index > last.index || end.generation > last.generation) break;
    found = end;
  }
  say(`the log was cut after entry ${found.index} of generation ${found.generation}`);
  return found;
}

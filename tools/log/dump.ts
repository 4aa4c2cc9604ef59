import { constants, setPriority } from 'node:os';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { entryHeader, entryJson, entryRow, viewOf } from './entry.js';
import { type FilterFlags, filterOf } from './filter.js';
import { describeDamage, LogFolder } from './folder.js';
import { follow } from './follow.js';
import type { LogIo } from './verb.js';

export interface DumpFlags extends FilterFlags {
  readonly follow: boolean;
  readonly skipDamaged: boolean;
  readonly output: 'table' | 'json';
}

/** Prints the entries of a log. */
export async function dump(dir: string, flags: DumpFlags, io: LogIo): Promise<number> {
  const folder = await LogFolder.open(dir);
  const { kind } = folder.identity;
  const filter = filterOf(kind, flags);
  const skipped = flags.skipDamaged ? io.damaged(describeDamage) : undefined;
  const { from = 1, until = Number.POSITIVE_INFINITY } = flags;
  if (from <= folder.start.index) folder.tellStart(io.say);
  if (flags.output === 'table') await io.out.line(entryHeader(kind));
  const print = async (block: LogBlock): Promise<void> => {
    for (const entry of block.entries) {
      if (!filter.envelope(entry)) continue;
      const view = viewOf(kind, entry);
      if (!filter.view(view)) continue;
      await io.out.line(flags.output === 'json' ? entryJson(kind, view) : entryRow(kind, view));
    }
  };
  if (flags.follow) {
    // The node beside it comes first where both want the same CPU.
    setPriority(constants.priority.PRIORITY_LOW);
    await io.out.flush();
    for await (const batch of follow(folder, { from, skipped, say: io.say })) {
      for (const block of batch) await print(block);
      await io.out.flush();
    }
    return exitCodes.ok;
  }
  try {
    const progress = io.progress(await folder.lastIndex(), from - 1);
    for await (const block of folder.blocks(from, skipped)) {
      if (block.previous.index >= until) break;
      await print(block);
      progress.at(block.end.index);
    }
  } finally {
    await folder.close();
  }
  return exitCodes.ok;
}

import { toHex } from '../../src/base/bytes.js';
import { padded } from '../../src/base/terminal-text.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import type { FolderKind } from '../../src/log/data-folder.js';
import { traceIdOf } from '../../src/telemetry/trace-context.js';
import { type EntryView, entryJson, viewOf, whatOf } from './entry.js';
import { type FilterFlags, filterOf } from './filter.js';
import { describeDamage, LogFolder } from './folder.js';
import { shown, timeOf } from './text.js';
import type { LogIo } from './verb.js';

export interface HistoryFlags extends FilterFlags {
  readonly key: Uint8Array;
  readonly skipDamaged: boolean;
  readonly output: 'table' | 'json';
}

/** Every write to a key, or every change of a member; 3 where there is none. */
export async function history(dir: string, flags: HistoryFlags, io: LogIo): Promise<number> {
  const folder = await LogFolder.open(dir);
  const { kind } = folder.identity;
  const filter = filterOf(kind, flags);
  const skipped = flags.skipDamaged ? io.damaged(describeDamage) : undefined;
  folder.tellStart(io.say);
  const progress = io.progress(await folder.lastIndex());
  let count = 0;
  if (flags.output === 'table') await io.out.line(header(kind));
  for await (const block of folder.blocks(flags.from, skipped)) {
    for (const entry of block.entries) {
      if (!filter.envelope(entry)) continue;
      const view = viewOf(kind, entry);
      if (!filter.view(view)) continue;
      count += 1;
      await io.out.line(flags.output === 'json' ? entryJson(kind, view) : row(view));
    }
    if (block.end.index >= (flags.until ?? Number.POSITIVE_INFINITY)) break;
    progress.at(block.end.index);
  }
  await folder.close();
  if (count > 0) return exitCodes.ok;
  const what = kind === 'node' ? 'write of' : 'change of member';
  io.say(`KEY_NOT_FOUND: the log of ${folder.name} has no ${what} ${shown(flags.key, 80)}`);
  return exitCodes.notFound;
}

/** Columns. */
const widths = [10, 6, 24, 14, 32, 8, 32];

function header(kind: FolderKind): string {
  const [index, generation] = kind === 'node' ? ['REVISION', 'EPOCH'] : ['INDEX', 'TERM'];
  return line([index ?? '', generation ?? '', 'TIME', 'TYPE', 'CLIENT', 'BYTES', 'VALUE'], 'TRACE');
}

function row(view: EntryView): string {
  const { entry, type, value } = view;
  const client = entry.request === undefined ? '' : toHex(entry.request.clientId);
  return line(
    [
      `${entry.index}`,
      `${entry.generation}`,
      timeOf(entry.at),
      type,
      client,
      value === undefined ? '' : `${value.byteLength}`,
      whatOf(view),
    ],
    traceIdOf(entry.trace),
  );
}

function line(cells: readonly string[], last: string): string {
  return `${cells.map((cell, i) => padded(cell, widths[i] ?? 0)).join('  ')}  ${last}`.trimEnd();
}

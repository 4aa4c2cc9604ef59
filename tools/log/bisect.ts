import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { KeychainError } from '../../src/base/errors.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import type { Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { entryHeader, entryObject, entryRow, nobody, viewOf } from './entry.js';
import { badFlag, filterOf } from './filter.js';
import { LogFolder } from './folder.js';
import { fold, missing, watermarkOf } from './replay.js';
import { type LogState, type StateChange, stateOf } from './state.js';
import type { LogIo } from './verb.js';

export interface BisectFlags {
  /** For the shell; the state comes on its stdin. */
  readonly check: string;
  /** The state after this entry passes; 0: the first that there is, the empty one or a snapshot. */
  readonly from: number;
  /** The state after this entry fails. */
  readonly until?: number;
  /** What of the state the check is given. */
  readonly key?: Uint8Array;
  readonly prefix?: Uint8Array;
  /** Milliseconds that one check may take. */
  readonly checkTimeout: number;
  readonly output: 'table' | 'json';
}

/** Finds the first entry after which the check fails, by halving; it must pass before and fail after it. */
export async function bisect(dir: string, flags: BisectFlags, io: LogIo): Promise<number> {
  const folder = await LogFolder.open(dir);
  const { kind } = folder.identity;
  const filter = filterOf(kind, { ...flags, from: 1, until: Number.MAX_SAFE_INTEGER });
  const isWanted = (name: Uint8Array): boolean => filter.view({ ...nobody, name });
  let checks = 0;
  const passes = async (state: LogState): Promise<boolean> => {
    checks += 1;
    const passed = await check(flags, state.json(isWanted));
    io.say(`entry ${state.at.index}: the check ${passed ? 'passes' : 'fails'}`);
    return passed;
  };
  const committed = (await watermarkOf(folder))?.index ?? (await folder.lastIndex());
  const until = flags.until ?? committed;
  if (flags.from > until) throw badFlag('--from', `${flags.from} lies behind --until, ${until}`);
  const good = { state: await stateOf(folder, { keepsValues: true }) };
  // Without --from: the first state that there is.
  const from = flags.from === 0 ? good.state.at.index : flags.from;
  await fold(folder, good.state, { until: from }, io);
  if (good.state.at.index < from) throw missing(folder, good.state, from);
  if (!(await passes(good.state))) {
    const what = `the check fails at entry ${from} already`;
    throw nothingToFind(`${what}${flags.from === 0 ? '' : ': name an earlier --from'}`);
  }
  const bad = { state: good.state.copy() };
  await fold(folder, bad.state, { until }, io);
  if (bad.state.at.index < until) throw missing(folder, bad.state, until);
  if (await passes(bad.state)) {
    throw nothingToFind(`the check passes at entry ${until} too: there is nothing to find`);
  }
  let last: { readonly entry: Envelope; readonly change: StateChange } | undefined;
  while (bad.state.at.index - good.state.at.index > 1) {
    const middle = Math.floor((good.state.at.index + bad.state.at.index) / 2);
    const state = good.state.copy();
    await fold(folder, state, { until: middle }, io);
    if (await passes(state)) good.state = state;
    else bad.state = state;
  }
  const { index } = bad.state.at;
  await fold(folder, good.state, { until: index }, io, (entry, change) => {
    last = { entry, change };
  });
  await folder.close();
  if (last === undefined) throw missing(folder, good.state, index);
  const view = viewOf(kind, last.entry);
  const { before, after } = last.change;
  if (flags.output === 'json') {
    const parts = { before: before.json, after: after.json, checks };
    await io.out.line(JSON.stringify({ ...entryObject(kind, view), ...parts }));
    return exitCodes.ok;
  }
  await io.out.line(`the first entry after which the check fails, found with ${checks} checks:`);
  await io.out.line(entryHeader(kind));
  await io.out.line(entryRow(kind, view));
  await io.out.line(`before  ${before.text || 'nothing'}`);
  await io.out.line(`after   ${after.text || 'nothing'}`);
  return exitCodes.ok;
}

/** A condition that isn't met: exit code 3. */
function nothingToFind(message: string): KeychainError {
  return new KeychainError('CONDITION_FAILED', message);
}

/** By the rules of shells: 126 and 127 say that the command could not be run. */
const couldNotRun: readonly number[] = [126, 127];

async function check(
  { check: command, checkTimeout }: BisectFlags,
  state: Iterable<string>,
): Promise<boolean> {
  const child = spawn('/bin/sh', ['-c', command], {
    stdio: ['pipe', 'ignore', 'inherit'],
    timeout: checkTimeout,
    killSignal: 'SIGKILL',
  });
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  // A check that knows enough may end before it has read everything.
  child.stdin.on('error', () => undefined);
  for (const chunk of chunked(state)) {
    if (child.stdin.destroyed) break;
    if (child.stdin.write(chunk)) continue;
    await Promise.race([new Promise((resolve) => child.stdin.once('drain', resolve)), ended]);
  }
  child.stdin.end();
  const [code, signal] = await ended;
  if (code === 0) return true;
  if (code !== null && !couldNotRun.includes(code)) return false;
  const why =
    signal === null
      ? `it ended with ${code}: there is no such command, or it may not be run`
      : `it was ended by ${signal}; it may take ${checkTimeout} ms (--check-timeout)`;
  throw new KeychainError('BAD_REQUEST', `--check: ${command}: ${why}`, { field: '--check' });
}

/** Characters of one write to a check. */
const chunkMax = 64 << 10;

function* chunked(pieces: Iterable<string>): Iterable<string> {
  let chunk = '';
  for (const piece of pieces) {
    chunk += piece;
    if (chunk.length < chunkMax) continue;
    yield chunk;
    chunk = '';
  }
  yield chunk;
}

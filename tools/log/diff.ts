import { equalBytes, toMapKey } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { decodeObject } from '../../src/chain/objects.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import type { Envelope } from '../../src/gen/keychaindb/v1/log.js';
import type { FolderKind } from '../../src/log/data-folder.js';
import { objectPrefix } from '../../src/log/keys.js';
import { entryHeader, entryObject, entryRow, requestText, viewOf } from './entry.js';
import { describeDamage, type LogDamage, LogFolder } from './folder.js';
import { counted, type Progress, some } from './progress.js';
import { watermarkOf } from './replay.js';
import { shown } from './text.js';
import type { LogIo } from './verb.js';

export interface DiffFlags {
  readonly output: 'table' | 'json';
}

/** Keys whose state differs that are named. */
const keysMax = 100;

/** Where two logs of one cluster part, and where the states do; 6 where they must not. */
export async function diff(
  dirs: readonly [string, string],
  flags: DiffFlags,
  io: LogIo,
): Promise<number> {
  const a = await LogFolder.open(dirs[0]);
  const b = await LogFolder.open(dirs[1]);
  refuseUnlike(a, b);
  const { kind } = a.identity;
  const ends = [await a.lastIndex(), await b.lastIndex()] as const;
  const logs = await compareLogs(a, b, io.progress(Math.min(...ends)));
  const committed = await commonWatermark(a, b);
  const { first } = logs;
  // What isn't committed at both may differ for a while: one of them is cut when they meet again.
  const isFault = first !== undefined && (committed === undefined || first.index <= committed);
  const states =
    kind === 'node' && !isFault ? await compareStates(a, b, committed ?? 0) : undefined;
  const report = { a, b, kind, ends, logs, committed, isFault, states };
  if (flags.output === 'json') await io.out.line(JSON.stringify(reportObject(report)));
  else for (const line of reportLines(report)) await io.out.line(line);
  const isSame = !isFault && (states?.differences.length ?? 0) === 0;
  return isSame ? exitCodes.ok : exitCodes.unhealthy;
}

function refuseUnlike(a: LogFolder, b: LogFolder): void {
  const refuse = (why: string): never => {
    throw new KeychainError('BAD_REQUEST', `${a.dir} and ${b.dir} can't be compared: ${why}`);
  };
  if (a.identity.kind !== b.identity.kind) {
    refuse(`${a.name} is a ${a.identity.kind}, ${b.name} a ${b.identity.kind}`);
  }
  if (a.clusterId !== b.clusterId) {
    refuse(`${a.name} is of cluster ${a.clusterId}, ${b.name} of ${b.clusterId}`);
  }
}

type Side = Envelope | LogDamage;

/** The first place where two logs say different things. */
interface Difference {
  readonly index: number;
  /** Undefined where nothing is damaged and the fields say it all. */
  readonly sides: readonly [Side, Side];
  readonly fields: readonly string[];
}

interface LogsCompared {
  /** Everything through here is the same. */
  readonly equalThrough: number;
  readonly first: Difference | undefined;
}

async function compareLogs(a: LogFolder, b: LogFolder, progress: Progress): Promise<LogsCompared> {
  // What one of them has dropped can't be compared.
  const start = Math.max(a.start.index, b.start.index);
  const left = entriesOf(a, start)[Symbol.asyncIterator]();
  const right = entriesOf(b, start)[Symbol.asyncIterator]();
  let equalThrough = start;
  try {
    for (;;) {
      const [one, other] = [await left.next(), await right.next()];
      // One that ends before the other has no other content.
      if (one.done === true || other.done === true) return { equalThrough, first: undefined };
      const fields = fieldsThatDiffer(one.value, other.value);
      if (fields.length > 0) {
        const index = equalThrough + 1;
        return { equalThrough, first: { index, sides: [one.value, other.value], fields } };
      }
      equalThrough += 1;
      progress.at(equalThrough);
    }
  } finally {
    await left.return?.();
    await right.return?.();
  }
}

async function* entriesOf(folder: LogFolder, after: number): AsyncIterable<Side> {
  for await (const found of folder.found(after + 1)) {
    if (found.type === 'block') yield* found.block.entries.filter(({ index }) => index > after);
    else yield found.damage;
  }
  return undefined;
}

function isDamage(side: Side): side is LogDamage {
  return 'record' in side;
}

function fieldsThatDiffer(a: Side, b: Side): readonly string[] {
  if (isDamage(a) || isDamage(b)) return ['damage'];
  const fields: string[] = [];
  if (a.index !== b.index) fields.push('index');
  if (a.generation !== b.generation) fields.push('generation');
  if (a.at !== b.at) fields.push('time');
  if (requestText(a.request) !== requestText(b.request)) fields.push('request');
  if (a.request?.answeredBelow !== b.request?.answeredBelow) fields.push('answeredBelow');
  if (!equalBytes(a.trace, b.trace)) fields.push('trace');
  if (!equalBytes(a.payload, b.payload)) fields.push('payload');
  return fields;
}

/** What both have committed, as far as their folders know; undefined for coordinators. */
async function commonWatermark(a: LogFolder, b: LogFolder): Promise<number | undefined> {
  const marks = await Promise.all([watermarkOf(a), watermarkOf(b)]);
  const [one, other] = marks;
  if (one === undefined || other === undefined) return undefined;
  return Math.min(one.index, other.index);
}

interface StateDifference {
  readonly key: Uint8Array;
  /** For a person: what stands there in the one, and in the other. */
  readonly sides: readonly [string, string];
}

interface StatesCompared {
  /** Keys that were compared, as they were at the common watermark. */
  readonly keys: number;
  /** Keys that one of them has written since. */
  readonly newer: number;
  readonly differences: readonly StateDifference[];
}

type Stored = readonly [key: Uint8Array, value: Uint8Array];

/** Compares what the stores hold; a key that was written after the common watermark can't be compared. */
async function compareStates(
  a: LogFolder,
  b: LogFolder,
  committed: number,
): Promise<StatesCompared> {
  const newer = await writtenAfter([a, b], committed);
  const differences: StateDifference[] = [];
  let keys = 0;
  for await (const [key, one, other] of merged(a, b)) {
    if (newer.has(toMapKey(key))) continue;
    keys += 1;
    if (one !== undefined && other !== undefined && equalBytes(one, other)) continue;
    if (differences.length < keysMax) {
      differences.push({ key, sides: [objectText(one), objectText(other)] });
    }
  }
  return { keys, newer: newer.size, differences };
}

async function writtenAfter(
  folders: readonly LogFolder[],
  committed: number,
): Promise<ReadonlySet<string>> {
  const keys = new Set<string>();
  for (const folder of folders) {
    const until = (await watermarkOf(folder))?.index ?? 0;
    for await (const { entries } of folder.blocks(committed + 1)) {
      for (const entry of entries) {
        if (entry.index <= committed || entry.index > until) continue;
        const { name } = viewOf('node', entry);
        if (name !== undefined) keys.add(toMapKey(name));
      }
    }
  }
  return keys;
}

/** Both stores' objects by key, in order. */
async function* merged(
  a: LogFolder,
  b: LogFolder,
): AsyncGenerator<readonly [Uint8Array, Uint8Array | undefined, Uint8Array | undefined]> {
  const left = a.scan(objectPrefix)[Symbol.asyncIterator]();
  const right = b.scan(objectPrefix)[Symbol.asyncIterator]();
  let one: IteratorResult<Stored> = await left.next();
  let other: IteratorResult<Stored> = await right.next();
  while (one.done !== true || other.done !== true) {
    const order = compared(one, other);
    const key = (order <= 0 ? one.value : other.value)[0] as Uint8Array;
    const name = key.subarray(objectPrefix.byteLength);
    yield [name, order <= 0 ? one.value[1] : undefined, order >= 0 ? other.value[1] : undefined];
    if (order <= 0) one = await left.next();
    if (order >= 0) other = await right.next();
  }
}

function compared(one: IteratorResult<Stored>, other: IteratorResult<Stored>): number {
  if (one.done === true) return 1;
  if (other.done === true) return -1;
  return Buffer.compare(one.value[0], other.value[0]);
}

function objectText(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return 'nothing';
  const { value, modRevision, version } = decodeObject(bytes);
  return `${shown(value, 40)} (revision ${modRevision}, version ${version})`;
}

interface Report {
  readonly a: LogFolder;
  readonly b: LogFolder;
  readonly kind: FolderKind;
  readonly ends: readonly [number, number];
  readonly logs: LogsCompared;
  readonly committed: number | undefined;
  readonly isFault: boolean;
  readonly states: StatesCompared | undefined;
}

function reportObject(report: Report): object {
  const { a, b, kind, ends, logs, committed, isFault, states } = report;
  const { first, equalThrough } = logs;
  const sideObject = (side: Side): object => (isDamage(side) ? side : safeObject(kind, side));
  return {
    folders: [a, b].map(({ name, dir, start }, i) => ({
      ...{ id: name, dir, start: start.index },
      last: ends[i],
    })),
    committed,
    equalThrough,
    first:
      first === undefined
        ? null
        : { index: first.index, fields: first.fields, sides: first.sides.map(sideObject), isFault },
    states:
      states === undefined
        ? null
        : {
            ...states,
            differences: states.differences.map(({ key, sides }) => ({
              key: shown(key, 80),
              sides,
            })),
          },
  };
}

function safeObject(kind: FolderKind, entry: Envelope): object {
  try {
    return entryObject(kind, viewOf(kind, entry));
  } catch {
    return { index: entry.index, generation: entry.generation, payload: shown(entry.payload, 80) };
  }
}

function reportLines(report: Report): readonly string[] {
  const { a, b, kind, ends, logs, committed, isFault, states } = report;
  const { first, equalThrough } = logs;
  const start = Math.max(a.start.index, b.start.index);
  const from = start === 0 ? '' : `from entry ${start + 1} `;
  const lines = [`the logs are the same ${from}through entry ${equalThrough}`];
  if (first === undefined) {
    const [longer, more] = ends[0] >= ends[1] ? [a, ends[0] - ends[1]] : [b, ends[1] - ends[0]];
    if (more > 0) lines.push(`${longer.name} goes on alone with ${counted(more)} more`);
  } else {
    lines.push(`they part at entry ${first.index}, in ${first.fields.join(', ')}:`);
    lines.push(`${''.padEnd(nameColumns)}  ${entryHeader(kind)}`);
    first.sides.forEach((side, i) => {
      const name = [a, b][i]?.name ?? '';
      lines.push(`${name.padEnd(nameColumns)}  ${sideText(kind, side)}`);
    });
    if (!isFault)
      lines.push(
        `both have committed through ${committed ?? 0}: what is above it may differ for a while`,
      );
    else if (kind === 'coordinator') {
      lines.push('entries that no majority has may differ for a while: the leader’s log stands');
    }
  }
  if (states === undefined) return lines;
  const { keys, newer, differences } = states;
  lines.push(
    differences.length === 0
      ? `the states are the same: ${some(keys, 'key')}${newer > 0 ? `, ${newer} written since by one of them left out` : ''}`
      : `the states differ in ${differences.length}${differences.length < keysMax ? '' : ' or more'} of ${some(keys, 'key')}:`,
  );
  for (const { key, sides } of differences) {
    lines.push(`  ${shown(key, 60)}: ${a.name} has ${sides[0]}, ${b.name} ${sides[1]}`);
  }
  return lines;
}

const nameColumns = 14;

function sideText(kind: FolderKind, side: Side): string {
  if (isDamage(side)) return describeDamage(side);
  try {
    return entryRow(kind, viewOf(kind, side));
  } catch (error) {
    return KeychainError.from(error).message;
  }
}

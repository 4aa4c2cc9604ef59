import { AssertionError } from '../../src/base/assert.js';
import { KeychainError } from '../../src/base/errors.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import { emptyRegistry } from '../../src/coordinator/registry.js';
import { registryHash, replayEntry } from '../../src/coordinator/replay.js';
import { decodeRegistry } from '../../src/coordinator/snapshot.js';
import type { EntryId, Envelope, RaftSnapshot } from '../../src/gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from '../../src/log/event-log.js';
import {
  blockKey,
  hopPrefix,
  markerPrefix,
  metaPrefix,
  sessionPrefix,
} from '../../src/log/keys.js';
import { behindOf, checkMarkers, damageOf } from '../../src/log/open-log.js';
import { nameOf, unseal } from '../../src/log/record.js';
import { readSnapshot, readVote } from '../../src/raft/durable-record.js';
import { snapshotId } from '../../src/raft/state.js';
import {
  type Check,
  Contradiction,
  checks,
  Findings,
  faultsMax,
  type LogCheck,
} from './findings.js';
import { describeDamage, LogFolder } from './folder.js';
import { NodeCheck } from './node-check.js';
import { counted } from './progress.js';
import type { LogIo } from './verb.js';

export interface VerifyFlags {
  /** Show every fault, not only the first. */
  readonly skipDamaged: boolean;
  readonly output: 'table' | 'json';
}

/** Walks over everything that a folder holds and checks it against itself; 6 where it finds a fault. */
export async function verify(dir: string, flags: VerifyFlags, io: LogIo): Promise<number> {
  const folder = await LogFolder.open(dir);
  return verifyFolder(folder, flags, io);
}

export async function verifyFolder(
  folder: LogFolder,
  flags: VerifyFlags,
  io: LogIo,
): Promise<number> {
  const found = new Findings();
  const replay =
    folder.identity.kind === 'node'
      ? new NodeCheck(folder)
      : new CoordinatorCheck(await snapshotOf(folder, found), folder.start);
  await checkRecords(folder, found);
  const walked = await walk(folder, replay, found, io);
  await checkEnd(folder, walked.last, found);
  const hash = found.isWhole && found.isComparable ? await replay.end(folder, found) : '';
  const report = { folder, walked, hash, replay, found, flags };
  if (flags.output === 'json') await io.out.line(reportJson(report));
  else for (const line of reportLines(report)) await io.out.line(line);
  return found.count === 0 ? exitCodes.ok : exitCodes.unhealthy;
}

interface Walked {
  readonly last: EntryId;
  readonly blocks: number;
  readonly entries: number;
  readonly generations: readonly number[];
  /** Readable entries after the first entry that can't be right. */
  readonly after: number;
}

async function walk(
  folder: LogFolder,
  check: LogCheck,
  found: Findings,
  io: LogIo,
): Promise<Walked> {
  const progress = io.progress(await folder.lastIndex());
  const generations: number[] = [];
  let [last, blocks, entries, at, after] = [folder.start, 0, 0, 0, 0];
  if (found.isComparable) await check.reached(folder, folder.start, found);
  for await (const item of folder.found()) {
    if (item.type === 'damage') {
      const { damage } = item;
      found.add(damage.kind === 'gap' ? 'order' : 'records', damage.first, describeDamage(damage));
      found.isWhole = false;
      continue;
    }
    const { block } = item;
    blocks += 1;
    last = block.end;
    for (const entry of block.entries) {
      entries += 1;
      if (generations.at(-1) !== entry.generation) generations.push(entry.generation);
      if (entry.index > (found.firstEntry ?? entry.index)) after += 1;
      if (entry.at < at) {
        found.add('invariants', entry.index, `entry ${entry.index}: time goes back`);
      }
      at = Math.max(at, entry.at);
      if (found.isWhole) takeEntry(check, block, entry, found);
    }
    if (found.isWhole && found.isComparable) await check.reached(folder, block.end, found);
    progress.at(block.end.index);
  }
  progress.end(entries);
  return { last, blocks, entries, generations, after };
}

function takeEntry(check: LogCheck, block: LogBlock, entry: Envelope, found: Findings): void {
  try {
    check.take(block, entry);
  } catch (error) {
    const isKnown = error instanceof AssertionError || error instanceof Contradiction;
    const what = isKnown ? error.message : `its payload can't be decoded: ${String(error)}`;
    const record = `record ${nameOf(blockKey(block.end.index))}`;
    const which = `entry ${entry.index} of generation ${entry.generation}`;
    found.add('invariants', entry.index, `${record}, ${which}: ${what}`);
    // A contradiction is noted and the fold goes on; after the others there is no state to go on from.
    if (!(error instanceof Contradiction)) found.isWhole = false;
  }
}

/** The checksums of everything that isn't a block; blocks were checked on the way. */
async function checkRecords(folder: LogFolder, found: Findings): Promise<void> {
  for (const [from, through] of [
    [markerPrefix, hopPrefix],
    [metaPrefix, sessionPrefix],
  ] as const) {
    for await (const [key, sealed] of folder.sealed(from, through)) {
      try {
        unseal(key, sealed);
      } catch (error) {
        found.add('records', undefined, damageOf(error).message);
        // A state can't be compared with objects, sessions or a watermark that can't be read.
        if (key[0] !== hopPrefix[0] && key[0] !== markerPrefix[0]) found.isComparable = false;
      }
    }
  }
}

/** Is everything there that was synced? */
async function checkEnd(folder: LogFolder, last: EntryId, found: Findings): Promise<void> {
  try {
    const markers = await checkMarkers(folder.engine);
    const behind = folder.highWater && behindOf(last, markers, folder.highWater);
    if (behind !== undefined) found.add('high-water', last.index + 1, behind.message);
  } catch (error) {
    const damage = damageOf(error);
    // A damaged marker has been named among the records.
    if (damage.kind === 'gap') found.add('order', undefined, damage.message);
  }
}

/** The snapshot that stands for what a coordinator's log has dropped, or will. */
async function snapshotOf(folder: LogFolder, found: Findings): Promise<RaftSnapshot | undefined> {
  try {
    const snapshot = await readSnapshot((key) => folder.get(key));
    if (folder.start.index > snapshotId(snapshot).index) {
      const what = `the log begins after entry ${folder.start.index}, and no snapshot stands for what was before it`;
      found.add('state', folder.start.index, what);
    }
    return snapshot;
  } catch (error) {
    found.add('records', undefined, KeychainError.from(error).message);
    return undefined;
  }
}

/** A coordinator: terms, the vote, views that follow from each other, and a snapshot that is what its log folds to. */
class CoordinatorCheck implements LogCheck {
  #state = emptyRegistry;
  #last = origin;
  readonly #snapshot: RaftSnapshot | undefined;
  what = '';

  /** What was dropped is known by the snapshot alone, from its end on. */
  #isKnown: boolean;

  constructor(snapshot: RaftSnapshot | undefined, start: EntryId) {
    this.#snapshot = snapshot;
    this.#last = start;
    const at = snapshotId(snapshot);
    this.#isKnown = start.index === at.index || start.index === 0;
    if (start.index === at.index && snapshot !== undefined) {
      this.#state = decodeRegistry(snapshot.state);
    }
  }

  take(_block: LogBlock, entry: Envelope): void {
    this.#last = entry;
    if (this.#isKnown) this.#state = replayEntry(this.#state, entry)?.state ?? this.#state;
    if (this.#snapshot === undefined || entry.index !== snapshotId(this.#snapshot).index) return;
    const stored = decodeRegistry(this.#snapshot.state);
    if (this.#isKnown && registryHash(this.#state) !== registryHash(stored)) {
      throw new Contradiction('the snapshot that ends here is not what the log folds to');
    }
    this.#state = stored;
    this.#isKnown = true;
  }

  reached(): Promise<void> {
    return Promise.resolve();
  }

  async end(folder: LogFolder, found: Findings): Promise<string> {
    const { term } = await readVote((key) => folder.get(key));
    const { index, generation } = this.#last;
    if (term < generation) {
      const what = `the newest entry is of term ${generation}; the stored term is ${term}`;
      found.add('state', index, what);
    }
    const { epoch, members } = this.#state.view;
    this.what = `term ${term}, view ${epoch} of ${members.length} members`;
    return registryHash(this.#state);
  }
}

interface Report {
  readonly folder: LogFolder;
  readonly walked: Walked;
  readonly hash: string;
  readonly replay: LogCheck;
  readonly found: Findings;
  readonly flags: VerifyFlags;
}

function reportJson({ folder, walked, hash, found }: Report): string {
  const { clusterId } = folder;
  const { kind, id, format } = folder.identity;
  const { blocks, entries, last, generations } = walked;
  const { index, generation } = last;
  const faults = found.faults.map(({ check, index: at, message }) => ({
    check,
    index: at,
    message,
  }));
  return JSON.stringify({
    ...{ kind, id, clusterId, format, blocks, entries, generations },
    ...{
      start: folder.start.index,
      last: { index, generation },
      hash,
      faultCount: found.count,
      faults,
    },
  });
}

/** Columns. */
const nameColumns = 12;

function reportLines({ folder, walked, hash, replay, found, flags }: Report): readonly string[] {
  const { clusterId } = folder;
  const { kind, id, format } = folder.identity;
  const { blocks, entries, last, generations } = walked;
  const line = (name: string, text: string): string => `${name.padEnd(nameColumns)}  ${text}`;
  const [first] = found.faults;
  const range = rangeText(kind === 'node' ? 'epoch' : 'term', generations);
  const said: Readonly<Partial<Record<Check, string>>> = {
    records: `${counted(blocks)} blocks`,
    'high-water': folder.highWater === undefined ? 'there is none: it proves nothing' : '',
    state: replay.what,
  };
  const of = (check: Check): string => {
    const faults = found.faults.filter((fault) => fault.check === check);
    if (faults.length > 0)
      return `FAULT, ${counted(faults.length)}${found.count > faultsMax ? ' or more' : ''}`;
    if (check === 'state' && hash === '') {
      return `not compared: ${replay.what || 'not all of it can be read'}`;
    }
    return ['ok', said[check] ?? ''].filter((text) => text !== '').join(', ');
  };
  return [
    line(kind, `${id} of cluster ${clusterId || '(none yet)'}, format ${format}`),
    line('log', `${counted(entries)} entries ${fromText(folder)}through ${last.index}${range}`),
    ...checks.map((check) => line(check, of(check))),
    ...(hash === '' ? [] : [line('hash', hash)]),
    ...(first === undefined ? [] : ['', `first fault: ${first.message}`]),
    ...(first?.index === undefined ? [] : [followLine(first.index, found, walked)]),
    ...(flags.skipDamaged ? found.faults.slice(1).map(({ message }) => `then: ${message}`) : []),
    ...(!flags.skipDamaged && found.count > 1
      ? [`${counted(found.count - 1)} more: --skip-damaged shows them`]
      : []),
  ];
}

/** Where the log has lost its beginning. */
function fromText({ start }: LogFolder): string {
  return start.index === 0 ? '' : `from ${start.index + 1} `;
}

function rangeText(name: string, generations: readonly number[]): string {
  const [first] = generations;
  if (first === undefined) return '';
  const last = generations.at(-1);
  return first === last ? `, ${name} ${first}` : `, ${name}s ${first} to ${last}`;
}

function followLine(index: number, found: Findings, { after, last }: Walked): string {
  const entries = index === found.firstEntry ? after : Math.max(0, last.index - index);
  if (entries === 0) return 'after it nothing follows';
  return `after it ${counted(entries)} entries can be read, through ${last.index}`;
}

import { AssertionError } from '../../src/base/assert.js';
import { fromMapKey, toHex, toMapKey } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { emptyLedger } from '../../src/chain/fold.js';
import { rememberSession } from '../../src/chain/node-store.js';
import { decodeObject } from '../../src/chain/objects.js';
import { entryBlock, Replay, type ReplayedObject } from '../../src/chain/replay.js';
import type { Ledger, Session } from '../../src/chain/state.js';
import { objectDigest } from '../../src/chain/state-hash.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import { emptyRegistry } from '../../src/coordinator/registry.js';
import { registryHash, replayEntry } from '../../src/coordinator/replay.js';
import { decodeRegistry } from '../../src/coordinator/snapshot.js';
import {
  ChainRecord,
  type EntryId,
  type Envelope,
  type RaftSnapshot,
} from '../../src/gen/keychaindb/v1/log.js';
import { type LogBlock, origin, sameEntry } from '../../src/log/event-log.js';
import {
  blockKey,
  hopPrefix,
  markerPrefix,
  metaPrefix,
  objectPrefix,
  sessionPrefix,
} from '../../src/log/keys.js';
import { behindOf, checkMarkers, damageOf } from '../../src/log/open-log.js';
import { nameOf, unseal } from '../../src/log/record.js';
import { readSnapshot, readVote } from '../../src/raft/durable-record.js';
import { snapshotId } from '../../src/raft/state.js';
import { describeDamage, LogFolder } from './folder.js';
import { counted, some } from './progress.js';
import { watermarkOf } from './replay.js';
import { shown } from './text.js';
import type { LogIo } from './verb.js';

export interface VerifyFlags {
  /** Show every fault, not only the first. */
  readonly skipDamaged: boolean;
  readonly output: 'table' | 'json';
}

/** What was looked at; each is ok where no fault names it. */
const checks = ['records', 'order', 'high-water', 'invariants', 'state'] as const;
type Check = (typeof checks)[number];

interface Fault {
  readonly check: Check;
  /** The first entry that it concerns; undefined where it concerns none. */
  readonly index: number | undefined;
  readonly message: string;
}

/** Faults that are kept; more are counted. */
const faultsMax = 1_000;

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
      ? new NodeCheck()
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

class Findings {
  readonly faults: Fault[] = [];
  count = 0;
  /** Every entry of the log is known: a state can be folded. */
  isWhole = true;
  /** What stands beside the log can be read: that state can be compared with it. */
  isComparable = true;

  /** The first entry that can't be read, or can't be what was decided. */
  get firstEntry(): number | undefined {
    return this.faults.find(({ check }) => check !== 'state' && check !== 'high-water')?.index;
  }

  add(check: Check, index: number | undefined, message: string): void {
    this.count += 1;
    if (this.faults.length < faultsMax) this.faults.push({ check, index, message });
  }
}

interface Walked {
  readonly last: EntryId;
  readonly blocks: number;
  readonly entries: number;
  readonly generations: readonly number[];
  /** Readable entries after the first entry that can't be right. */
  readonly after: number;
}

/** What a kind of log promises over its whole length. */
interface LogCheck {
  /** Throws AssertionError, or a text, where an entry can't stand where it stands. */
  take(block: LogBlock, entry: Envelope): void;
  /** At the end of a block, before the next one. */
  reached(folder: LogFolder, end: EntryId, found: Findings): Promise<void>;
  /** The hash of the state. */
  end(folder: LogFolder, found: Findings): Promise<string>;
  readonly what: string;
}

/** Why an entry can't be what was decided. */
class Contradiction extends Error {}

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

/** A node: what was decided follows from what was there, and the store holds what the log folds to. */
class NodeCheck implements LogCheck {
  readonly #replay = new Replay();
  #watermark: EntryId | undefined;
  #hash = '';
  #isCompared = false;
  what = '';

  take(block: LogBlock, entry: Envelope): void {
    const { objects } = this.#replay;
    const { record } = ChainRecord.decode(entry.payload);
    const key =
      record?.$case === 'put' || record?.$case === 'delete' ? record.value.key : undefined;
    const before = key === undefined ? undefined : objects.get(toMapKey(key));
    const single = entryBlock(block, entry, this.#replay.ledger.last);
    this.#replay.stage(single);
    this.#replay.commit(single.end);
    const wrong = contradiction(before, entry, record);
    if (wrong !== undefined) throw new Contradiction(wrong);
  }

  async reached(folder: LogFolder, end: EntryId, found: Findings): Promise<void> {
    this.#watermark ??= (await watermarkOf(folder)) ?? origin;
    if (this.#isCompared || end.index < this.#watermark.index) return;
    this.#isCompared = true;
    if (!sameEntry(end, this.#watermark)) {
      const { index, generation } = this.#watermark;
      const what = `the watermark ${index} of epoch ${generation} is not the end of a block of this log`;
      found.add('state', index, what);
      return;
    }
    this.#hash = this.#replay.hash;
    const { objects, sessions } = await this.#compare(folder, found);
    this.what = `${some(objects, 'key')} and ${some(sessions, 'session')} at revision ${end.index} are those of the log`;
  }

  end(_folder: LogFolder, found: Findings): Promise<string> {
    if (!this.#isCompared) {
      const { index, generation } = this.#watermark ?? origin;
      const what = `entry ${index} of epoch ${generation} was committed here; the log ends before it`;
      found.add('state', index, what);
    }
    return Promise.resolve(this.#hash);
  }

  async #compare(
    folder: LogFolder,
    found: Findings,
  ): Promise<{ readonly objects: number; readonly sessions: number }> {
    const { objects, ledger } = this.#replay;
    const stored = emptyLedger();
    const missing = new Set(objects.keys());
    for await (const [key, sealed] of folder.sealed(objectPrefix, sessionPrefix)) {
      const value = unseal(key, sealed);
      if (key[0] === sessionPrefix[0]) {
        rememberSession(stored, key, value);
        continue;
      }
      const name = key.subarray(objectPrefix.byteLength);
      const object = decodeObject(value);
      const expected = objects.get(toMapKey(name));
      missing.delete(toMapKey(name));
      if (expected?.digest === objectDigest(name, object)) continue;
      const index = expected?.modRevision ?? object.modRevision;
      const stands = describe({ ...object, valueBytes: object.value.byteLength });
      const says = `the store has ${stands}, the log ${describe(expected)}`;
      found.add('state', index, `key ${shown(name, 80)}: ${says}; ${lookAt(index)}`);
    }
    for (const name of missing) {
      const expected = objects.get(name);
      const index = expected?.modRevision;
      const says = `the store has nothing, the log ${describe(expected)}`;
      found.add('state', index, `key ${shown(fromMapKey(name), 80)}: ${says}; ${lookAt(index)}`);
    }
    compareSessions(ledger, stored, found);
    return { objects: objects.size, sessions: ledger.sessions.size };
  }
}

function lookAt(index: number | undefined): string {
  return `entry ${index ?? 0} or the stored object was changed`;
}

function describe(object: Omit<ReplayedObject, 'digest' | 'value'> | undefined): string {
  if (object === undefined) return 'nothing';
  const { valueBytes, modRevision, createRevision, version } = object;
  return `${valueBytes} bytes of revision ${modRevision} (created at ${createRevision}, version ${version})`;
}

/** The head decides resulting values: they must follow from what stood there before (fold.ts, write.ts). */
function contradiction(
  before: ReplayedObject | undefined,
  entry: Envelope,
  record: ChainRecord['record'],
): string | undefined {
  if (record?.$case === 'put') {
    const { createRevision, version } = record.value;
    const created = before?.createRevision ?? entry.index;
    const next = (before?.version ?? 0) + 1;
    if (createRevision === created && version === next) return undefined;
    return `it is version ${version} of a key created at ${createRevision}; the log makes it version ${next}, created at ${created}`;
  }
  if (record?.$case === 'delete' && record.value.existed !== (before !== undefined)) {
    const was = before === undefined ? 'there was none' : 'there was one';
    return `it says that ${record.value.existed ? 'there was a key' : 'there was no key'}; by the log ${was}`;
  }
  return undefined;
}

/** Outcomes that a client can still ask for are those of the log (R12). */
function compareSessions(ledger: Ledger, stored: Ledger, found: Findings): void {
  for (const client of new Set([...ledger.sessions.keys(), ...stored.sessions.keys()])) {
    const expected = sessionText(ledger.sessions.get(client));
    const is = sessionText(stored.sessions.get(client));
    if (expected === is) continue;
    const id = toHex(fromMapKey(client));
    found.add(
      'state',
      undefined,
      `the session of client ${id}: the store has ${is}, the log ${expected}`,
    );
  }
}

/** As the state's hash takes it: what is below the window may be left over. */
function sessionText(session: Session | undefined): string {
  if (session === undefined || session.lastAt === 0) return 'none';
  const { answeredBelow, outcomes } = session;
  const kept = [...outcomes]
    .filter(([seq]) => seq >= answeredBelow)
    .sort(([a], [b]) => a - b)
    .map(
      ([seq, { revision, generation, existed }]) =>
        `${seq}=${generation}/${revision}${existed ? '!' : ''}`,
    );
  return `answered below ${answeredBelow}, outcomes ${kept.join(' ') || 'none'}`;
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
    ...{ last: { index, generation }, hash, faultCount: found.count, faults },
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
    if (check === 'state' && hash === '') return 'not compared: not all of it can be read';
    return ['ok', said[check] ?? ''].filter((text) => text !== '').join(', ');
  };
  return [
    line(kind, `${id} of cluster ${clusterId || '(none yet)'}, format ${format}`),
    line('log', `${counted(entries)} entries through ${last.index}${range}`),
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

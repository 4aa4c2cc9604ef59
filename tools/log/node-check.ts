import { fromMapKey, toHex, toMapKey } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { incompleteKey, readChunks, revisionOf } from '../../src/chain/base.js';
import { emptyLedger } from '../../src/chain/fold.js';
import { rememberSession } from '../../src/chain/node-store.js';
import { decodeObject } from '../../src/chain/objects.js';
import { entryBlock, Replay, type ReplayedObject } from '../../src/chain/replay.js';
import type { Ledger, Session } from '../../src/chain/state.js';
import { objectDigest } from '../../src/chain/state-hash.js';
import {
  ChainRecord,
  type EntryId,
  type Envelope,
  type SnapshotBase,
} from '../../src/gen/keychaindb/v1/log.js';
import { type LogBlock, origin, sameEntry } from '../../src/log/event-log.js';
import { objectPrefix, sessionPrefix } from '../../src/log/keys.js';
import { unseal } from '../../src/log/record.js';
import { Contradiction, type Findings, type LogCheck } from './findings.js';
import type { LogFolder } from './folder.js';
import { some } from './progress.js';
import { watermarkOf } from './replay.js';
import { shown } from './text.js';

/** A node: what was decided follows from what was there, and the store holds what the log folds to. */
export class NodeCheck implements LogCheck {
  readonly #replay = new Replay();
  #watermark: EntryId | undefined;
  #hash = '';
  #isCompared = false;
  readonly #base: SnapshotBase | undefined;
  /** What stands at the entry that was reached is known: from the first on, or from the base on. */
  #isKnown: boolean;
  what = '';

  constructor({ base, start }: Pick<LogFolder, 'base' | 'start'>) {
    this.#base = base;
    this.#isKnown = start.index === 0;
  }

  take(block: LogBlock, entry: Envelope): void {
    if (!this.#isKnown) return;
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
    if (this.#base !== undefined && sameEntry(end, revisionOf(this.#base))) {
      await this.#reachedBase(folder, this.#base, found);
    }
    if (!this.#isKnown) return;
    this.#watermark ??= (await watermarkOf(folder)) ?? origin;
    if (this.#isCompared || end.index < this.#watermark.index) return;
    this.#isCompared = true;
    if ((await folder.get(incompleteKey)) !== undefined) return;
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

  /** The base is what it was made as; where the log has lost its beginning the fold goes on from it. */
  async #reachedBase(folder: LogFolder, base: SnapshotBase, found: Findings): Promise<void> {
    const replay = this.#isKnown ? new Replay() : this.#replay;
    const { index } = revisionOf(base);
    try {
      await replay.begin(base, readChunks(folder, base));
    } catch (error) {
      found.add('state', index, KeychainError.from(error).message);
      found.isWhole = this.#isKnown;
      return;
    }
    if (this.#isKnown && base.stateHash !== this.#replay.hash) {
      found.add('state', index, `the base at revision ${index} is not what the log folds to`);
    }
    this.#isKnown = true;
  }

  async end(folder: LogFolder, found: Findings): Promise<string> {
    if ((await folder.get(incompleteKey)) !== undefined) {
      this.what = 'a part of a snapshot: the node empties this store when it starts';
      return '';
    }
    if (!this.#isKnown) {
      const { index } = folder.start;
      found.add('state', index, `the log begins after entry ${index}, and no base stands for it`);
      return '';
    }
    if (!this.#isCompared) {
      const { index, generation } = this.#watermark ?? origin;
      const what = `entry ${index} of epoch ${generation} was committed here; the log ends before it`;
      found.add('state', index, what);
    }
    return this.#hash;
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

import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { toHex } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { readBase } from '../../src/chain/base.js';
import { rememberSeen } from '../../src/chain/node-store.js';
import type { EntryId, SnapshotBase } from '../../src/gen/keychaindb/v1/log.js';
import { decodeBlock } from '../../src/log/block.js';
import { type Identity, readIdentity, refuseNewer } from '../../src/log/data-folder.js';
import type { StorageEngine } from '../../src/log/engine.js';
import { type LogBlock, origin } from '../../src/log/event-log.js';
import { HighWater, type SyncedThrough } from '../../src/log/high-water.js';
import { blockIndexOf, blockKey, blockPrefix, endOfPrefix } from '../../src/log/keys.js';
import { damageOf, gapBefore, readLogStart } from '../../src/log/open-log.js';
import { nameOf, unseal } from '../../src/log/record.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';

/** A record of the log that can't be what was written, or entries that are not there. */
export interface LogDamage {
  /** The record at which it shows: `l/<index of its last entry>`. */
  readonly record: string;
  readonly kind: 'checksum' | 'gap';
  /** The entries that can't be shown; `last` below `first` where none is missing. */
  readonly first: number;
  readonly last: number;
  readonly message: string;
}

/** What a reader meets, in log order. */
export type Found =
  | { readonly type: 'block'; readonly block: LogBlock }
  | { readonly type: 'damage'; readonly damage: LogDamage };

/** Times that a folder is opened again because its writer was at work. */
const triesMax = 20;

/**
 * The data folder of a node or a coordinator, as it was when it was opened; nothing in it is changed. Its
 * process may run: RocksDB opens a store read-only beside its writer.
 */
export class LogFolder {
  readonly dir: string;
  readonly identity: Identity;
  /** How far the store was synced, by the file beside it; read before the store, so never ahead of it. */
  readonly highWater: SyncedThrough | undefined;
  readonly engine: StorageEngine;
  #clusterId = '';
  #start = origin;
  #base: SnapshotBase | undefined;

  private constructor(
    dir: string,
    engine: StorageEngine,
    identity: Identity,
    highWater: SyncedThrough | undefined,
  ) {
    this.dir = dir;
    this.engine = engine;
    this.identity = identity;
    this.highWater = highWater;
  }

  /** Rejects with BAD_REQUEST where it isn't one of ours, or newer than this program; CORRUPT where it can't be opened. */
  static async open(dir: string): Promise<LogFolder> {
    await refuseForeign(dir);
    const { engine, highWater } = await openStill(dir);
    try {
      return await LogFolder.over(dir, engine, highWater);
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** On an engine that nobody writes to. */
  static async over(
    dir: string,
    engine: StorageEngine,
    highWater: SyncedThrough | undefined,
  ): Promise<LogFolder> {
    const identity = await readIdentity(engine);
    if (identity === undefined) {
      throw foreign(dir, 'its store holds no identity of a node or coordinator');
    }
    refuseNewer(identity, dir);
    const folder = new LogFolder(dir, engine, identity, highWater);
    folder.#start = await startOf(folder);
    folder.#base = await baseOf(folder);
    folder.#clusterId = identity.clusterId || (await clusterSeen(folder));
    return folder;
  }

  /** Hex; empty where the process has joined none, or what says it can't be read. */
  get clusterId(): string {
    return this.#clusterId;
  }

  /** The end of the newest block that was dropped, as a snapshot stands for it; `origin` where none was. */
  get start(): EntryId {
    return this.#start;
  }

  /** Of a node: the state that stands for what was dropped. */
  get base(): SnapshotBase | undefined {
    return this.#base;
  }

  /** What a person should know who looks for what is not there. */
  tellStart(say: (text: string) => void): void {
    if (this.#start.index === 0) return;
    say(
      `the log of ${this.name} begins after entry ${this.#start.index}: what was before it is in a snapshot`,
    );
  }

  /** `node-1`: whose log it is. */
  get name(): string {
    return this.identity.id;
  }

  /** A checked record; throws CORRUPT. */
  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    const sealed = await this.engine.get(key);
    return sealed === undefined ? undefined : unseal(key, sealed);
  }

  /** Records from one prefix through another, as they are stored. */
  sealed(
    prefix: Uint8Array,
    through = prefix,
  ): AsyncIterable<readonly [key: Uint8Array, sealed: Uint8Array]> {
    return this.engine.scan({ gte: prefix, lt: endOfPrefix(through) });
  }

  /** Checked records; throws CORRUPT at the first that is damaged. */
  async *scan(
    prefix: Uint8Array,
    through = prefix,
  ): AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]> {
    for await (const [key, sealed] of this.sealed(prefix, through))
      yield [key, unseal(key, sealed)];
  }

  /** Index of the newest entry; 0 where there never was one. */
  async lastIndex(): Promise<number> {
    for await (const [key] of this.engine.scan({ ...allBlocks, reverse: true, limit: 1 })) {
      return Math.max(this.#start.index, blockIndexOf(key));
    }
    return this.#start.index;
  }

  /** The block that holds an entry; undefined where the log ends before it, or begins behind it. Throws CORRUPT. */
  async blockOf(index: number): Promise<LogBlock | undefined> {
    if (index <= this.#start.index) return undefined;
    const range = { gte: blockKey(index), lt: endOfPrefix(blockPrefix), limit: 1 };
    for await (const [key, sealed] of this.engine.scan(range)) {
      const block = decodeBlock(unseal(key, sealed));
      return block.previous.index < index ? block : undefined;
    }
    return undefined;
  }

  /** The log from the block on that holds entry `from`; what is damaged is told where it stands. */
  async *found(from = 1): AsyncIterable<Found> {
    const begin = this.#start.index + 1;
    let last: EntryId | undefined = from <= begin ? this.#start : undefined;
    const range = { gte: blockKey(Math.max(begin, from)), lt: endOfPrefix(blockPrefix) };
    for await (const [key, sealed] of this.engine.scan(range)) {
      const block = decoded(key, sealed);
      if ('message' in block) {
        const index = blockIndexOf(key);
        const first = (last?.index ?? index - 1) + 1;
        const { message } = block;
        const damage = {
          record: nameOf(key),
          first,
          last: index,
          message,
          kind: 'checksum',
        } as const;
        yield { type: 'damage', damage };
        last = { generation: unknown, index };
        continue;
      }
      last ??= block.previous;
      // After a damaged record the next block says which generation ended there.
      if (last.generation === unknown) last = { ...last, generation: block.previous.generation };
      const message = gapBefore(block, key, last);
      if (message !== undefined) {
        const [first, end] = [last.index + 1, block.previous.index];
        const damage = { record: nameOf(key), first, last: end, message, kind: 'gap' } as const;
        yield { type: 'damage', damage };
      }
      last = block.end;
      yield { type: 'block', block };
    }
  }

  /** As `found`, but damage ends it with CORRUPT, or, with `skipped`, is told and passed over. */
  async *blocks(from = 1, skipped?: (damage: LogDamage) => void): AsyncIterable<LogBlock> {
    for await (const found of this.found(from)) {
      if (found.type === 'block') yield found.block;
      else if (skipped === undefined) throw await this.corrupt(found.damage);
      else skipped(found.damage);
    }
  }

  /** Says where a damage is, and what follows it. */
  async corrupt(damage: LogDamage): Promise<KeychainError> {
    const end = await this.lastIndex();
    const follows =
      end > damage.last ? `after it the log goes on through entry ${end}` : 'nothing follows it';
    return new KeychainError('CORRUPT', `${this.name}: ${describeDamage(damage)}; ${follows}`, {
      record: damage.record,
    });
  }

  close(): Promise<void> {
    return this.engine.close();
  }
}

const unknown = -1;
const allBlocks = { gte: blockPrefix, lt: endOfPrefix(blockPrefix) };

/** `record l/14, entries 12 to 14: its checksum …`. */
export function describeDamage({ record, first, last, message }: LogDamage): string {
  const which = first < last ? `entries ${first} to ${last}` : `entry ${last}`;
  const place = `record ${record}`;
  const what = message.startsWith(`${place}: `) ? message.slice(place.length + 2) : message;
  return first <= last ? `${place}, ${which}: ${what}` : `${place}: ${what}`;
}

function decoded(key: Uint8Array, sealed: Uint8Array): LogBlock | { readonly message: string } {
  try {
    return decodeBlock(unseal(key, sealed));
  } catch (error) {
    return { message: damageOf(error).message };
  }
}

/** A node knows its cluster by the view that it has seen. */
async function clusterSeen(folder: LogFolder): Promise<string> {
  if (folder.identity.kind !== 'node') return '';
  const seen = await rememberSeen(folder).catch(() => undefined);
  return seen === undefined ? '' : toHex(seen.clusterId);
}

async function refuseForeign(dir: string): Promise<void> {
  const entries = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    const why = error.code === 'ENOENT' ? 'there is no such folder' : error.message;
    throw foreign(dir, why);
  });
  const hasStore = await stat(join(dir, 'store', 'CURRENT')).catch(() => undefined);
  if (hasStore !== undefined) return;
  if (entries.includes('cluster.json')) {
    throw foreign(dir, `it is a demo's; the folders in it are, ${join(dir, 'node-1')} for one`);
  }
  throw foreign(dir, 'it has no store');
}

function foreign(dir: string, why: string): KeychainError {
  const message = `${dir} is not the data folder of a node or coordinator: ${why}`;
  return new KeychainError('BAD_REQUEST', message, { dir });
}

/**
 * A writer that merges tables or changes its write-ahead log while the store is opened would leave holes in
 * what is seen: what it says of its files must be the same before and after.
 */
async function openStill(
  dir: string,
): Promise<{ readonly engine: StorageEngine; readonly highWater: SyncedThrough | undefined }> {
  for (let tries = 1; ; tries += 1) {
    const before = await filesOf(dir);
    const highWater = await HighWater.read(await fileBeside(dir));
    const engine = await RocksEngine.open(dir, { readOnly: true }).catch((error: unknown) => {
      if (tries >= triesMax) throw error;
      return undefined;
    });
    const isStill = before === (await filesOf(dir));
    if (engine !== undefined && (isStill || tries >= triesMax)) return { engine, highWater };
    await engine?.close();
    // Where nothing moves a second look says the same.
    if (engine === undefined && isStill) tries = triesMax - 1;
  }
}

/** Changes with every change of the set of files: the manifest that RocksDB appends to, and its size. */
async function filesOf(dir: string): Promise<string> {
  try {
    const current = (await readFile(join(dir, 'store', 'CURRENT'), 'utf8')).trim();
    const { size } = await stat(join(dir, 'store', current));
    return `${current} ${size}`;
  } catch {
    return '';
  }
}

/** The high-water file as an engine would give it. */
async function fileBeside(dir: string): Promise<Pick<StorageEngine, 'readHighWater'>> {
  const bytes = await readFile(join(dir, 'high-water')).catch(() => undefined);
  return { readHighWater: () => Promise.resolve(bytes) };
}

/** One that can't be read is named by who checks all records. */
async function baseOf(folder: LogFolder): Promise<SnapshotBase | undefined> {
  if (folder.identity.kind !== 'node') return undefined;
  return readBase(folder).catch(() => undefined);
}

/** Where it can't be read, the gap before the first block tells of it. */
async function startOf({ engine }: LogFolder): Promise<EntryId> {
  return readLogStart((key) => engine.get(key)).catch(() => origin);
}

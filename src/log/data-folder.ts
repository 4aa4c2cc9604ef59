import { mkdir } from 'node:fs/promises';
import { noBytes, toHex } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { StorageEngine, WriteOp } from './engine.js';
import { metaKey } from './keys.js';
import { seal, unseal } from './record.js';

/** The newest that this program knows; an older program refuses a newer folder. */
export const formatVersion = 2;
/** Of a new folder. It is raised when something comes to stand in it that older programs would take for damage. */
const formatAtFirst = 1;
/** A node's log that begins later than 1, with a base. */
export const formatOfBases = 2;

export type FolderKind = 'coordinator' | 'node';

/** What the store says of itself. */
export interface Identity {
  readonly format: number;
  readonly kind: FolderKind;
  readonly id: string;
  /** Hex; empty until the process has joined a cluster. */
  readonly clusterId: string;
  /** Hex of 16 random bytes, made with the store. */
  readonly storeId: string;
  readonly incarnation: number;
}

const identityKey = metaKey('identity');

/** Whose store this is: refuses another kind's, id's, cluster's, or a newer format's. */
export class DataFolder {
  readonly engine: StorageEngine;
  readonly dir: string;
  readonly #random: Random;
  #identity: Identity;

  private constructor(engine: StorageEngine, dir: string, random: Random, identity: Identity) {
    this.engine = engine;
    this.dir = dir;
    this.#random = random;
    this.#identity = identity;
  }

  static async open(options: {
    readonly dir: string;
    readonly kind: FolderKind;
    readonly id: string;
    readonly random: Random;
    readonly openEngine: (dir: string) => Promise<StorageEngine>;
  }): Promise<DataFolder> {
    const { dir, kind, id, random } = options;
    const engine = await options.openEngine(dir);
    try {
      const stored = await readIdentity(engine);
      if (stored !== undefined) {
        refuseOthers(stored, dir, kind, id);
        return new DataFolder(engine, dir, random, stored);
      }
      const identity = newIdentity(kind, id, random);
      const folder = new DataFolder(engine, dir, random, identity);
      await folder.#write(identity);
      return folder;
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** Empty until the process has joined a cluster. */
  get clusterId(): Uint8Array {
    return new Uint8Array(Buffer.from(this.#identity.clusterId, 'hex'));
  }

  get storeId(): Uint8Array {
    return new Uint8Array(Buffer.from(this.#identity.storeId, 'hex'));
  }

  /**
   * One value per process start, rising in this store; on the disk before it is used.
   * @param above one that is known to have been used, by another store of the same id
   */
  async nextIncarnation(wallMs: number, above = 0): Promise<number> {
    const least = Math.max(this.#identity.incarnation, above) + 1;
    const incarnation = Math.max(least, Math.floor(wallMs));
    await this.#write({ ...this.#identity, incarnation });
    return incarnation;
  }

  /** Binds the store to a cluster, once; refuses another. */
  async bindCluster(clusterId: Uint8Array): Promise<void> {
    const hex = toHex(clusterId);
    if (this.#identity.clusterId === hex) return;
    if (this.#identity.clusterId !== '') {
      throw new KeychainError(
        'BAD_REQUEST',
        `the data folder ${this.dir} belongs to cluster ${this.#identity.clusterId}, not ${hex}: use another --data-dir, or the coordinators of that cluster`,
        { dir: this.dir },
      );
    }
    await this.#write({ ...this.#identity, clusterId: hex });
  }

  /**
   * What is written from here on is of this format: the record of it is on the disk with, or before, all that the
   * engine is given afterwards.
   */
  raiseFormat(format: number): Promise<void> {
    if (this.#identity.format >= format) return Promise.resolve();
    return this.#write({ ...this.#identity, format });
  }

  /**
   * Empties the store; it gets a new store id, since it is no copy of anything any more. The records
   * named in `keep` stay, and are there all the time. The new id comes first: what an end in the middle
   * leaves is not taken for the old copy.
   */
  async wipe(keep: readonly Uint8Array[] = []): Promise<void> {
    const storeId = toHex(this.#random.bytes(16));
    await this.#write({ ...this.#identity, storeId, clusterId: '' });
    await emptyEngine(this.engine, [identityKey, ...keep]);
  }

  async #write(identity: Identity): Promise<void> {
    const value = new TextEncoder().encode(JSON.stringify(identity));
    this.#identity = identity;
    await this.engine.write([{ type: 'put', key: identityKey, value: seal(identityKey, value) }], {
      sync: true,
    });
  }
}

/** Makes the folder where it isn't there. */
export async function makeFolder(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true });
  } catch (error) {
    throw new KeychainError(
      'BAD_REQUEST',
      `the data folder ${dir} can't be made: ${String(error)}`,
      { dir },
      error,
    );
  }
}

async function emptyEngine(engine: StorageEngine, keep: readonly Uint8Array[]): Promise<void> {
  const kept = new Set(keep.map(toHex));
  const everything = { gte: new Uint8Array([0]), lt: new Uint8Array([255]) };
  let dels: WriteOp[] = [];
  for await (const [key] of engine.scan(everything)) {
    if (kept.has(toHex(key))) continue;
    dels.push({ type: 'del', key });
    if (dels.length < 10_000) continue;
    await engine.write(dels, { sync: false });
    dels = [];
  }
  await engine.write(dels, { sync: true });
  await engine.writeHighWater(noBytes);
}

function newIdentity(kind: FolderKind, id: string, random: Random): Identity {
  const storeId = toHex(random.bytes(16));
  return { format: formatAtFirst, kind, id, clusterId: '', storeId, incarnation: 0 };
}

/** Undefined where there is none: the store is new, or none of ours. */
export async function readIdentity(engine: StorageEngine): Promise<Identity | undefined> {
  const sealed = await engine.get(identityKey);
  if (sealed === undefined) return undefined;
  return JSON.parse(new TextDecoder().decode(unseal(identityKey, sealed))) as Identity;
}

function refuseOthers(stored: Identity, dir: string, kind: FolderKind, id: string): void {
  const refuse = (found: string, expected: string): never => {
    throw new KeychainError(
      'BAD_REQUEST',
      `the data folder ${dir} ${found}; this is ${expected}: use another --data-dir`,
      { dir },
    );
  };
  refuseNewer(stored, dir);
  if (stored.kind !== kind) refuse(`was written by a ${stored.kind}`, `a ${kind}`);
  if (stored.id !== id) refuse(`was written by ${stored.kind} ${stored.id}`, `${kind} ${id}`);
}

/** A program reads its own format and older ones. */
export function refuseNewer({ format }: Identity, dir: string): void {
  if (format <= formatVersion) return;
  throw new KeychainError(
    'BAD_REQUEST',
    `the data folder ${dir} was written in format ${format}; this program knows formats through ${formatVersion}: use a newer one`,
    { dir },
  );
}

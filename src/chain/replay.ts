import { assert } from '../base/assert.js';
import { toMapKey } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import type { EntryId, Envelope, SnapshotBase, SnapshotChunk } from '../gen/keychaindb/v1/log.js';
import type { EventLog, LogBlock } from '../log/event-log.js';
import { objectPrefix } from '../log/keys.js';
import { readBase, readChunks, revisionOf } from './base.js';
import { commitThrough, emptyLedger, type StoreChanges, sortExpired, stageBlock } from './fold.js';
import type { KeyValue } from './messages.js';
import { rememberSession } from './node-store.js';
import { decodeObject } from './objects.js';
import type { StagedVersion } from './state.js';
import { type ObjectDigest, objectDigest, StateHash } from './state-hash.js';

/** An object of a replayed state. */
export interface ReplayedObject extends Omit<KeyValue, 'value'> {
  readonly valueBytes: number;
  readonly digest: ObjectDigest;
  /** A copy; undefined where values are not kept. */
  readonly value: Uint8Array | undefined;
}

/** What a commit did to one key. */
export interface ObjectChange {
  readonly key: Uint8Array;
  readonly before: ReplayedObject | undefined;
  readonly after: ReplayedObject | undefined;
}

/**
 * A node's state, folded from its log alone with the production `fold`. Without values it holds a few
 * hundred bytes a key, however large the log is.
 */
export class Replay {
  readonly ledger = emptyLedger();
  /** Committed objects by map key. */
  readonly objects = new Map<string, ReplayedObject>();
  readonly #hash = new StateHash();
  readonly #keepsValues: boolean;
  #changes: ObjectChange[] = [];
  readonly #store: StoreChanges = {
    object: (key, version) => this.#write(key, version),
    outcome: () => undefined,
    session: () => undefined,
  };

  constructor({ keepsValues = false }: { readonly keepsValues?: boolean } = {}) {
    this.#keepsValues = keepsValues;
  }

  stage(block: LogBlock): void {
    stageBlock(this.ledger, block);
    this.ledger.synced = this.ledger.last;
  }

  /** Commits what is staged through a block's end; what that changed, in order. */
  commit(through: EntryId): readonly ObjectChange[] {
    this.#changes = [];
    commitThrough(this.ledger, through, this.#store);
    return this.#changes;
  }

  /** The same state, to go on from apart; nothing may be staged. */
  copy(): Replay {
    assert(this.ledger.staged.length === 0, 'what is staged is not copied');
    const copy = new Replay({ keepsValues: this.#keepsValues });
    const { sessions, expired, spans, ...rest } = this.ledger;
    const own = { spans: [...spans], staged: [], dirty: new Map(), expiring: new Set() };
    Object.assign(copy.ledger, rest, own);
    for (const [client, session] of sessions) {
      const outcomes = new Map(session.outcomes);
      copy.ledger.sessions.set(client, { ...session, outcomes, staged: new Map() });
    }
    for (const [client, at] of expired) copy.ledger.expired.set(client, at);
    for (const [key, object] of this.objects) copy.objects.set(key, object);
    copy.#hash.addAll(this.#hash);
    return copy;
  }

  /** Begins with the state that stands for what the log has lost; before anything else. Throws KeychainError CORRUPT. */
  async begin(base: SnapshotBase, chunks: AsyncIterable<SnapshotChunk>): Promise<void> {
    const { ledger } = this;
    assert(ledger.last.index === 0, 'a base is where a replay begins');
    const at = revisionOf(base);
    for await (const { records } of chunks) {
      for (const { key, value } of records) {
        if (key[0] !== objectPrefix[0]) {
          rememberSession(ledger, key, value);
          continue;
        }
        const name = new Uint8Array(key.subarray(objectPrefix.byteLength));
        const found = decodeObject(value);
        this.#write(name, { ...found, revision: found.modRevision });
      }
    }
    sortExpired(ledger);
    Object.assign(ledger, { last: at, synced: at, watermark: at, spans: [...base.spans] });
    ledger.lastAt = Math.max(ledger.lastAt, base.time);
    this.#changes = [];
    if (this.hash === base.stateHash) return;
    throw new KeychainError(
      'CORRUPT',
      `the base at revision ${at.index} has hash ${this.hash}; it was made with ${base.stateHash}`,
    );
  }

  /** Of the state at the watermark. */
  get hash(): string {
    return this.#hash.with(this.ledger);
  }

  #write(key: Uint8Array, { revision, value, createRevision, version }: StagedVersion): void {
    const name = toMapKey(key);
    const before = this.objects.get(name);
    if (before !== undefined) this.#hash.remove(before.digest);
    if (value === undefined) {
      this.objects.delete(name);
      this.#changes.push({ key, before, after: undefined });
      return;
    }
    const digest = objectDigest(key, { value, createRevision, modRevision: revision, version });
    const after: ReplayedObject = {
      createRevision,
      modRevision: revision,
      version,
      valueBytes: value.byteLength,
      digest,
      // The value is a view: kept as it is, it would keep its whole block.
      value: this.#keepsValues ? new Uint8Array(value) : undefined,
    };
    this.#hash.add(digest);
    this.objects.set(name, after);
    this.#changes.push({ key, before, after });
  }
}

/** A block of one entry, so that a fold can stop at any of them. */
export function entryBlock(block: LogBlock, entry: Envelope, previous: EntryId): LogBlock {
  const end = { generation: entry.generation, index: entry.index };
  return { bytes: entry.payload, chainId: block.chainId, previous, end, entries: [entry] };
}

/** Folds all of the log that is kept, from the base on where it has lost its beginning, committing through `watermark`. */
export async function replay(log: EventLog, watermark: EntryId): Promise<Replay> {
  const replayed = new Replay({ keepsValues: true });
  const base = log.start.index === 0 ? undefined : await readBase(log);
  if (base !== undefined) await replayed.begin(base, readChunks(log, base));
  for await (const block of log.read(replayed.ledger.last)) {
    replayed.stage(block);
    if (block.end.index <= watermark.index) replayed.commit(block.end);
  }
  return replayed;
}

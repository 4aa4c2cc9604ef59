import { fromMapKey, toMapKey } from '../base/bytes.js';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import type { EventLog, LogBlock } from '../log/event-log.js';
import { origin, sameEntry } from '../log/event-log.js';
import {
  endOfPrefix,
  objectPrefix,
  parseOutcomeKey,
  sessionKey,
  sessionPrefix,
} from '../log/keys.js';
import type { RangeHash, StateRange } from './comparison.js';
import { commitThrough, emptyLedger, type StoreChanges, stageBlock } from './fold.js';
import { rememberSession, watermarkKey } from './node-store.js';
import { decodeObject } from './objects.js';
import type { Ledger } from './state.js';
import { type ObjectDigest, objectDigest, StateHash } from './state-hash.js';

/** The keys that hold a node's state: objects, then sessions. */
export const stateEnd = endOfPrefix(sessionPrefix);

type StoredRecord = readonly [key: Uint8Array, value: Uint8Array];

/**
 * A part of the state as it was read while commits went on: it contains all that was committed at `base`, nothing
 * that was committed after `range.through`, and of what is between them anything. To write what is between once more
 * changes nothing, since an entry names the resulting value: so the log brings it to any entry from `range.through` on.
 */
export class StateChunk {
  readonly range: StateRange;
  readonly #base: EntryId;
  readonly #objects: ReadonlyMap<string, ObjectDigest>;
  readonly #sessions: readonly StoredRecord[];

  private constructor(
    range: StateRange,
    base: EntryId,
    objects: ReadonlyMap<string, ObjectDigest>,
    sessions: readonly StoredRecord[],
  ) {
    this.range = range;
    this.#base = base;
    this.#objects = objects;
    this.#sessions = sessions;
  }

  /**
   * Throws KeychainError CORRUPT where a record is damaged.
   * @param watermark the newest entry that may have been committed in the store by now
   * @param limits where it ends, if it doesn't at `to`; not within a session
   */
  static async read(
    log: EventLog,
    from: Uint8Array,
    to: Uint8Array,
    limits: { readonly records: number; readonly bytes: number },
    watermark: () => EntryId,
  ): Promise<StateChunk> {
    const stored = await log.get(watermarkKey);
    const base = stored === undefined ? origin : EntryId.decode(stored);
    const objects = new Map<string, ObjectDigest>();
    const sessions: StoredRecord[] = [];
    let bytes = 0;
    let end: Uint8Array | undefined;
    let client = '';
    for await (const [key, value] of log.scan(from, sessionPrefix)) {
      if (Buffer.compare(key, to) >= 0) break;
      const isFull = objects.size + sessions.length >= limits.records || bytes >= limits.bytes;
      if (key[0] === objectPrefix[0]) {
        if (isFull) end = new Uint8Array(key);
        else {
          const name = key.subarray(objectPrefix.byteLength);
          objects.set(toMapKey(name), objectDigest(name, decodeObject(value)));
        }
      } else {
        const { clientId } = parseOutcomeKey(key);
        const owner = toMapKey(clientId);
        if (isFull && owner !== client) end = sessionKey(clientId);
        else sessions.push([key, value]);
        client = owner;
      }
      if (end !== undefined) break;
      bytes += key.byteLength + value.byteLength;
    }
    const range = {
      from,
      to: end ?? to,
      isLast: end === undefined && Buffer.compare(to, stateEnd) === 0,
      through: watermark(),
    };
    return new StateChunk(range, base, objects, sessions);
  }

  /**
   * The hash of the part, or of its beginning up to `to`, as it was after `at`: a block's end that is committed, at or
   * after `range.through`. Undefined where the log doesn't hold what it takes. Throws KeychainError CORRUPT where the
   * log is damaged.
   */
  async hashAt(
    log: EventLog,
    at: EntryId,
    to: Uint8Array = this.range.to,
  ): Promise<RangeHash | undefined> {
    const blocks = await blocksBetween(log, this.#base, at);
    if (blocks === undefined) return undefined;
    const covers = this.#covering(to);
    const objects = new Map<string, ObjectDigest>();
    for (const [name, digest] of this.#objects) {
      if (covers(objectPrefix, fromMapKey(name))) objects.set(name, digest);
    }
    const ledger = this.#ledgerAtBase(blocks);
    const store: StoreChanges = {
      object: (key, { value, revision, createRevision, version }) => {
        const name = toMapKey(key);
        if (!covers(objectPrefix, key)) return;
        if (value === undefined) objects.delete(name);
        else {
          const found = { value, createRevision, modRevision: revision, version };
          objects.set(name, objectDigest(key, found));
        }
      },
      outcome: () => undefined,
      session: () => undefined,
    };
    for (const block of blocks) stageBlock(ledger, block);
    if (blocks.length > 0) commitThrough(ledger, at, store);
    const sessions = new Map(
      [...ledger.sessions].filter(([client]) => covers(sessionPrefix, fromMapKey(client))),
    );
    const hash = new StateHash();
    for (const digest of objects.values()) hash.add(digest);
    return { at, to, hash: hash.with({ watermark: at, sessions }) };
  }

  /** The sessions as they were at the base, or later: without the outcomes that these blocks record. */
  #ledgerAtBase(blocks: readonly LogBlock[]): Ledger {
    const ledger = emptyLedger();
    for (const [key, value] of this.#sessions) rememberSession(ledger, key, value);
    for (const block of blocks) {
      for (const { request } of block.entries) {
        if (request === undefined) continue;
        ledger.sessions.get(toMapKey(request.clientId))?.outcomes.delete(request.seq);
      }
    }
    ledger.watermark = this.#base;
    ledger.last = this.#base;
    return ledger;
  }

  #covering(to: Uint8Array): (prefix: Uint8Array, name: Uint8Array) => boolean {
    const { from } = this.range;
    return (prefix, name) => {
      const key = Buffer.concat([prefix, name]);
      return Buffer.compare(key, from) >= 0 && Buffer.compare(key, to) < 0;
    };
  }
}

/** The durable blocks after one entry through another; undefined where they aren't all there. */
async function blocksBetween(
  log: EventLog,
  after: EntryId,
  through: EntryId,
): Promise<readonly LogBlock[] | undefined> {
  if (after.index > through.index) return undefined;
  const blocks: LogBlock[] = [];
  let last = after;
  if (last.index < through.index) {
    for await (const block of log.read(after)) {
      blocks.push(block);
      last = block.end;
      if (last.index >= through.index) break;
    }
  }
  return sameEntry(last, through) ? blocks : undefined;
}

import { fromMapKey } from '../base/bytes.js';
import { encoded } from '../base/message-writer.js';
import { EntryId, Outcome, SessionRecord } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import { outcomeKey, sessionKey } from '../log/keys.js';
import type { StoreChanges } from './fold.js';
import { storeDelayMs, unstoredBytesMax } from './limits.js';
import { watermarkKey } from './node-store.js';
import type { Objects } from './objects.js';
import type { StagedVersion } from './state.js';

/** What changed of a client's outcomes. */
interface OutcomeChanges {
  readonly recorded: Map<number, Outcome>;
  readonly forgotten: Set<number>;
}

/** Bytes that an entry keeps in memory besides its value, about. */
const overheadBytes = 256;

/**
 * What is committed and not yet in the store. Everything of it is in the log, in batches that are written before: it may wait. What is written again
 * meanwhile is stored once, and an outcome that is forgotten meanwhile, as most are, never. It is stored with the watermark
 * that it belongs to, in one batch: the store is always the state at its watermark, and a start takes what is above from
 * the log (R12).
 */
export class CommitChanges implements StoreChanges {
  readonly #objects: Objects;
  readonly #outcomes = new Map<string, OutcomeChanges>();
  readonly #sessions = new Map<string, SessionRecord | undefined>();
  #through: EntryId | undefined;
  /** Monotonic milliseconds of the oldest commit that waits. */
  #since = 0;
  /** Of all that was committed since the store was written. */
  #bytes = 0;

  constructor(objects: Objects) {
    this.#objects = objects;
  }

  object(key: Uint8Array, version: StagedVersion): void {
    const { value, revision: modRevision, createRevision, version: number } = version;
    const found =
      value === undefined ? undefined : { value, createRevision, modRevision, version: number };
    this.#objects.commit(key, found);
    this.#bytes += overheadBytes + key.byteLength + (value?.byteLength ?? 0);
  }

  outcome(clientId: string, seq: number, outcome: Outcome | undefined): void {
    let changes = this.#outcomes.get(clientId);
    if (changes === undefined) {
      changes = { recorded: new Map(), forgotten: new Set() };
      this.#outcomes.set(clientId, changes);
    }
    if (outcome !== undefined) changes.recorded.set(seq, outcome);
    else if (!changes.recorded.delete(seq)) changes.forgotten.add(seq);
  }

  session(clientId: string, record: SessionRecord | undefined): void {
    this.#sessions.set(clientId, record);
  }

  /** All that was told since the last call is committed: everything through this entry. */
  committed(through: EntryId, now: number): void {
    if (this.#through === undefined) this.#since = now;
    this.#through = through;
    if (this.#bytes >= unstoredBytesMax) this.store();
  }

  /** Stores what has waited long enough. */
  look(now: number): void {
    if (now - this.#since >= storeDelayMs) this.store();
  }

  /** Hands everything to the log, to be written with its next batch. */
  store(): void {
    if (this.#through === undefined) return;
    const watermark = encoded(EntryId, this.#through);
    // What is new stands together, and what goes, as both are in order of their keys: the engine is faster so.
    const outcomes: WriteOp[] = [];
    const forgotten: WriteOp[] = [];
    for (const [client, changes] of this.#outcomes) {
      const id = fromMapKey(client);
      for (const [seq, outcome] of changes.recorded) {
        // One that was forgotten and came again stays.
        changes.forgotten.delete(seq);
        const value = encoded(Outcome, outcome);
        outcomes.push({ type: 'put', key: outcomeKey(id, seq), value });
      }
      for (const seq of changes.forgotten) {
        forgotten.push({ type: 'del', key: outcomeKey(id, seq) });
      }
    }
    const sessions = Array.from(this.#sessions, ([client, record]): WriteOp => {
      const key = sessionKey(fromMapKey(client));
      if (record === undefined) return { type: 'del', key };
      return { type: 'put', key, value: encoded(SessionRecord, record) };
    });
    const mark: WriteOp = { type: 'put', key: watermarkKey, value: watermark };
    this.#objects.store([...outcomes, ...forgotten, ...sessions, mark]);
    this.#clear();
  }

  /** Stores everything; resolves when what is committed by now can be read in the store. */
  stored(): Promise<void> {
    this.store();
    return this.#objects.settled();
  }

  /** Another content comes in the place of the store's, or has come: nothing of the one before counts. */
  forgetAll(): void {
    this.#objects.forgetAll();
    this.#clear();
  }

  #clear(): void {
    this.#outcomes.clear();
    this.#sessions.clear();
    this.#through = undefined;
    this.#bytes = 0;
  }
}

import type { EntryId, SnapshotRecord } from '../gen/keychaindb/v1/log.js';
import { objectPrefix, sessionPrefix } from '../log/keys.js';
import { emptyLedger } from './fold.js';
import { rememberSession } from './node-store.js';
import { decodeObject } from './objects.js';
import { objectDigest, StateHash } from './state-hash.js';

/** Counts and hashes the records of a base as they are written, or arrive. */
export class BaseTally {
  readonly #hash = new StateHash();
  readonly #ledger = emptyLedger();
  objects = 0;

  /** False: no record that a base may have. */
  take({ key, value }: SnapshotRecord): boolean {
    if (key[0] === objectPrefix[0]) {
      this.#hash.add(objectDigest(key.subarray(objectPrefix.byteLength), decodeObject(value)));
      this.objects += 1;
      return true;
    }
    if (key[0] !== sessionPrefix[0]) return false;
    rememberSession(this.#ledger, key, value);
    return true;
  }

  get sessions(): number {
    return this.#ledger.sessions.size;
  }

  /** Of the whole state, at its revision. */
  hashAt(watermark: EntryId): string {
    return this.#hash.with({ watermark, sessions: this.#ledger.sessions });
  }
}

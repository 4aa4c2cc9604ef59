import { createHash } from 'node:crypto';
import { fromMapKey } from '../base/bytes.js';
import { EntryId } from '../gen/keychaindb/v1/log.js';
import { origin } from '../log/event-log.js';
import { objectPrefix, sessionPrefix } from '../log/keys.js';
import { emptyLedger } from './fold.js';
import type { KeyValue } from './messages.js';
import { rememberSession, watermarkKey } from './node-store.js';
import { decodeObject } from './objects.js';
import type { Ledger } from './state.js';

/** SHA-256 of one object: 32 characters, a byte each. */
export type ObjectDigest = string;

export function objectDigest(key: Uint8Array, found: KeyValue): ObjectDigest {
  const { createRevision, modRevision, version, value } = found;
  return createHash('sha256')
    .update(`o ${key.byteLength} ${value.byteLength} ${createRevision} ${modRevision} ${version} `)
    .update(key)
    .update(value)
    .digest('binary');
}

const lanes = 8;

/**
 * The hash of a node's replayable state: committed objects, watermark, the sessions' outcomes. Equal at two
 * nodes with the same watermark, and at the replay of their log. Objects are summed by their digests, so
 * that their order doesn't matter and a change costs one digest, not all (a multiset hash by addition:
 * Clarke et al. 2003, §5; it tells faults apart, it does not withstand an attacker).
 */
export class StateHash {
  readonly #sum = new Uint32Array(lanes);

  add(digest: ObjectDigest): void {
    for (let lane = 0; lane < lanes; lane += 1) {
      this.#sum[lane] = (this.#sum[lane] ?? 0) + wordOf(digest, lane);
    }
  }

  remove(digest: ObjectDigest): void {
    for (let lane = 0; lane < lanes; lane += 1) {
      this.#sum[lane] = (this.#sum[lane] ?? 0) - wordOf(digest, lane);
    }
  }

  /** All that was added to another one. */
  addAll(other: StateHash): void {
    this.#sum.forEach((word, lane) => {
      this.#sum[lane] = word + (other.#sum[lane] ?? 0);
    });
  }

  /** Hex, of the objects that were added and the ledger's watermark and sessions. */
  with({ watermark, sessions }: Pick<Ledger, 'watermark' | 'sessions'>): string {
    const hash = createHash('sha256');
    for (const word of this.#sum) hash.update(`${word} `);
    hash.update(`w ${watermark.generation} ${watermark.index} `);
    for (const client of [...sessions.keys()].sort()) {
      const session = sessions.get(client);
      if (session === undefined || session.lastAt === 0) continue;
      hash.update('s ').update(fromMapKey(client)).update(` ${session.answeredBelow} `);
      for (const seq of [...session.outcomes.keys()].sort((a, b) => a - b)) {
        const outcome = session.outcomes.get(seq);
        if (seq < session.answeredBelow || outcome === undefined) continue;
        hash.update(`${seq} ${outcome.generation} ${outcome.revision} ${outcome.existed} `);
      }
    }
    return hash.digest('hex');
  }
}

function wordOf(digest: ObjectDigest, lane: number): number {
  const at = lane * 4;
  return (
    digest.charCodeAt(at) |
    (digest.charCodeAt(at + 1) << 8) |
    (digest.charCodeAt(at + 2) << 16) |
    (digest.charCodeAt(at + 3) << 24)
  );
}

export interface StoredHash {
  readonly hash: string;
  /** The watermark that stands beside the objects: of this moment is the hash. */
  readonly watermark: EntryId;
}

/** @param records the store's, from the meta records through the sessions, of one moment */
export async function hashStored(
  records: AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]>,
): Promise<StoredHash> {
  const hash = new StateHash();
  const ledger = emptyLedger();
  const [object, session] = [objectPrefix[0], sessionPrefix[0]];
  let watermark = origin;
  for await (const [key, value] of records) {
    if (key[0] === object) {
      const name = key.subarray(objectPrefix.byteLength);
      hash.add(objectDigest(name, decodeObject(value)));
    } else if (key[0] === session) {
      rememberSession(ledger, key, value);
    } else if (Buffer.compare(key, watermarkKey) === 0) {
      watermark = EntryId.decode(value);
    }
  }
  return { hash: hash.with({ watermark, sessions: ledger.sessions }), watermark };
}

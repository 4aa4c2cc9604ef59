import { assert } from '../base/assert.js';
import { toMapKey } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { encoded } from '../base/message-writer.js';
import { StoredObject } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import type { EventLog } from '../log/event-log.js';
import { objectKey } from '../log/keys.js';
import { type Hot, HotObjects } from './hot-objects.js';
import type { KeyValue } from './messages.js';

interface Unstored extends Hot {
  readonly key: Uint8Array;
}

interface Recent extends Hot {
  /** Number of the call that handed it over. */
  readonly store: number;
}

/** A span of loads, and of the step that uses them. */
export interface Hold {
  /** What comes of its loads now may be older than a commit: it is of no use to anybody. */
  readonly isOver: boolean;
  end(): void;
}

/** Loads that began in the same generation, and what may be forgotten once they have ended. */
interface Generation {
  loads: number;
  readonly retired: { readonly key: string; readonly store: number }[];
}

/**
 * Committed objects: RocksDB, and before it the ones that aren't written there yet. A commit is
 * visible here at once. `fresh` must be called in the step that uses the object: a commit may have come
 * between the load and the step, so what was stored stays in memory until every `hold` that began before
 * its write ended is over.
 */
export class Objects {
  readonly #log: EventLog;
  /** Committed, and not handed to the log. */
  #unstored = new Map<string, Unstored>();
  /** Handed to the log, and in the store perhaps. */
  readonly #recent = new Map<string, Recent>();
  readonly hot: HotObjects;
  #generations: Generation[] = [{ loads: 0, retired: [] }];
  #stores = 0;
  /** Another one since the store's content was replaced: what was loaded of the one before isn't kept. */
  #content = 0;

  /** @param hotBytesMax bytes of objects that are kept in memory */
  constructor(log: EventLog, hotBytesMax: number) {
    this.#log = log;
    this.hot = new HotObjects(hotBytesMax);
  }

  /** Begins a span of loads; it ends after the step that used what was loaded, or when nobody waits for that any more. */
  hold(): Hold {
    const generation = this.#generations.at(-1);
    assert(generation !== undefined, 'there is always a generation');
    generation.loads += 1;
    let isOver = false;
    return {
      get isOver() {
        return isOver;
      },
      end: () => {
        if (isOver) return;
        isOver = true;
        generation.loads -= 1;
        this.#forget();
      },
    };
  }

  /** The newest committed object, where it is in memory. */
  peek(key: Uint8Array): Hot | undefined {
    const mapKey = toMapKey(key);
    return this.#committed(mapKey) ?? this.hot.find(mapKey);
  }

  /** The newest committed object, or an older one: see `fresh`. Rejects where the hold was over first. */
  async load(key: Uint8Array, hold: Hold): Promise<KeyValue | undefined> {
    const known = this.peek(key);
    if (known !== undefined) return known.found;
    const content = this.#content;
    const bytes = await this.#log.get(objectKey(key));
    const loaded = bytes === undefined ? undefined : decodeObject(bytes);
    // A commit that came meanwhile is not forgotten while the hold lasts.
    if (hold.isOver) throw new KeychainError('DEADLINE', 'nobody waits for this load any more');
    const mapKey = toMapKey(key);
    if (content === this.#content && this.#committed(mapKey) === undefined) {
      this.hot.keep(mapKey, loaded);
    }
    return loaded;
  }

  /** The newest committed object now, given what a load of its key gave. */
  fresh(key: Uint8Array, loaded: KeyValue | undefined): KeyValue | undefined {
    const committed = this.#committed(toMapKey(key));
    return committed === undefined ? loaded : committed.found;
  }

  /** A commit: visible at once. */
  commit(key: Uint8Array, found: KeyValue | undefined): void {
    this.#unstored.set(toMapKey(key), { key, found });
  }

  /** Hands what was committed since the last call to the log, with others, to be written in one batch. */
  store(others: readonly WriteOp[]): void {
    this.#stores += 1;
    const store = this.#stores;
    const stored = this.#unstored;
    this.#unstored = new Map();
    const ops: WriteOp[] = [];
    for (const [mapKey, { key, found }] of stored) {
      this.#recent.set(mapKey, { found, store });
      this.hot.keep(mapKey, found);
      ops.push(
        found === undefined
          ? { type: 'del', key: objectKey(key) }
          : { type: 'put', key: objectKey(key), value: encodeObject(found) },
      );
    }
    this.#log.record([...ops, ...others], { sync: false });
    void this.#log.settled().then(() => this.#retire(stored.keys(), store));
  }

  /** Resolves when what was handed over can be read in the store. */
  settled(): Promise<void> {
    return this.#log.settled();
  }

  /** Another content comes in the place of the store's, or has come: nothing that was there, or on its way, counts. */
  forgetAll(): void {
    this.#content += 1;
    this.#unstored.clear();
    this.#recent.clear();
    this.hot.clear();
  }

  #committed(mapKey: string): Hot | undefined {
    return this.#unstored.get(mapKey) ?? this.#recent.get(mapKey);
  }

  #retire(keys: Iterable<string>, store: number): void {
    const generation = this.#generations.at(-1);
    if (generation === undefined) return;
    for (const key of keys) generation.retired.push({ key, store });
    this.#generations.push({ loads: 0, retired: [] });
    this.#forget();
  }

  #forget(): void {
    for (;;) {
      const [oldest] = this.#generations;
      if (oldest === undefined || oldest.loads > 0 || this.#generations.length === 1) return;
      this.#generations.shift();
      for (const { key, store } of oldest.retired) {
        if (this.#recent.get(key)?.store === store) this.#recent.delete(key);
      }
    }
  }
}

export function decodeObject(bytes: Uint8Array): KeyValue {
  const { value, createRevision, modRevision, version } = StoredObject.decode(bytes);
  return { value, createRevision, modRevision, version };
}

export function encodeObject(found: KeyValue): Uint8Array {
  return encoded(StoredObject, { ...found, lease: 0 });
}

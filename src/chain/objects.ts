import { assert } from '../base/assert.js';
import { toMapKey } from '../base/bytes.js';
import { encoded } from '../base/message-writer.js';
import { StoredObject } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import type { EventLog } from '../log/event-log.js';
import { objectKey } from '../log/keys.js';
import { type Hot, HotObjects } from './hot-objects.js';
import type { KeyValue } from './messages.js';

interface Recent {
  readonly found: KeyValue | undefined;
  /** Number of the save that wrote it. */
  readonly save: number;
}

/** Loads that began in the same generation, and what may be forgotten once they have ended. */
interface Generation {
  loads: number;
  readonly retired: { readonly key: string; readonly save: number }[];
}

/**
 * Committed objects: RocksDB, and before it the ones whose write isn't on the way out yet. A commit is
 * visible here at once. `fresh` must be called in the step that uses the object: a commit may have come
 * between the load and the step, so what was saved stays in memory until every `hold` that began before
 * its write ended is over.
 */
export class Objects {
  readonly #log: EventLog;
  readonly #recent = new Map<string, Recent>();
  readonly hot: HotObjects;
  #generations: Generation[] = [{ loads: 0, retired: [] }];
  #saves = 0;
  /** Another one since the store's content was replaced: what was loaded of the one before isn't kept. */
  #content = 0;

  /** @param hotBytesMax bytes of objects that are kept in memory */
  constructor(log: EventLog, hotBytesMax: number) {
    this.#log = log;
    this.hot = new HotObjects(hotBytesMax);
  }

  get recentCount(): number {
    return this.#recent.size;
  }

  /** Begins a span of loads; the answer ends it, after the step that used what was loaded. */
  hold(): () => void {
    const generation = this.#generations.at(-1);
    assert(generation !== undefined, 'there is always a generation');
    generation.loads += 1;
    return () => {
      generation.loads -= 1;
      this.#forget();
    };
  }

  /** The newest committed object, where it is in memory. */
  peek(key: Uint8Array): Hot | undefined {
    const mapKey = toMapKey(key);
    return this.#recent.get(mapKey) ?? this.hot.find(mapKey);
  }

  /** The newest committed object, or an older one: see `fresh`. Within a `hold`. */
  async load(key: Uint8Array): Promise<KeyValue | undefined> {
    const known = this.peek(key);
    if (known !== undefined) return known.found;
    const content = this.#content;
    const bytes = await this.#log.get(objectKey(key));
    const loaded = bytes === undefined ? undefined : decodeObject(bytes);
    // A commit that came meanwhile is still among the recent ones: the caller's hold keeps it there.
    const mapKey = toMapKey(key);
    if (content === this.#content && !this.#recent.has(mapKey)) this.hot.keep(mapKey, loaded);
    return loaded;
  }

  /** The newest committed object now, given what a load of its key gave. */
  fresh(key: Uint8Array, loaded: KeyValue | undefined): KeyValue | undefined {
    const recent = this.#recent.get(toMapKey(key));
    return recent === undefined ? loaded : recent.found;
  }

  /** A commit: visible at once, written with the next batch. */
  save(
    objects: readonly { readonly key: Uint8Array; readonly found: KeyValue | undefined }[],
    others: readonly WriteOp[],
  ): void {
    this.#saves += 1;
    const save = this.#saves;
    const ops: WriteOp[] = [];
    const keys: string[] = [];
    for (const { key, found } of objects) {
      const mapKey = toMapKey(key);
      keys.push(mapKey);
      this.#recent.set(mapKey, { found, save });
      this.hot.keep(mapKey, found);
      ops.push(
        found === undefined
          ? { type: 'del', key: objectKey(key) }
          : { type: 'put', key: objectKey(key), value: encodeObject(found) },
      );
    }
    this.#log.record([...ops, ...others], { sync: false });
    void this.#log.settled().then(() => this.#retire(keys, save));
  }

  /** Another content comes in the place of the store's, or has come: nothing that was there, or on its way, counts. */
  forgetAll(): void {
    this.#content += 1;
    this.#recent.clear();
    this.hot.clear();
  }

  #retire(keys: readonly string[], save: number): void {
    const generation = this.#generations.at(-1);
    if (generation === undefined) return;
    for (const key of keys) generation.retired.push({ key, save });
    this.#generations.push({ loads: 0, retired: [] });
    this.#forget();
  }

  #forget(): void {
    for (;;) {
      const [oldest] = this.#generations;
      if (oldest === undefined || oldest.loads > 0 || this.#generations.length === 1) return;
      this.#generations.shift();
      for (const { key, save } of oldest.retired) {
        if (this.#recent.get(key)?.save === save) this.#recent.delete(key);
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

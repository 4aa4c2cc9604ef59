import type { KeyValue } from './messages.js';

/** What a key holds; `found` is undefined where it is known to be absent. */
export interface Hot {
  readonly found: KeyValue | undefined;
}

interface Kept extends Hot {
  readonly bytes: number;
}

/** Bytes of an entry besides its key and value, about. */
const overheadBytes = 160;
/** An object larger than this part of the bound would push out too many others. */
const largestPart = 16;
/** A value may keep so many times its bytes in memory. */
const viewedMax = 1.25;

/**
 * Newest committed objects that were read or written lately, by map key. Two generations: what is used moves to the young
 * one; when that holds half of the bound it becomes the old one, and what nobody used since is forgotten. Never holds
 * anything older than the store: whoever stores a key calls `keep`, and what is committed and not stored is looked up before.
 */
export class HotObjects {
  readonly #bytesMax: number;
  #young = new Map<string, Kept>();
  #youngBytes = 0;
  #old = new Map<string, Kept>();
  #oldBytes = 0;
  hits = 0;
  misses = 0;

  /** @param bytesMax 0: nothing is kept */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** About, of keys and values. */
  get bytes(): number {
    return this.#youngBytes + this.#oldBytes;
  }

  find(key: string): Hot | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) {
      this.hits += 1;
      return young;
    }
    const old = this.#old.get(key);
    if (old === undefined) {
      this.misses += 1;
      return undefined;
    }
    this.hits += 1;
    this.#old.delete(key);
    this.#oldBytes -= old.bytes;
    this.#add(key, old);
    return old;
  }

  /** @param found the newest committed object; its value is copied where it is a view of much more, e.g. a block */
  keep(key: string, found: KeyValue | undefined): void {
    if (this.#bytesMax === 0) return;
    this.#drop(key);
    const bytes = overheadBytes + key.length + (found?.value.byteLength ?? 0);
    if (bytes * largestPart > this.#bytesMax) return;
    this.#add(key, { found: found === undefined ? undefined : alone(found), bytes });
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#youngBytes = 0;
    this.#oldBytes = 0;
  }

  #drop(key: string): void {
    this.#youngBytes -= this.#young.get(key)?.bytes ?? 0;
    this.#oldBytes -= this.#old.get(key)?.bytes ?? 0;
    this.#young.delete(key);
    this.#old.delete(key);
  }

  #add(key: string, kept: Kept): void {
    this.#young.set(key, kept);
    this.#youngBytes += kept.bytes;
    if (this.#youngBytes * 2 <= this.#bytesMax) return;
    this.#old = this.#young;
    this.#oldBytes = this.#youngBytes;
    this.#young = new Map();
    this.#youngBytes = 0;
  }
}

/** An object whose value keeps little else in memory. */
function alone(found: KeyValue): KeyValue {
  const { value } = found;
  if (value.buffer.byteLength <= viewedMax * value.byteLength) return found;
  return { ...found, value: new Uint8Array(value) };
}

import { assert } from '../base/assert.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from '../log/event-log.js';

/** The entries of one member that are kept, in memory: one block per entry. Only `evolve` changes it. */
export class RaftLog {
  #blocks: LogBlock[] = [];
  #bytes = 0;
  #base: EntryId;

  /** @param base the entry before the first one that is kept */
  constructor(base: EntryId = origin) {
    this.#base = base;
  }

  /** The entry before the first one that is kept. */
  get base(): EntryId {
    return this.#base;
  }

  /** Index of the first entry that is kept, or would be. */
  get first(): number {
    return this.#base.index + 1;
  }

  get last(): EntryId {
    return this.#blocks.at(-1)?.end ?? this.#base;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The term of the entry at an index; undefined past the end, and before the base. */
  termAt(index: number): number | undefined {
    return index === this.#base.index
      ? this.#base.generation
      : this.#blocks[index - this.first]?.end.generation;
  }

  /** The identity of the entry at an index, which must be kept. */
  at(index: number): EntryId {
    const generation = this.termAt(index);
    assert(generation !== undefined, 'an entry that is named exists', {
      index,
      base: this.#base,
      last: this.last,
    });
    return { generation, index };
  }

  /** Entries from `from` through `through`. */
  between(from: number, through: number): readonly LogBlock[] {
    assert(from >= this.first, 'an entry that is read is kept', { from, first: this.first });
    return this.#blocks.slice(from - this.first, through - this.first + 1);
  }

  /** Where the entries of the term that stands at `index` begin, as far as they are kept. */
  firstOfTerm(index: number): number {
    const term = this.termAt(index);
    let first = index;
    while (first > this.first && this.termAt(first - 1) === term) first -= 1;
    return first;
  }

  /** The last entry of a term, or undefined where none is kept. */
  lastOfTerm(term: number): number | undefined {
    for (let index = this.last.index; index >= this.#base.index; index -= 1) {
      const at = this.termAt(index) ?? 0;
      if (at === term) return index;
      if (at < term) return undefined;
    }
    return undefined;
  }

  append(block: LogBlock): void {
    assert(block.end.index === this.last.index + 1, 'an entry follows the last one', {
      last: this.last,
      end: block.end,
    });
    this.#blocks.push(block);
    this.#bytes += block.bytes.byteLength;
  }

  cutAfter(index: number): void {
    assert(index >= this.#base.index, 'what a snapshot stands for is never cut', {
      index,
      base: this.#base,
    });
    for (const { bytes } of this.#blocks.splice(index - this.first + 1)) {
      this.#bytes -= bytes.byteLength;
    }
  }

  /** Forgets the entries through this one. */
  dropThrough(index: number): void {
    const base = this.at(index);
    for (const { bytes } of this.#blocks.splice(0, index - this.#base.index)) {
      this.#bytes -= bytes.byteLength;
    }
    this.#base = base;
  }

  /** Forgets all, and goes on after this entry. */
  reset(base: EntryId): void {
    this.#blocks = [];
    this.#bytes = 0;
    this.#base = base;
  }
}

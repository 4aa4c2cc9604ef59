import { assert } from '../base/assert.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from '../log/event-log.js';

/**
 * The entries of one member, in memory: one block per entry. Only `evolve` changes it. When compaction
 * comes, `first` moves up; nothing else here knows that a log begins at 1.
 */
export class RaftLog {
  readonly #blocks: LogBlock[] = [];
  /** Index of the first entry that is kept. */
  readonly first = 1;

  get last(): EntryId {
    return this.#blocks.at(-1)?.end ?? origin;
  }

  /** The term of the entry at an index; 0 for the origin, undefined past the end. */
  termAt(index: number): number | undefined {
    return index === 0 ? 0 : this.#blocks[index - this.first]?.end.generation;
  }

  /** The identity of the entry at an index, which must exist. */
  at(index: number): EntryId {
    const generation = this.termAt(index);
    assert(generation !== undefined, 'an entry that is named exists', { index, last: this.last });
    return { generation, index };
  }

  /** Entries from `from` through `through`. */
  between(from: number, through: number): readonly LogBlock[] {
    return this.#blocks.slice(from - this.first, through - this.first + 1);
  }

  /** Where the entries of the term that stands at `index` begin. */
  firstOfTerm(index: number): number {
    const term = this.termAt(index);
    let first = index;
    while (first > this.first && this.termAt(first - 1) === term) first -= 1;
    return first;
  }

  /** The last entry of a term, or undefined. */
  lastOfTerm(term: number): number | undefined {
    for (let index = this.last.index; index >= this.first; index -= 1) {
      const at = this.termAt(index) ?? 0;
      if (at === term) return index;
      if (at < term) return undefined;
    }
    return undefined;
  }

  append(block: LogBlock): void {
    this.#blocks.push(block);
  }

  cutAfter(index: number): void {
    this.#blocks.length = index - this.first + 1;
  }
}

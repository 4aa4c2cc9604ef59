import { assert } from '../base/assert.js';

/** One of several is used until it fails, then the next. */
export class Rotation<Item> {
  readonly #items: readonly Item[];
  #index = 0;

  /** @param items at least one */
  constructor(items: readonly Item[]) {
    assert(items.length > 0, 'there is something to use');
    this.#items = items;
  }

  get all(): readonly Item[] {
    return this.#items;
  }

  get current(): Item {
    const item = this.#items[this.#index];
    assert(item !== undefined, 'one of them is in use');
    return item;
  }

  /** It failed; nothing changes where another one is in use by now. */
  leave(item: Item): void {
    if (this.#items[this.#index] === item) this.#index = (this.#index + 1) % this.#items.length;
  }
}

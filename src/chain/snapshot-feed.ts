import { KeychainError } from '../base/errors.js';
import type { FollowDown } from '../gen/keychaindb/v1/chain.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { EventLog } from '../log/event-log.js';
import { readBase, readChunks, revisionOf } from './base.js';
import type { Forwarder } from './forwarder.js';
import type { Pace } from './pace.js';

/**
 * Sends the newest base of this store, chunk by chunk, through the window that blocks go through; then, once the
 * follower has put it on its disk, the log after it (R17). While writes come it rests between chunks: they go before.
 */
export class SnapshotFeed {
  readonly #forwarder: Forwarder;
  readonly #log: EventLog;
  readonly #pace: Pace;

  constructor(forwarder: Forwarder, log: EventLog, pace: Pace) {
    this.#forwarder = forwarder;
    this.#log = log;
    this.#pace = pace;
  }

  /** Ends with the forwarder. Throws as a reader of the log, and KeychainError CORRUPT. */
  async run(first: FollowDown): Promise<void> {
    const base = await readBase(this.#log);
    if (base === undefined)
      throw new KeychainError('CORRUPT', 'no base stands for what the log has lost');
    const at: EntryId = revisionOf(base);
    this.#forwarder.begin({ ...first, snapshot: base });
    let written = this.#log.last.index;
    this.#pace.begin();
    for await (const chunk of readChunks(this.#log, base)) {
      await this.#forwarder.chunk(chunk);
      if (this.#forwarder.isStopped) return;
      const { index } = this.#log.last;
      if (index > written) await this.#pace.rest();
      else this.#pace.begin();
      written = index;
    }
    await this.#forwarder.ackedThrough(at.index);
    await this.#forwarder.blocks(this.#log, at, this.#pace);
  }
}

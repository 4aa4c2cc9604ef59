import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { FollowDown } from '../gen/keychaindb/v1/chain.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { EventLog } from '../log/event-log.js';
import { readBase, readChunks, revisionOf } from './base.js';
import type { Forwarder } from './forwarder.js';
import { Pace } from './pace.js';

/**
 * Sends the newest base of this store, chunk by chunk, through the window that blocks go through; then, once the
 * follower has put it on its disk, the log after it (R17). Rests between chunks: the chain's writes go before.
 */
export class SnapshotFeed {
  readonly #forwarder: Forwarder;
  readonly #log: EventLog;
  readonly #pace: Pace;

  constructor(forwarder: Forwarder, log: EventLog, clock: Clock, share: number) {
    this.#forwarder = forwarder;
    this.#log = log;
    this.#pace = new Pace(clock, share);
  }

  /** Ends with the forwarder. Throws as a reader of the log, and KeychainError CORRUPT. */
  async run(first: FollowDown): Promise<void> {
    const base = await readBase(this.#log);
    if (base === undefined)
      throw new KeychainError('CORRUPT', 'no base stands for what the log has lost');
    const at: EntryId = revisionOf(base);
    this.#forwarder.begin({ ...first, snapshot: base });
    this.#pace.begin();
    for await (const chunk of readChunks(this.#log, base)) {
      await this.#forwarder.chunk(chunk);
      if (this.#forwarder.isStopped) return;
      await this.#pace.rest();
    }
    await this.#forwarder.ackedThrough(at.index);
    await this.#forwarder.blocks(this.#log, at);
  }

  stop(): void {
    this.#pace.stop();
  }
}

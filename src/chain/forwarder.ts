import type { Clock } from '../base/clock.js';
import type { CatchUp, FollowDown } from '../gen/keychaindb/v1/chain.js';
import type { EntryId, SnapshotChunk } from '../gen/keychaindb/v1/log.js';
import type { EventLog, LogBlock } from '../log/event-log.js';
import type { Channel } from '../wire/channel.js';
import {
  catchUpBytes,
  catchUpFactor,
  joinLagEntriesMax,
  linkMessageBytesMax,
  linkWindowBytesMax,
} from './limits.js';
import type { Pace } from './pace.js';

export interface ForwardMeter {
  messages: number;
  entries: number;
}

/** A block, or a chunk of a snapshot, on its way. */
interface Sent {
  /** Of the block's last entry, or the chunk's number. */
  readonly index: number;
  readonly isChunk: boolean;
  readonly bytes: number;
}

interface Ready extends Sent {
  readonly item: NonNullable<CatchUp['item']>;
  readonly entries: number;
}

/**
 * Streams the write log to one follower: a cursor that reads history and then follows live, so that a
 * new successor, a reconnect and steady state are the same path. While one message is on its way the
 * next one collects; at most `linkWindowBytesMax` are unacknowledged.
 */
export class Forwarder {
  readonly #channel: Channel<FollowDown>;
  readonly #header: () => FollowDown;
  readonly #meter: ForwardMeter;
  readonly #sent: (through: number) => void;
  readonly #clock: Pick<Clock, 'soon'>;
  readonly #ahead: () => number;
  readonly #stop = new AbortController();
  readonly #unacked: Sent[] = [];
  #unackedBytes = 0;
  #ready: Ready[] = [];
  #readyBytes = 0;
  #stale = false;
  #sending = false;
  #roomCame: (() => void) | undefined;
  #acked = 0;
  #ackCame: (() => void) | undefined;

  /**
   * @param sent told of the last entry of each message that went out
   * @param ahead index through which blocks are sent before they are on this disk (R11)
   */
  constructor(
    channel: Channel<FollowDown>,
    header: () => FollowDown,
    meter: ForwardMeter,
    sent: (through: number) => void,
    clock: Pick<Clock, 'soon'>,
    ahead: () => number,
  ) {
    this.#ahead = ahead;
    this.#clock = clock;
    this.#sent = sent;
    this.#channel = channel;
    this.#header = header;
    this.#meter = meter;
  }

  get windowBytes(): number {
    return this.#unackedBytes + this.#readyBytes;
  }

  /** Sends the answer to the hello, then everything after `common`. Ends with the channel. */
  async run(log: EventLog, first: FollowDown, common: EntryId, pace?: Pace): Promise<void> {
    this.begin(first);
    await this.blocks(log, common, pace);
  }

  /** Sends the answer to the hello. */
  begin(first: FollowDown): void {
    this.#channel.send(first);
  }

  /**
   * Sends everything after an entry.
   * @param pace of a follower that the chain doesn't wait for: what it lacks goes to it with rests while writes come
   */
  async blocks(log: EventLog, after: EntryId, pace?: Pace): Promise<void> {
    const rests = pace === undefined ? undefined : new CatchUpRests(log, after, pace);
    for await (const block of log.follow(after, this.#stop.signal, this.#ahead)) {
      if (!this.#put(readyBlock(block))) await this.#room();
      if (rests?.isDueAfter(block) !== true) continue;
      // What the follower does with it is the larger part of the work.
      await this.ackedThrough(block.end.index);
      await pace?.rest();
    }
  }

  /** Sends a chunk of a snapshot; resolves when there is room for more. */
  async chunk(chunk: SnapshotChunk): Promise<void> {
    const bytes = chunk.records.reduce((sum, r) => sum + r.key.byteLength + r.value.byteLength, 0);
    const item = { $case: 'snapshot', value: chunk } as const;
    const ready = { index: chunk.sequence, isChunk: true, bytes, entries: 0, item };
    if (!this.#put(ready)) await this.#room();
  }

  /** Resolves when the follower has this entry on its disk, or nothing is sent any more. */
  async ackedThrough(index: number): Promise<void> {
    while (this.#acked < index && !this.isStopped) {
      await new Promise<void>((resolve) => {
        this.#ackCame = resolve;
      });
    }
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** False: there is no room for more. */
  #put(ready: Ready): boolean {
    if (this.isStopped) return true;
    this.#ready.push(ready);
    this.#readyBytes += ready.bytes;
    this.#pump();
    return this.#unackedBytes + this.#readyBytes <= linkWindowBytesMax;
  }

  /** The header has changed: it goes with the next message, or alone when the link is free. */
  refresh(): void {
    this.#stale = true;
    // What is appended in this turn takes it along.
    this.#clock.soon(() => this.#pump());
  }

  acked(index: number): void {
    this.#acked = index;
    this.#ackCame?.();
    this.#release((sent) => sent.isChunk || sent.index <= index);
  }

  /** The follower has stored so many chunks. */
  chunksAcked(chunks: number): void {
    this.#release((sent) => sent.isChunk && sent.index < chunks);
  }

  #release(isAcked: (sent: Sent) => boolean): void {
    let count = 0;
    for (const sent of this.#unacked) {
      if (!isAcked(sent)) break;
      this.#unackedBytes -= sent.bytes;
      count += 1;
    }
    this.#unacked.splice(0, count);
    this.#offerRoom();
  }

  stop(): void {
    this.#stop.abort();
    this.#unackedBytes = 0;
    this.#readyBytes = 0;
    this.#roomCame?.();
    this.#ackCame?.();
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#roomCame = resolve;
      this.#offerRoom();
    });
  }

  #offerRoom(): void {
    if (this.#unackedBytes + this.#readyBytes > linkWindowBytesMax) return;
    this.#roomCame?.();
    this.#roomCame = undefined;
  }

  #pump(): void {
    if (this.#sending || this.#stop.signal.aborted || this.#channel.isClosed) return;
    if (this.#ready.length === 0 && !this.#stale) return;
    const taken = this.#take();
    this.#stale = false;
    this.#sending = true;
    const items = taken.map(({ item }) => ({ item }));
    this.#meter.messages += 1;
    this.#channel.send({ ...this.#header(), items });
    const last = taken.at(-1);
    if (last?.isChunk === false) this.#sent(last.index);
    void this.#channel.drained().then(() => {
      this.#sending = false;
      this.#pump();
    });
  }

  #take(): readonly Ready[] {
    const taken: Ready[] = [];
    let bytes = 0;
    for (const ready of this.#ready) {
      if (bytes > 0 && bytes + ready.bytes > linkMessageBytesMax) break;
      bytes += ready.bytes;
      taken.push(ready);
      this.#meter.entries += ready.entries;
      this.#unacked.push({ index: ready.index, isChunk: ready.isChunk, bytes: ready.bytes });
    }
    this.#ready = this.#ready.slice(taken.length);
    this.#readyBytes -= bytes;
    this.#unackedBytes += bytes;
    return taken;
  }
}

/** When the feeding of a follower that catches up rests: between pieces, so that the chain's writes go before. */
class CatchUpRests {
  readonly #log: EventLog;
  readonly #pace: Pace;
  /** Where it was, and the log's end, at the last rest. */
  #from: number;
  #writtenFrom: number;
  #bytes = 0;
  #written: number;

  constructor(log: EventLog, from: EntryId, pace: Pace) {
    this.#log = log;
    this.#pace = pace;
    this.#from = from.index;
    this.#writtenFrom = log.last.index;
    this.#written = this.#writtenFrom;
    pace.begin();
  }

  isDueAfter({ bytes, end }: LogBlock): boolean {
    this.#bytes += bytes.byteLength;
    if (this.#bytes < catchUpBytes) return false;
    this.#bytes = 0;
    const { index } = this.#log.last;
    // Where nobody writes nobody is held up; and what is fed hardly faster than it is written would never be there.
    const isWritten = index > this.#written;
    const gains = end.index - this.#from >= catchUpFactor * (index - this.#writtenFrom);
    this.#written = index;
    if (!isWritten || !gains || index - end.index <= joinLagEntriesMax) {
      this.#pace.begin();
      return false;
    }
    this.#from = end.index;
    this.#writtenFrom = index;
    return true;
  }
}

function readyBlock({ bytes, end, entries }: LogBlock): Ready {
  return {
    index: end.index,
    isChunk: false,
    bytes: bytes.byteLength,
    entries: entries.length,
    item: { $case: 'block', value: bytes },
  };
}

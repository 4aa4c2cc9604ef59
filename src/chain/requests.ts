import { noBytes } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Operation } from '../gen/keychaindb/v1/kv.js';
import type { Envelope, RequestId } from '../gen/keychaindb/v1/log.js';
import { isDamage } from '../log/event-log.js';
import { contextBytes } from '../telemetry/trace-context.js';
import type { ChainInput } from './inputs.js';
import {
  blockBytesMax,
  blockEntriesMax,
  crowdedSilenceMs,
  loadingReadsMax,
  stagedBytesMax,
} from './limits.js';
import type { ReadRequest, Token, WriteRequest } from './messages.js';
import type { Hold, Objects } from './objects.js';
import type { Pending } from './pending.js';
import { RareNotice } from './rare-notice.js';
import type { NodeState } from './state.js';
import { isHead } from './views.js';

/** Bytes that a write keeps in memory besides its key and value, about. */
const overheadBytes = 256;

/** An operation, and the token under which its answer is owed. */
export interface Taken {
  readonly token: Token;
  readonly operation: Operation;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Read = Mutable<ReadRequest> & { end?: () => void };
/** `arrivedAt`: monotonic milliseconds. */
type Write = Mutable<WriteRequest> & { end?: () => void; bytes: number; arrivedAt: number };

/**
 * Between the edge and the core: loads the objects that requests name, then hands reads over at once
 * and writes as one batch per group commit: while one block is on its way to the disk the next collects.
 */
export class Requests {
  readonly #state: NodeState;
  readonly #objects: Objects;
  readonly #pending: Pending;
  readonly #clock: Clock;
  readonly #give: (input: ChainInput) => void;
  readonly #minted: MintedIds;
  #collecting: Write[] = [];
  #collectingBytes = 0;
  #loadingBytes = 0;
  #loadingReads = 0;
  /** Of the loads under way, by what holds them: when nobody waits for them any more. */
  readonly #loads = new Map<Hold, number>();
  readonly #notice: RareNotice;
  #flushing = false;

  constructor(
    state: NodeState,
    objects: Objects,
    pending: Pending,
    clock: Clock,
    options: { readonly random: Random; readonly notice?: (text: string) => void },
    give: (input: ChainInput) => void,
  ) {
    this.#state = state;
    this.#objects = objects;
    this.#pending = pending;
    this.#clock = clock;
    this.#give = give;
    this.#minted = new MintedIds(options.random);
    this.#notice = new RareNotice(options.notice);
  }

  /** Validated operations that came together, each with its token. */
  take(operations: readonly Taken[], now: number): void {
    const reads: ReadRequest[] = [];
    for (const { token, operation } of operations) {
      const asked = operation.operation;
      if (asked === undefined) continue;
      if (asked.$case === 'get') {
        const deadline = now + operation.timeoutMs;
        reads.push({ token, key: asked.value.key, deadline, stored: undefined });
      } else {
        this.#write(token, operation, now);
      }
    }
    if (reads.length > 0) this.read(reads);
  }

  /** What is in memory is handed over at once, together; the rest is loaded first. */
  read(reads: readonly ReadRequest[]): void {
    const known: Read[] = [];
    const others: ReadRequest[] = [];
    for (const read of reads) {
      const found = this.#objects.peek(read.key);
      if (found === undefined) others.push(read);
      else known.push({ ...read, stored: found.found });
    }
    if (known.length > 0) this.#handReads(known);
    const room = Math.max(0, loadingReadsMax - this.#loadingReads);
    for (const { token } of others.splice(room)) this.#refuseLoad(token);
    if (others.length > 0) this.#load(others);
  }

  /** A disk that hangs ends no load, and the deadlines of those who wait for it make no room. */
  #refuseLoad(token: Token): void {
    const text = `${this.#loadingReads} reads wait for the disk: at most ${loadingReadsMax}`;
    this.#pending.fail(token, new KeychainError('OVERLOADED', `${text}; try another node`));
  }

  /** The clock is read after the requests were taken in and their objects loaded (R4). */
  #handReads(reads: readonly Read[]): void {
    const now = this.#clock.monotonic();
    for (const { token } of reads) this.#pending.hand(token, now);
    this.#give({ type: 'ReadsReceived', reads, now });
  }

  #load(reads: readonly ReadRequest[]): void {
    const hold = this.#objects.hold();
    const last = reads.reduce((latest, { deadline }) => Math.max(latest, deadline), 0);
    this.#loads.set(hold, last);
    this.#loadingReads += reads.length;
    const loaded = reads.map(async (read): Promise<Read | undefined> => {
      try {
        return { ...read, stored: await this.#objects.load(read.key, hold) };
      } catch (error) {
        // The others of the batch have nothing to do with it.
        this.#pending.fail(read.token, this.#notLoaded(error));
        return undefined;
      }
    });
    void Promise.all(loaded).then((all) => {
      this.#loads.delete(hold);
      this.#loadingReads -= reads.length;
      if (!hold.isOver) this.#handReads(all.filter((read) => read !== undefined));
      hold.end();
    });
  }

  #write(token: Token, operation: Operation, now: number): void {
    const asked = operation.operation;
    if (asked === undefined || asked.$case === 'get') return;
    const { key } = asked.value;
    const value = asked.$case === 'put' ? asked.value.value.byteLength : 0;
    const bytes = overheadBytes + key.byteLength + value;
    if (this.#collectingBytes + this.#loadingBytes > stagedBytesMax) {
      this.#pending.fail(
        token,
        new KeychainError(
          'OVERLOADED',
          `writes of ${this.#collectingBytes} bytes wait for the disk: at most ${stagedBytesMax}`,
        ),
      );
      return;
    }
    const hold = this.#objects.hold();
    const write: Write = {
      token,
      operation:
        asked.$case === 'put'
          ? { type: 'put', key: asked.value.key, value: asked.value.value }
          : { type: 'delete', key: asked.value.key },
      request: asked.value.request ?? this.#minted.next(now),
      trace: operation.trace.byteLength === contextBytes ? operation.trace : noBytes,
      arrivedAt: now,
      deadline: now + operation.timeoutMs,
      stored: undefined,
      end: hold.end,
      bytes,
    };
    const known = this.#objects.peek(asked.value.key);
    if (known !== undefined) {
      write.stored = known.found;
      this.#collect(write);
      return;
    }
    this.#loadingBytes += bytes;
    this.#loads.set(hold, write.deadline);
    const ended = (): void => {
      this.#loads.delete(hold);
      this.#loadingBytes -= bytes;
    };
    this.#objects.load(asked.value.key, hold).then(
      (stored) => {
        ended();
        write.stored = stored;
        this.#collect(write);
      },
      (error: unknown) => {
        ended();
        hold.end();
        this.#pending.fail(token, notApplied(this.#notLoaded(error)));
      },
    );
  }

  /** A record that is damaged stays so: the core hears of it. Of what may pass a person hears, now and then. */
  #notLoaded(thrown: unknown): KeychainError {
    const error = KeychainError.from(thrown);
    const { message: what } = error;
    const now = this.#clock.monotonic();
    if (isDamage(error)) this.#give({ type: 'DamageFound', what, now });
    else if (error.reason === 'INTERNAL') this.#notice.say(`requests fail: ${what}`, now);
    return error;
  }

  #collect(write: Write): void {
    this.#collecting.push(write);
    this.#collectingBytes += write.bytes;
    this.#flushSoon();
  }

  /** After the loads that end in this turn, so that one turn's writes share a block. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    const { ledger, active, seen, self } = this.#state;
    if (this.#collecting.length === 0) return;
    const head = active !== undefined && isHead(active, self);
    if (head && ledger.synced.index < ledger.last.index) return;
    // The head to be: its clients know the view already, and to be refused would only make them ask again.
    if (!head && seen !== undefined && isHead(seen, self)) return;
    const writes = this.#takeBlock();
    const now = this.#clock.monotonic();
    for (const write of writes) this.#pending.hand(write.token, now);
    this.#give({
      type: 'WritesReceived',
      writes,
      now,
      wall: this.#clock.wall(),
    });
    for (const write of writes) write.end?.();
    if (this.#collecting.length > 0) this.#flushSoon();
  }

  /** What nobody waits for any more: a disk that hangs for long is asked for the same again and again. */
  #dropLate(now: number): void {
    for (const [hold, deadline] of this.#loads) {
      if (deadline > now) continue;
      // Its load goes on; what was committed meanwhile needn't be kept for it.
      this.#loads.delete(hold);
      hold.end();
    }
    const late = this.#collecting.filter(({ deadline }) => deadline <= now);
    if (late.length === 0) return;
    this.#collecting = this.#collecting.filter(({ deadline }) => deadline > now);
    for (const { end, bytes } of late) {
      this.#collectingBytes -= bytes;
      end?.();
    }
  }

  #takeBlock(): readonly Write[] {
    let count = 0;
    let bytes = 0;
    for (const write of this.#collecting) {
      if (count >= blockEntriesMax || (count > 0 && bytes + write.bytes > blockBytesMax)) break;
      count += 1;
      bytes += write.bytes;
    }
    this.#collectingBytes -= bytes;
    return this.#collecting.splice(0, count);
  }

  /** Bytes of writes that wait for the disk. */
  get collectingBytes(): number {
    return this.#collectingBytes + this.#loadingBytes;
  }

  /** Reads that wait for the disk, or whose deadline has passed while it hangs. */
  get loadingReads(): number {
    return this.#loadingReads;
  }

  /** When the first write of an input came to this node, or the message that brought its blocks. */
  oldestArrival(input: ChainInput): number {
    if (input.type !== 'WritesReceived') return input.now;
    return (input.writes as readonly Write[])[0]?.arrivedAt ?? input.now;
  }

  /** When the writes arrived that made these entries; none at a node that isn't the head. */
  arrivals(input: ChainInput, entries: readonly Envelope[]): readonly number[] {
    if (input.type !== 'WritesReceived') return [];
    const writes = input.writes as readonly Write[];
    let at = 0;
    return entries.map((entry) => {
      // Entries stand in the order of their writes; a write that was refused or known made none.
      while (at < writes.length && writes[at]?.request !== entry.request) at += 1;
      return writes[at]?.arrivedAt ?? input.now;
    });
  }

  /** Just before the step: a commit may have come since the load. */
  refreshed(input: ChainInput): ChainInput {
    if (input.type === 'ReadsReceived') {
      for (const read of input.reads as readonly Read[]) {
        read.stored = this.#objects.fresh(read.key, read.stored);
      }
    } else if (input.type === 'WritesReceived') {
      for (const write of input.writes as readonly Write[]) {
        write.stored = this.#objects.fresh(write.operation.key, write.stored);
      }
    }
    return input;
  }

  /** Just after the step: the disk may be free for the next block. */
  stepped(input: ChainInput): void {
    if (input.type === 'Ticked') this.#dropLate(input.now);
    const mayActivate = input.type === 'Ticked' || input.type === 'PeerSaid';
    if (input.type === 'LogSynced' || input.type === 'ViewPersisted') this.#flushSoon();
    else if (mayActivate && this.#collecting.length > 0) this.#flushSoon();
  }
}

/** A write whose object couldn't be loaded never reached the core: its caller may know that. */
function notApplied(error: KeychainError): KeychainError {
  if (error.reason !== 'INTERNAL' && error.reason !== 'CORRUPT') return error;
  return new KeychainError('NOT_SERVING', `${error.message}; nothing was applied`, {}, error);
}

/** Request ids for callers that bring none, e.g. a bare stub at a node. */
class MintedIds {
  readonly #random: Random;
  #clientId: Uint8Array;
  #seq = 0;
  #usedAt = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#clientId = random.bytes(16);
  }

  /** Nobody can send such a request again, so its outcome is kept no longer than the next ones. */
  next(now: number): RequestId {
    // A client that is silent for long may be expired.
    if (now - this.#usedAt > crowdedSilenceMs / 2) {
      this.#clientId = this.#random.bytes(16);
      this.#seq = 0;
    }
    this.#usedAt = now;
    this.#seq += 1;
    return {
      clientId: this.#clientId,
      seq: this.#seq,
      answeredBelow: Math.max(1, this.#seq - 1_024),
    };
  }
}

import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/*
 * RocksDB's write-ahead log, as far as following a store beside its writer needs it (wiki, "Write Ahead Log
 * File Format", and db/write_batch.cc): files NNNNNN.log of blocks of 32 KiB; a block holds fragments of
 * batches; a batch holds puts and deletes. Checksums are not looked at: our records have their own.
 */

const blockBytes = 32 << 10;
const headerBytes = 7;
/** Checksum, length, type, and the number of the log that it was written for. */
const recyclableHeaderBytes = 11;
/** Sequence number and count. */
const batchHeaderBytes = 12;
const readMax = 256 << 10;

/** One change in the order in which it was written; a delete has no value. */
export interface StoreChange {
  readonly key: Uint8Array;
  readonly value: Uint8Array | undefined;
}

/** Something in the file that this reader doesn't know: whoever asks opens the store instead. */
export class UnknownContent extends Error {}

/** Numbers of the write-ahead logs of a store, oldest first. */
export async function logNumbers(store: string): Promise<readonly number[]> {
  const names = await readdir(store);
  return names
    .filter((name) => /^\d+\.log$/.test(name))
    .map((name) => Number.parseInt(name, 10))
    .sort((a, b) => a - b);
}

/** Reads one file from its beginning, as far as it goes now, and later what was added to it. */
export class WriteAheadLog {
  readonly number: number;
  readonly #file: FileHandle;
  /** Where in the file the bytes in `#rest` begin. */
  #at = 0;
  #rest: Buffer = Buffer.alloc(0);
  /** Read into again and again: what is kept of it is copied. */
  readonly #buffer = Buffer.allocUnsafe(readMax);
  #fragments: Buffer[] = [];

  private constructor(number: number, file: FileHandle) {
    this.number = number;
    this.#file = file;
  }

  static async open(store: string, number: number): Promise<WriteAheadLog> {
    const name = `${String(number).padStart(6, '0')}.log`;
    return new WriteAheadLog(number, await open(join(store, name), 'r'));
  }

  /** Passes over what stands there now. */
  async skip(): Promise<void> {
    while ((await this.#read()) > 0) for (const _ of this.#batches());
  }

  /** The changes of the batches that were added since the last call. Throws UnknownContent. */
  async *added(): AsyncIterable<readonly StoreChange[]> {
    while ((await this.#read()) > 0) for (const batch of this.#batches()) yield changesOf(batch);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Bytes that were added to what is known. */
  async #read(): Promise<number> {
    const from = this.#at + this.#rest.byteLength;
    const { bytesRead } = await this.#file.read(this.#buffer, 0, readMax, from);
    if (bytesRead > 0)
      this.#rest = Buffer.concat([this.#rest, this.#buffer.subarray(0, bytesRead)]);
    return bytesRead;
  }

  /** Whole batches; what is left over stays for the next time. */
  *#batches(): Iterable<Buffer> {
    for (;;) {
      const left = blockBytes - (this.#at % blockBytes);
      if (left < headerBytes) {
        // Too small for a header: filled up with zeros.
        if (!this.#drop(left)) return;
        continue;
      }
      if (this.#rest.byteLength < headerBytes) return;
      const length = this.#rest.readUInt16LE(4);
      const type = this.#rest.readUInt8(6);
      if (type === 0 && length === 0) {
        // Space that was reserved and is not written yet.
        return;
      }
      if (type > 8) throw new UnknownContent(`a fragment of type ${type}`);
      const header = type > 4 ? recyclableHeaderBytes : headerBytes;
      if (header + length > left) throw new UnknownContent('a fragment across blocks');
      if (this.#rest.byteLength < header + length) return;
      const fragment = this.#rest.subarray(header, header + length);
      this.#drop(header + length);
      this.#fragments.push(fragment);
      // Full, first, middle, last; the recyclable ones four further on.
      const isEnd = [1, 4, 5, 8].includes(type);
      if (!isEnd) continue;
      const batch = Buffer.concat(this.#fragments);
      this.#fragments = [];
      yield batch;
    }
  }

  #drop(count: number): boolean {
    if (this.#rest.byteLength < count) return false;
    this.#rest = this.#rest.subarray(count);
    this.#at += count;
    return true;
  }
}

const put = 1;
const del = 0;

function changesOf(batch: Buffer): readonly StoreChange[] {
  const changes: StoreChange[] = [];
  let at = batchHeaderBytes;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = batch[at] ?? 0;
      at += 1;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new UnknownContent('a length of more than 32 bits');
  };
  const bytes = (): Buffer => {
    const length = varint();
    at += length;
    if (at > batch.byteLength) throw new UnknownContent('a batch that ends too early');
    return batch.subarray(at - length, at);
  };
  while (at < batch.byteLength) {
    const tag = batch[at];
    at += 1;
    if (tag === put) {
      const key = bytes();
      changes.push({ key, value: bytes() });
    } else if (tag === del) {
      changes.push({ key: bytes(), value: undefined });
    } else {
      throw new UnknownContent(`a change of type ${tag}`);
    }
  }
  return changes;
}

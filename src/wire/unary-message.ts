import { noBytes } from '../base/bytes.js';

/** Bytes before a message: whether it is compressed, and its length (gRPC over HTTP/2). */
export const frameHeadBytes = 5;

/** What came with a chunk: the call's message, nothing yet, or what is wrong. */
export type Arrived = 'message' | 'more' | 'too large' | 'second message';

/** Puts together the one message of a unary call from the chunks of its body, however they are cut. */
export class UnaryMessage {
  readonly #bytesMax: number;
  readonly #chunks: Buffer[] = [];
  /** Bytes in the chunks. */
  #bytes = 0;
  /** Bytes of the message that is arriving; undefined before its head is there. */
  #length: number | undefined;
  #message: Uint8Array | undefined;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Whole: a copy, since a chunk is a view of all that was read from the socket at once. */
  get message(): Uint8Array | undefined {
    return this.#message;
  }

  /** Bytes of the message that is arriving, by its head. */
  get length(): number {
    return this.#length ?? 0;
  }

  add(chunk: Buffer): Arrived {
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#length === undefined) {
      if (this.#bytes < frameHeadBytes) return 'more';
      const [first = chunk] = this.#chunks;
      const head = first.byteLength < frameHeadBytes ? Buffer.concat(this.#chunks) : first;
      this.#length = head.readUInt32BE(1);
      if (this.#length > this.#bytesMax) return 'too large';
    }
    if (this.#bytes < frameHeadBytes + this.#length) return 'more';
    return this.#message === undefined ? this.#take(this.#length) : 'second message';
  }

  #take(length: number): Arrived {
    const [first = noBytes] = this.#chunks;
    const all = this.#chunks.length === 1 ? first : Buffer.concat(this.#chunks, this.#bytes);
    const end = frameHeadBytes + length;
    this.#message = Buffer.from(all.subarray(frameHeadBytes, end));
    this.#chunks.length = 0;
    this.#bytes = 0;
    this.#length = undefined;
    if (all.byteLength === end) return 'message';
    const next = this.add(Buffer.from(all.subarray(end)));
    return next === 'more' ? 'message' : next;
  }
}

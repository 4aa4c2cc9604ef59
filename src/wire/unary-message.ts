/** Bytes before a message: whether it is compressed, and its length (gRPC over HTTP/2). */
export const frameHeadBytes = 5;

/** What came with a chunk: the call's message, nothing yet, or what is wrong. */
export type Arrived = 'message' | 'more' | 'too large' | 'second message';

/** Puts together the one message of a unary call from the chunks of its body, however they are cut. */
export class UnaryMessage {
  readonly #bytesMax: number;
  /** Chunks of a message that comes in several. */
  #chunks: Buffer[] | undefined;
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
    if (this.#chunks === undefined) {
      // Mostly a body is one chunk.
      const length = chunk.byteLength - frameHeadBytes;
      if (this.#message === undefined && length >= 0 && chunk.readUInt32BE(1) === length) {
        return this.#whole(chunk, length);
      }
      this.#chunks = [];
    }
    this.#chunks.push(chunk);
    this.#bytes += chunk.byteLength;
    if (this.#length === undefined) {
      if (this.#bytes < frameHeadBytes) return 'more';
      const isSplit = (this.#chunks[0]?.byteLength ?? 0) < frameHeadBytes;
      const head = isSplit ? Buffer.concat(this.#chunks) : this.#chunks[0];
      this.#length = head?.readUInt32BE(1) ?? 0;
      if (this.#length > this.#bytesMax) return 'too large';
    }
    const end = frameHeadBytes + this.#length;
    if (this.#bytes < end) return 'more';
    if (this.#message !== undefined) return 'second message';
    const all = Buffer.concat(this.#chunks, this.#bytes);
    this.#chunks = undefined;
    this.#bytes = 0;
    this.#length = undefined;
    const arrived = this.#whole(all.subarray(0, end), end - frameHeadBytes);
    if (all.byteLength === end) return arrived;
    const next = this.add(all.subarray(end));
    return next === 'more' ? 'message' : next;
  }

  #whole(frame: Buffer, length: number): Arrived {
    if (length > this.#bytesMax) {
      this.#length = length;
      return 'too large';
    }
    this.#message = Buffer.from(frame.subarray(frameHeadBytes));
    return 'message';
  }
}

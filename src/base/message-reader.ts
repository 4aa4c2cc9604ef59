import { BinaryReader } from '@bufbuild/protobuf/wire';

/** Reads messages; a uint64 as a number, without a BigInt and a text between them. The generated code uses it. */
export class MessageReader extends BinaryReader {
  readonly #bytes: Uint8Array;
  /** How deep the message lies in others: set by the generated code, named here so that all readers are of one shape. */
  __tsProtoDecodeDepth = 0;

  constructor(bytes: Uint8Array) {
    super(bytes);
    this.#bytes = bytes;
  }

  /** A uint64. Throws RangeError where it is larger than Number.MAX_SAFE_INTEGER, or ends too early. */
  uint64Number(): number {
    let value = 0;
    let factor = 1;
    for (let at = this.pos; at < this.len && factor <= 2 ** 63; at += 1) {
      const byte = this.#bytes[at] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) throw new RangeError('a uint64 above 2^53 - 1');
        this.pos = at + 1;
        return value;
      }
      factor *= 128;
    }
    throw new RangeError('a uint64 that ends too early');
  }
}

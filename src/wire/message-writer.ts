import { BinaryWriter } from '@bufbuild/protobuf/wire';

/** Below it the bytes of a uint64 are those of a uint32. */
const uint32End = 2 ** 32;

/** Writes messages; a uint64 that is small, as revisions and epochs are for long, without a BigInt. */
export class MessageWriter extends BinaryWriter {
  override uint64(value: string | number | bigint): this {
    if (typeof value === 'number' && value >= 0 && value < uint32End) return this.uint32(value);
    return super.uint64(value);
  }
}

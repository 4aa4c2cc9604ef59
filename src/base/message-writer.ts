import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { asBuffer } from './bytes.js';

/** Below it the bytes of a uint64 are those of a uint32. */
const uint32End = 2 ** 32;
/** The low 28 bits of a larger one, seven a byte: what is above them is a uint32 again. */
const low = new Uint8Array(4);
const lowEnd = 2 ** 28;

/** Writes messages; a uint64 without a BigInt. */
export class MessageWriter extends BinaryWriter {
  override uint64(value: string | number | bigint): this {
    if (typeof value !== 'number' || value < 0 || !Number.isSafeInteger(value)) {
      return super.uint64(value);
    }
    if (value < uint32End) return this.uint32(value);
    const bits = value % lowEnd;
    low[0] = (bits & 0x7f) | 0x80;
    low[1] = ((bits >>> 7) & 0x7f) | 0x80;
    low[2] = ((bits >>> 14) & 0x7f) | 0x80;
    low[3] = (bits >>> 21) | 0x80;
    this.raw(low);
    return this.uint32(Math.floor(value / lowEnd));
  }
}

/** What the generated code has for each message. */
interface Encoder<Message> {
  encode(message: Message, writer: BinaryWriter): BinaryWriter;
}

/** Bytes of a message from which on the writer's room is given back. */
const keptBytesMax = 256 << 10;
/** One for all; missing while a message is being written, and after one whose encoder threw. */
let free: MessageWriter | undefined;

/**
 * The bytes of a message. A writer of its own would begin with a small room and double it again and again.
 * @param head bytes to put in front
 */
export function encoded<Message>(
  type: Encoder<Message>,
  message: Message,
  head?: Uint8Array,
): Buffer {
  const writer = free ?? new MessageWriter();
  free = undefined;
  if (head !== undefined) writer.raw(head);
  const bytes = type.encode(message, writer).finish();
  if (bytes.byteLength <= keptBytesMax) free = writer;
  return asBuffer(bytes);
}

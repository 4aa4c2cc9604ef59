import { crc32 } from 'node:zlib';
import { assert } from '../base/assert.js';
import { KeychainError } from '../base/errors.js';
import { encoded } from '../base/message-writer.js';
import { Block, type EntryId, type Envelope } from '../gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from './event-log.js';

/** CRC-32 of an entry's payload, as its envelope carries it. */
export function payloadChecksum(payload: Uint8Array): number {
  return crc32(payload);
}

/** Encodes a block once; it is stored and forwarded as these bytes. */
export function encodeBlock(block: {
  readonly chainId: number;
  readonly previous: EntryId;
  readonly entries: readonly Envelope[];
}): LogBlock {
  const wrong = faultOf(block.previous, block.entries);
  assert(wrong === undefined, `a block is made right: ${wrong}`);
  return {
    ...block,
    bytes: encoded(Block, block),
    end: endOf(block.entries),
  };
}

/** Decodes and checks: order, checksums. Throws CORRUPT, naming the entry. */
export function decodeBlock(bytes: Uint8Array): LogBlock {
  let block: Block;
  try {
    block = Block.decode(bytes);
  } catch (error) {
    throw new KeychainError(
      'CORRUPT',
      `a block of ${bytes.byteLength} bytes can't be decoded`,
      {},
      error,
    );
  }
  const previous = block.previous ?? origin;
  const wrong = faultOf(previous, block.entries) ?? checksumFaultOf(block.entries);
  if (wrong !== undefined) {
    throw new KeychainError('CORRUPT', `the block after entry ${previous.index}: ${wrong}`);
  }
  return {
    bytes,
    chainId: block.chainId,
    previous,
    end: endOf(block.entries),
    entries: block.entries,
  };
}

function endOf(entries: readonly Envelope[]): EntryId {
  const last = entries.at(-1);
  assert(last !== undefined, 'a block is not empty');
  return { generation: last.generation, index: last.index };
}

function faultOf(previous: EntryId, entries: readonly Envelope[]): string | undefined {
  if (entries.length === 0) return 'it is empty';
  let before = previous;
  for (const entry of entries) {
    if (entry.index !== before.index + 1) return `entry ${entry.index} follows ${before.index}`;
    if (entry.generation < before.generation) {
      return `entry ${entry.index}: generation ${entry.generation} follows ${before.generation}`;
    }
    before = entry;
  }
  return undefined;
}

function checksumFaultOf(entries: readonly Envelope[]): string | undefined {
  const wrong = entries.find((entry) => crc32(entry.payload) !== entry.checksum);
  return wrong === undefined ? undefined : `entry ${wrong.index}: its checksum doesn't match`;
}

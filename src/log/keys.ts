import { noBytes } from '../base/bytes.js';
import { EntryId } from '../gen/keychaindb/v1/log.js';

/*
 * The one keyspace (docs/architecture.md, storage): a prefix byte, then the key.
 *
 *   m name                         meta records
 *   l last index of the block      blocks, 8 bytes big-endian
 *   o key                          newest committed object
 *   s client id [, seq]            session; outcome of a request
 *   b number                       marker of a batch that carried no block, or a cut
 *   h last index of the block      hop record: when a traced block passed
 *   c revision, number             chunk of a base; `m base` says which base there is
 */
const prefix = (letter: string): Uint8Array => new TextEncoder().encode(letter);

export const metaPrefix = prefix('m');
export const blockPrefix = prefix('l');
export const objectPrefix = prefix('o');
export const sessionPrefix = prefix('s');
export const markerPrefix = prefix('b');
export const hopPrefix = prefix('h');
/** Outside of what stands between meta records and sessions, which one scan reads. */
export const chunkPrefix = prefix('c');

const clientIdBytes = 16;

export function metaKey(name: string): Uint8Array {
  return new TextEncoder().encode(`m${name}`);
}

export function blockKey(lastIndex: number): Uint8Array {
  return join(blockPrefix, uint64(lastIndex));
}

export function blockIndexOf(key: Uint8Array): number {
  return readUint64(key, blockPrefix.byteLength);
}

export function objectKey(key: Uint8Array): Uint8Array {
  return join(objectPrefix, key);
}

export function sessionKey(clientId: Uint8Array): Uint8Array {
  return join(sessionPrefix, clientId);
}

export function outcomeKey(clientId: Uint8Array, seq: number): Uint8Array {
  return join(sessionPrefix, clientId, uint64(seq));
}

/** The client, and the seq where the key is an outcome's. */
export function parseOutcomeKey(key: Uint8Array): {
  readonly clientId: Uint8Array;
  readonly seq: number | undefined;
} {
  const clientId = new Uint8Array(key.subarray(1, 1 + clientIdBytes));
  const isSession = key.byteLength === 1 + clientIdBytes;
  return { clientId, seq: isSession ? undefined : readUint64(key, 1 + clientIdBytes) };
}

export function hopKey(lastIndex: number): Uint8Array {
  return join(hopPrefix, uint64(lastIndex));
}

export function hopIndexOf(key: Uint8Array): number {
  return readUint64(key, hopPrefix.byteLength);
}

/** Every chunk of the base at a revision. */
export function chunksOf(revision: number): Uint8Array {
  return join(chunkPrefix, uint64(revision));
}

export function chunkKey(revision: number, sequence: number): Uint8Array {
  return join(chunkPrefix, uint64(revision), uint64(sequence));
}

export function markerKey(number: number): Uint8Array {
  return join(markerPrefix, uint64(number));
}

export function markerIndexOf(key: Uint8Array): number {
  return readUint64(key, markerPrefix.byteLength);
}

/** What a marker says: where its batch has cut the log; nothing where it has not. */
export function encodeMarker(cutAfter: EntryId | undefined): Uint8Array {
  if (cutAfter === undefined) return noBytes;
  const id = EntryId.encode(cutAfter).finish();
  return join(Uint8Array.of(id.byteLength), id);
}

export function decodeMarker(value: Uint8Array): EntryId | undefined {
  return value.byteLength === 0 ? undefined : EntryId.decode(value.subarray(1));
}

/** The first key after every key with this prefix. */
export function endOfPrefix(of: Uint8Array): Uint8Array {
  let last = of.byteLength - 1;
  while (of[last] === 0xff) last -= 1;
  const end = new Uint8Array(of.subarray(0, last + 1));
  end[last] = (end[last] ?? 0) + 1;
  return end;
}

function uint64(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeUInt32BE(Math.floor(value / 2 ** 32), 0);
  bytes.writeUInt32BE(value >>> 0, 4);
  return bytes;
}

function readUint64(bytes: Uint8Array, at: number): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(at));
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  let size = 0;
  for (const part of parts) size += part.byteLength;
  const all = Buffer.allocUnsafe(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

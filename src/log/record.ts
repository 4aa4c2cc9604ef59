import { crc32 } from 'node:zlib';
import { KeychainError } from '../base/errors.js';

/*
 * Every value in the store ends in a checksum over its key and itself: the engine hides damage
 * (iterators don't verify, a damaged write-ahead log opens with a hole), so we don't trust it.
 */
const checksumBytes = 4;

export function seal(key: Uint8Array, value: Uint8Array): Uint8Array {
  const sealed = Buffer.allocUnsafe(value.byteLength + checksumBytes);
  sealed.set(value);
  sealed.writeUInt32BE(checksumOf(key, value), value.byteLength);
  return sealed;
}

/** zlib answers 0 for some empty inputs, whatever came before: an empty value is left out. */
function checksumOf(key: Uint8Array, value: Uint8Array): number {
  return value.byteLength === 0 ? crc32(key) : crc32(value, crc32(key));
}

/** The value, a view. Throws CORRUPT, naming the record. */
export function unseal(key: Uint8Array, sealed: Uint8Array): Uint8Array {
  const size = sealed.byteLength - checksumBytes;
  if (size >= 0) {
    const value = sealed.subarray(0, size);
    const stored = new DataView(sealed.buffer, sealed.byteOffset, sealed.byteLength);
    if (stored.getUint32(size) === checksumOf(key, value)) return value;
  }
  throw new KeychainError(
    'CORRUPT',
    `record ${nameOf(key)}: its checksum doesn't match its ${Math.max(0, size)} bytes`,
    { record: nameOf(key) },
  );
}

/** A record's key for a person: prefix letter, then text or hex. */
export function nameOf(key: Uint8Array): string {
  const letter = String.fromCharCode(key[0] ?? 0x3f);
  const rest = Buffer.from(key.subarray(1));
  if ('lb'.includes(letter) && rest.byteLength === 8) return `${letter}/${rest.readBigUInt64BE()}`;
  const text = rest.toString('utf8');
  return `${letter}/${/^[\x20-\x7e]+$/.test(text) ? text : rest.toString('hex')}`;
}

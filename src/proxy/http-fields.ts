import { asBuffer, fromHex } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';
import { fromBase64 } from './json.js';

/** What requests of the HTTP gateway carry in paths, headers and bodies. All throw BAD_REQUEST. */

export function badRequest(field: string, message: string): KeychainError {
  return new KeychainError('BAD_REQUEST', `${field}: ${message}`, { field });
}

const percent = 0x25;

/** The bytes of a percent-encoded text: `%XX` is any byte, everything else stands for itself. */
export function percentDecoded(text: string, field: string): Uint8Array {
  const encoded = Buffer.from(text, 'latin1');
  if (!encoded.includes(percent)) return encoded;
  const decoded = Buffer.allocUnsafe(encoded.byteLength);
  let length = 0;
  for (let index = 0; index < encoded.byteLength; index += 1) {
    let byte = encoded[index] ?? 0;
    if (byte === percent) {
      const hex = text.slice(index + 1, index + 3);
      if (!/^[0-9a-fA-F]{2}$/.test(hex)) {
        throw badRequest(field, `"%${hex}" is not a percent-encoded byte: write % as %25`);
      }
      byte = Number.parseInt(hex, 16);
      index += 2;
    }
    decoded[length] = byte;
    length += 1;
  }
  return decoded.subarray(0, length);
}

/** `x-keychaindb-timeout`, e.g. `2s`, `500ms`; absent: 5 s; more than 60 s is 60 s. In milliseconds. */
export function timeoutMsOf(header: string | undefined): number {
  if (header === undefined) return deadlineMsDefault;
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(header.trim());
  const number = Number(parts?.[1]);
  if (parts === null || !(number > 0)) {
    throw badRequest('x-keychaindb-timeout', `"${header}" is not a time such as 2s or 500ms`);
  }
  const unit = parts[2] === 'ms' ? 1 : parts[2] === 's' ? 1_000 : 60_000;
  return Math.min(Math.max(1, Math.ceil(number * unit)), deadlineMsMax);
}

/** `x-keychaindb-request-id: <hex>:<seq>[:<answeredBelow>]`; its values are checked with the operation. */
export function requestIdOf(header: string | undefined): RequestId | undefined {
  if (header === undefined) return undefined;
  const parts = /^([0-9a-fA-F]*):(\d{1,16})(?::(\d{1,16}))?$/.exec(header.trim());
  const clientId = fromHex(parts?.[1] ?? '');
  if (parts === null || clientId === undefined) {
    throw badRequest(
      'x-keychaindb-request-id',
      `"${header}" is not <32 hex digits>:<seq>[:<answeredBelow>]`,
    );
  }
  return { clientId, seq: Number(parts[2]), answeredBelow: Number(parts[3] ?? 1) };
}

export type JsonObject = Readonly<Record<string, unknown>>;

export function jsonObject(body: Uint8Array): JsonObject {
  let parsed: unknown;
  try {
    parsed = JSON.parse(asBuffer(body).toString());
  } catch (error) {
    throw new KeychainError('BAD_REQUEST', 'body: it is not JSON', { field: 'body' }, error);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw badRequest('body', 'it is not a JSON object');
  }
  return parsed as JsonObject;
}

export function textField(object: JsonObject, field: string): string {
  const value = object[field];
  if (typeof value === 'string') return value;
  throw badRequest(field, value === undefined ? 'it is missing' : 'it is not a string');
}

export function textsField(object: JsonObject, field: string): readonly string[] {
  const value = object[field];
  if (Array.isArray(value) && value.every((each) => typeof each === 'string')) return value;
  throw badRequest(field, value === undefined ? 'it is missing' : 'it is not a list of strings');
}

/** An unset field is false. */
export function flagField(object: JsonObject, field: string): boolean {
  const value = object[field] ?? false;
  if (typeof value === 'boolean') return value;
  throw badRequest(field, 'it is neither true nor false');
}

/** An unset field is 0; a uint64 comes as a number or as text. */
export function wholeField(object: JsonObject, field: string): number {
  const value = object[field] ?? 0;
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isSafeInteger(number) && number >= 0) return number;
  throw badRequest(field, 'it is not a whole number');
}

export function bytesField(object: JsonObject, field: string): Uint8Array {
  const bytes = fromBase64(textField(object, field));
  if (bytes !== undefined) return bytes;
  throw badRequest(field, 'it is not base64');
}

/** `key` as text, or `keyBase64` for one that is not UTF-8. */
export function keyField(object: JsonObject): Uint8Array {
  if (object['keyBase64'] === undefined) return Buffer.from(textField(object, 'key'));
  if (object['key'] === undefined) return bytesField(object, 'keyBase64');
  throw badRequest('keyBase64', 'it stands beside key: send one of them');
}

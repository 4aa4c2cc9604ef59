import { isUtf8 } from 'node:buffer';
import { asBuffer, toHex } from '../../src/base/bytes.js';
import { cut, plain } from '../../src/base/terminal-text.js';

/** UTF-8 where it is, else undefined. */
export function textOrNot(bytes: Uint8Array): string | undefined {
  return isUtf8(bytes) ? asBuffer(bytes).toString('utf8') : undefined;
}

/** For a table: text where it is, else hexadecimal after 0x; one line, at most so many columns. */
export function shown(bytes: Uint8Array, columns: number): string {
  // No character has more than four bytes: what is cut off here would be cut off below.
  const part = bytes.subarray(0, 4 * columns + 4);
  const text = isUtf8(bytes) ? asBuffer(bytes).toString('utf8') : `0x${toHex(part)}`;
  return cut(plain(text), columns);
}

/** For JSON: `name` where it is text, else `nameBase64`. */
export function jsonOf(name: string, bytes: Uint8Array): Readonly<Record<string, string>> {
  const text = textOrNot(bytes);
  return text === undefined
    ? { [`${name}Base64`]: asBuffer(bytes).toString('base64') }
    : { [name]: text };
}

/** UTC, to the millisecond: the same on every machine. */
export function timeOf(milliseconds: number): string {
  return milliseconds > 0 ? new Date(milliseconds).toISOString() : '';
}

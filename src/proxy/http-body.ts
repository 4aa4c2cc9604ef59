import type { IncomingMessage } from 'node:http';
import { noBytes } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { type OperationLimits, validateValueSize } from '../wire/validate.js';

/** Bytes of JSON around a key and a value. */
const jsonSlackBytes = 1_024;
/** A byte of a key in JSON has at most six: \u0000. */
const jsonBytesPerKeyByte = 6;
/** Bytes of a body too large that are read and dropped, so that the client sees the answer. */
const drainBytesMax = 64 << 20;

/** A body that is a value, as it is. */
export function readValueBody(
  message: IncomingMessage,
  limits: OperationLimits,
): Promise<Uint8Array> {
  return readBody(message, limits.valueBytesMax, (bytes) => validateValueSize(bytes, limits));
}

/** A body of JSON that holds a key, and a value in base64. */
export function readJsonBody(
  message: IncomingMessage,
  limits: OperationLimits,
): Promise<Uint8Array> {
  const value = Math.ceil((limits.valueBytesMax * 4) / 3);
  const bytesMax = value + limits.keyBytesMax * jsonBytesPerKeyByte + jsonSlackBytes;
  return readBody(message, bytesMax, (bytes) =>
    // Of the value only this much is known: the body is larger than the largest that could hold one.
    validateValueSize(Math.max(Math.floor((bytes * 3) / 4), limits.valueBytesMax + 1), limits),
  );
}

/** Rejects with what `tooLarge` says once the body was read to its end: the connection stays usable. */
function readBody(
  message: IncomingMessage,
  bytesMax: number,
  tooLarge: (bytes: number) => KeychainError | undefined,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let chunks: Buffer[] = [];
    let bytes = 0;
    const refuse = (): void => {
      reject(tooLarge(bytes) ?? new KeychainError('BAD_REQUEST', 'the body is too large'));
    };
    message.on('data', (chunk: Buffer) => {
      bytes += chunk.byteLength;
      if (bytes <= bytesMax) chunks.push(chunk);
      else chunks = [];
      if (bytes > drainBytesMax + bytesMax) {
        message.removeAllListeners('data');
        message.pause();
        refuse();
      }
    });
    message.on('end', () => {
      if (bytes > bytesMax) refuse();
      else if (chunks.length === 1) resolve(chunks[0] ?? noBytes);
      else resolve(Buffer.concat(chunks, bytes));
    });
    const gone = (): void => {
      reject(new KeychainError('BAD_REQUEST', 'the body ended early', { field: 'body' }));
    };
    message.on('error', gone);
    message.on('aborted', gone);
  });
}

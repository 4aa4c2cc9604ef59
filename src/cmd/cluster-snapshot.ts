import { crc32 } from 'node:zlib';
import { KeychainError } from '../base/errors.js';
import { SnapshotClusterResponse } from '../gen/keychaindb/v1/coordinator.js';

/** First line of a saved snapshot: what it is, its format, and the CRC-32 of the rest in hex. */
const magic = 'keychaindb-cluster-snapshot 1 ';

export function encodeSnapshot(snapshot: SnapshotClusterResponse): Uint8Array {
  const bytes = SnapshotClusterResponse.encode(snapshot).finish();
  return Buffer.concat([Buffer.from(`${magic}${checksum(bytes)}\n`), bytes]);
}

/** Throws KeychainError: BAD_REQUEST where it is none of ours, CORRUPT where it was changed. */
export function decodeSnapshot(file: Uint8Array, name: string): SnapshotClusterResponse {
  const end = file.indexOf(10);
  const line = Buffer.from(file.subarray(0, Math.max(0, end))).toString();
  if (!line.startsWith('keychaindb-cluster-snapshot ')) {
    throw new KeychainError('BAD_REQUEST', `${name} is no snapshot of coordinators`);
  }
  if (!line.startsWith(magic)) {
    throw new KeychainError('BAD_REQUEST', `${name} was saved by a newer version of keychaindb`);
  }
  const bytes = file.subarray(end + 1);
  if (line.slice(magic.length) !== checksum(bytes)) {
    throw new KeychainError('CORRUPT', `${name} is damaged: its checksum is another one`);
  }
  return SnapshotClusterResponse.decode(bytes);
}

function checksum(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}

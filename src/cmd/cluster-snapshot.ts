import { type FileHandle, open, rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { KeychainError } from '../base/errors.js';
import { SnapshotClusterResponse } from '../gen/keychaindb/v1/coordinator.js';

/** First line of a saved snapshot: what it is, its format, and the CRC-32 of the rest in hex. */
const magic = 'keychaindb-cluster-snapshot 1 ';

export function encodeSnapshot(snapshot: SnapshotClusterResponse): Uint8Array {
  const bytes = SnapshotClusterResponse.encode(snapshot).finish();
  return Buffer.concat([Buffer.from(`${magic}${checksum(bytes)}\n`), bytes]);
}

/** A new file, synced, with all of this or not there at all. Rejects with BAD_REQUEST. */
export async function saveNew(file: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(file, 'wx').catch((error: unknown) => {
    throw new KeychainError('BAD_REQUEST', `${file} can't be made: ${String(error)}`, {}, error);
  });
  try {
    // One write may write less than it was given, where the disk is full: this one goes on until it fails.
    await writeAll(handle, bytes);
  } catch (error) {
    await rm(file, { force: true });
    const message = `${file} can't be written and was removed: ${String(error)}; choose another place`;
    throw new KeychainError('BAD_REQUEST', message, {}, error);
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
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

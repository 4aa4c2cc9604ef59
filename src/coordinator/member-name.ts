import { KeychainError } from '../base/errors.js';
import { idBytesMax } from '../base/limits.js';
import { addressBytesMax } from './limits.js';

/** What an id and an address may be, of a node or a coordinator. Throws KeychainError BAD_REQUEST. */
export function checkMember(id: string, address: string): void {
  if (id === '' || id.length > idBytesMax || /[^\w.-]/.test(id)) {
    throw new KeychainError(
      'BAD_REQUEST',
      `id: 1 to ${idBytesMax} letters, digits, dots, dashes and underscores`,
      { field: 'id' },
    );
  }
  const isAddress = /^[^\s:/]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$/.test(address);
  if (!isAddress || address.length > addressBytesMax) {
    throw new KeychainError(
      'BAD_REQUEST',
      `address: host:port is wanted, not "${address.slice(0, 80)}"`,
      {
        field: 'address',
      },
    );
  }
}

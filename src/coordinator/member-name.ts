import { KeychainError } from '../base/errors.js';
import { idBytesMax } from '../base/limits.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import { addressBytesMax, chainLengthMax, membersMax } from './limits.js';

/** What an id and an address may be, of a node or a coordinator. Throws KeychainError BAD_REQUEST. */
export function checkMember(id: string, address: string): void {
  const wrong = wrongMember(id, address);
  if (wrong !== undefined) throw wrong;
}

/** What is wrong with an id and an address that came by themselves; undefined: nothing is. */
export function wrongMember(id: string, address: string): KeychainError | undefined {
  const wrong = wrongId(id);
  if (wrong !== '') return new KeychainError('BAD_REQUEST', `id: ${wrong}`, { field: 'id' });
  if (address.length <= addressBytesMax && isAddress(address)) return undefined;
  const message = `address: host:port is wanted, not "${address.slice(0, 80)}"`;
  return new KeychainError('BAD_REQUEST', message, { field: 'address' });
}

/** What an id of a process is wanted to be; '' where it is so. Ids travel in headers, and in names of metrics. */
export function wrongId(id: string): string {
  const isWellFormed = id !== '' && id.length <= idBytesMax && !/[^\w.-]/.test(id);
  // Maps of messages that have ids as keys can't have this one.
  if (isWellFormed && id !== '__proto__') return '';
  return `1 to ${idBytesMax} letters, digits, dots, dashes and underscores, and not __proto__`;
}

function isAddress(address: string): boolean {
  const match = /^(?:[^\s:/]+|\[[0-9a-fA-F:]+\]):(\d{1,5})$/.exec(address);
  return match !== null && Number(match[1]) <= 65_535;
}

/**
 * Ids that an operator names, before they get into the log, which every coordinator keeps and decides again. What names
 * members is never refused, whatever an earlier version has let in. Throws KeychainError BAD_REQUEST.
 */
export function checkNamed(field: string, ids: readonly string[], view: View): void {
  const most = Math.max(chainLengthMax, view.members.length);
  if (ids.length > most) {
    const message = `${field}: at most ${most} ids, not ${ids.length}: name members of the chain, each once`;
    throw new KeychainError('BAD_REQUEST', message, { field });
  }
  const known = new Set([...view.members, ...view.others].map((m) => m.id));
  const long = ids.find((id) => id.length > idBytesMax && !known.has(id));
  if (long === undefined) return;
  const message = `${field}: an id has at most ${idBytesMax} letters, not ${long.length}: name a member of the chain`;
  throw new KeychainError('BAD_REQUEST', message, { field });
}

/** Why no further member is taken in; '' where there is room. */
export function whyFull({ members, others }: View): string {
  const count = members.length + others.length;
  if (count < membersMax) return '';
  return `there are ${count} members, and the limit is ${membersMax}: remove one first (keychaindb chain remove ID)`;
}

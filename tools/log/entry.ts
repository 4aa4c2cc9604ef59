import { noBytes, toHex } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { cut, padded } from '../../src/base/terminal-text.js';
import { type Member, RegistryCommand } from '../../src/gen/keychaindb/v1/coordinator.js';
import {
  ChainRecord,
  type Envelope,
  RaftGroup,
  type RequestId,
} from '../../src/gen/keychaindb/v1/log.js';
import type { FolderKind } from '../../src/log/data-folder.js';
import { traceIdOf } from '../../src/telemetry/trace-context.js';
import { jsonOf, shown, timeOf } from './text.js';

/** What an entry says, for people and filters. */
export interface EntryView {
  readonly entry: Envelope;
  readonly type: EntryType;
  /** The key that is written, or the id of the member that is named; undefined where there is none. */
  readonly name: Uint8Array | undefined;
  readonly value: Uint8Array | undefined;
  /** What else the payload says, as it stands in JSON. */
  readonly rest: Readonly<Record<string, unknown>>;
}

/** Of an entry that names nothing and was never written: to ask a filter about a name alone. */
export const nobody: EntryView = {
  entry: {
    generation: 0,
    index: 0,
    at: 0,
    request: undefined,
    trace: noBytes,
    payload: noBytes,
    checksum: 0,
    isGroup: false,
  },
  type: '',
  name: undefined,
  value: undefined,
  rest: {},
};

export const nodeTypes = ['put', 'delete', 'sessions-expired', 'nothing'] as const;
export const coordinatorTypes = [
  ...['create-cluster', 'add-member', 'remove-member', 'register', 'evict', 'start-sync'],
  ...['start-join', 'promote', 'reinstate', 'leader', 'drain-member', 'change-group'],
  ...['reorder-chain', 'recover-chain', 'set-chain-length'],
] as const;

export type EntryType = string;

export function typesOf(kind: FolderKind): readonly EntryType[] {
  return kind === 'node' ? nodeTypes : coordinatorTypes;
}

/** Throws CORRUPT where the payload can't be decoded. */
export function viewOf(kind: FolderKind, entry: Envelope): EntryView {
  try {
    return kind === 'node' ? nodeView(entry) : coordinatorView(entry);
  } catch (error) {
    const message = `entry ${entry.index} of generation ${entry.generation}: its payload can't be decoded`;
    throw new KeychainError('CORRUPT', message, {}, error);
  }
}

function nodeView(entry: Envelope): EntryView {
  const { record } = ChainRecord.decode(entry.payload);
  switch (record?.$case) {
    case 'put': {
      const { key, value, createRevision, version } = record.value;
      const rest = { valueBytes: value.byteLength, createRevision, version };
      return { entry, type: 'put', name: key, value, rest };
    }
    case 'delete': {
      const { key, existed } = record.value;
      return { entry, type: 'delete', name: key, value: undefined, rest: { existed } };
    }
    case 'sessionsExpired':
      return plainView(entry, 'sessions-expired', { clients: record.value.clientIds.map(toHex) });
    case 'nothing':
      return plainView(entry, 'nothing', {});
    case undefined:
      throw new Error('a record that this version does not know');
  }
}

function coordinatorView(entry: Envelope): EntryView {
  if (entry.isGroup) return groupView(entry);
  // A leader begins its term with an entry of its own, without a command (Raft §8).
  if (entry.payload.byteLength === 0) return plainView(entry, 'leader', {});
  const { command } = RegistryCommand.decode(entry.payload);
  switch (command?.$case) {
    case 'createCluster': {
      const { clusterId, chainId } = command.value;
      return plainView(entry, 'create-cluster', { clusterId: toHex(clusterId), chainId });
    }
    case 'addMember': {
      const { id, address, spare, expectedEpoch } = command.value;
      const rest = { address, ...(spare ? { spare } : {}), ...epochOf(expectedEpoch) };
      return member(entry, 'add-member', id, rest);
    }
    case 'removeMember':
    case 'drainMember': {
      const { id, expectedEpoch } = command.value;
      return member(entry, kebab(command.$case), id, epochOf(expectedEpoch));
    }
    case 'reorderChain': {
      const { ids, expectedEpoch } = command.value;
      return plainView(entry, 'reorder-chain', { ids, ...epochOf(expectedEpoch) });
    }
    case 'setChainLength': {
      const { length, expectedEpoch } = command.value;
      return plainView(entry, 'set-chain-length', { length, ...epochOf(expectedEpoch) });
    }
    case 'recoverChain': {
      const { id, lostIds, expectedEpoch } = command.value;
      return member(entry, 'recover-chain', id, { lostIds, ...epochOf(expectedEpoch) });
    }
    case 'register': {
      const { id, incarnation, storeId, address, keepsPlace } = command.value;
      const rest = { incarnation, storeId: toHex(storeId), address, keepsPlace };
      return member(entry, 'register', id, rest);
    }
    case 'changeView': {
      const { expectedEpoch, change } = command.value;
      if (change === undefined) throw new Error('a change that this version does not know');
      const { id, incarnation } = change.value;
      return member(entry, kebab(change.$case), id, { incarnation, expectedEpoch });
    }
    case undefined:
      throw new Error('a command that this version does not know');
  }
}

/** The coordinators from this entry on. */
function groupView(entry: Envelope): EntryView {
  const { members, removed } = RaftGroup.decode(entry.payload);
  const named = members.map(({ id, learner }) => (learner ? `${id} (learner)` : id));
  return plainView(entry, 'change-group', { members: named, removed });
}

/** Of a command that any epoch does for nothing is said. */
function epochOf(expectedEpoch: number): Readonly<Record<string, unknown>> {
  return expectedEpoch === 0 ? {} : { expectedEpoch };
}

function plainView(
  entry: Envelope,
  type: EntryType,
  rest: Readonly<Record<string, unknown>>,
): EntryView {
  return { entry, type, name: undefined, value: undefined, rest };
}

function member(
  entry: Envelope,
  type: EntryType,
  id: Member['id'],
  rest: Readonly<Record<string, unknown>>,
): EntryView {
  return { entry, type, name: new TextEncoder().encode(id), value: undefined, rest };
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `<client id in hex>:<seq>`; '' where there is none. */
export function requestText(request: RequestId | undefined): string {
  return request === undefined ? '' : `${toHex(request.clientId)}:${request.seq}`;
}

/** One object a line (docs/names.md). */
export function entryJson(
  kind: FolderKind,
  view: EntryView,
  more: Readonly<Record<string, unknown>> = {},
): string {
  return JSON.stringify({ ...entryObject(kind, view), ...more });
}

export function entryObject(kind: FolderKind, view: EntryView): Readonly<Record<string, unknown>> {
  const { entry, type, name, value, rest } = view;
  const request = requestText(entry.request);
  const traceId = traceIdOf(entry.trace);
  return {
    ...(kind === 'node'
      ? { revision: entry.index, epoch: entry.generation }
      : { index: entry.index, term: entry.generation }),
    time: timeOf(entry.at),
    type,
    ...(name === undefined ? {} : jsonOf(kind === 'node' ? 'key' : 'id', name)),
    ...(value === undefined ? {} : jsonOf('value', value)),
    ...rest,
    ...(request === '' ? {} : { request }),
    ...(traceId === '' ? {} : { traceId }),
  };
}

/** Columns: fixed, since a stream doesn't know what comes. */
const columns = { index: 10, generation: 6, time: 24, type: 16, name: 24, what: 40 };

export function entryHeader(kind: FolderKind): string {
  const [index, generation, name] =
    kind === 'node' ? ['REVISION', 'EPOCH', 'KEY'] : ['INDEX', 'TERM', 'MEMBER'];
  const cells = [index ?? '', generation ?? '', 'TIME', 'TYPE', name ?? ''];
  return kind === 'node' ? row([...cells, 'WHAT'], 'REQUEST') : row(cells, 'WHAT');
}

export function entryRow(kind: FolderKind, view: EntryView): string {
  const { entry, type, name } = view;
  const what = name === undefined ? '' : shown(name, columns.name);
  const cells = [`${entry.index}`, `${entry.generation}`, timeOf(entry.at), type, what];
  return kind === 'node'
    ? row([...cells, cut(whatOf(view), columns.what)], requestText(entry.request))
    : row(cells, whatOf(view));
}

function row(cells: readonly string[], last: string): string {
  const widths = Object.values(columns);
  const line = cells.map((cell, i) => padded(cell, widths[i] ?? 0)).join('  ');
  return `${line}  ${last}`.trimEnd();
}

/** The value where there is one, else what the entry says besides. */
export function whatOf({ value, rest }: EntryView): string {
  if (value !== undefined) return shown(value, columns.what);
  const said = Object.entries(rest).filter(([, of]) => of !== '' && of !== false);
  return said.map(([name, of]) => `${name}=${String(of)}`).join(' ');
}

import { equalBytes, toHex } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import type { Envelope } from '../../src/gen/keychaindb/v1/log.js';
import type { FolderKind } from '../../src/log/data-folder.js';
import { traceIdOf } from '../../src/telemetry/trace-context.js';
import { type EntryView, typesOf } from './entry.js';

/** Which entries are wanted; what is absent asks for nothing. */
export interface FilterFlags {
  readonly key?: Uint8Array;
  readonly prefix?: Uint8Array;
  /** First and last entry. */
  readonly from?: number;
  readonly until?: number;
  readonly epoch?: number;
  readonly term?: number;
  readonly type?: readonly string[];
  readonly request?: { readonly clientId: string; readonly seq: number | undefined };
  readonly trace?: string;
  /** Milliseconds since 1970: at or after the one, before the other. */
  readonly since?: number;
  readonly before?: number;
}

/** Cheap questions first: an entry that they turn away isn't decoded. */
export interface EntryFilter {
  readonly envelope: (entry: Envelope) => boolean;
  readonly view: (view: EntryView) => boolean;
}

/** Throws BAD_REQUEST where a flag doesn't fit the kind of log. */
export function filterOf(kind: FolderKind, flags: FilterFlags): EntryFilter {
  const { key, prefix, from = 1, until = Number.POSITIVE_INFINITY, request, trace } = flags;
  const generation = generationOf(kind, flags);
  const types = wantedTypes(kind, flags.type);
  const since = flags.since ?? Number.NEGATIVE_INFINITY;
  const before = flags.before ?? Number.POSITIVE_INFINITY;
  return {
    envelope: (entry) =>
      entry.index >= from &&
      entry.index <= until &&
      entry.at >= since &&
      entry.at < before &&
      (generation === undefined || entry.generation === generation) &&
      (request === undefined || isFrom(entry, request)) &&
      (trace === undefined || traceIdOf(entry.trace) === trace),
    view: ({ type, name }) =>
      (types === undefined || types.has(type)) &&
      (key === undefined || (name !== undefined && equalBytes(name, key))) &&
      (prefix === undefined || (name !== undefined && startsWith(name, prefix))),
  };
}

export function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return equalBytes(bytes.subarray(0, prefix.byteLength), prefix);
}

function generationOf(kind: FolderKind, { epoch, term }: FilterFlags): number | undefined {
  if (kind === 'node' && term !== undefined) {
    throw badFlag('--term', "this is a node's log: its entries have an epoch");
  }
  if (kind === 'coordinator' && epoch !== undefined) {
    throw badFlag('--epoch', "this is a coordinator's log: its entries have a term");
  }
  return epoch ?? term;
}

function wantedTypes(
  kind: FolderKind,
  types: readonly string[] | undefined,
): ReadonlySet<string> | undefined {
  if (types === undefined) return undefined;
  const known = typesOf(kind);
  const wrong = types.find((type) => !known.includes(type));
  if (wrong === undefined) return new Set(types);
  throw badFlag('--type', `"${wrong}" is none; a ${kind}'s log has ${known.join(', ')}`);
}

function isFrom(
  { request }: Envelope,
  wanted: { readonly clientId: string; readonly seq: number | undefined },
): boolean {
  if (request === undefined || toHex(request.clientId) !== wanted.clientId) return false;
  return wanted.seq === undefined || request.seq === wanted.seq;
}

export function badFlag(field: string, why: string): KeychainError {
  return new KeychainError('BAD_REQUEST', `${field}: ${why}`, { field });
}

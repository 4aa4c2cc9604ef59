import { assert } from '../base/assert.js';
import { toMapKey } from '../base/bytes.js';
import {
  ChainRecord,
  type EntryId,
  type Envelope,
  type Outcome,
  type RequestId,
  type SessionRecord,
} from '../gen/keychaindb/v1/log.js';
import type { LogBlock } from '../log/event-log.js';
import { origin } from '../log/event-log.js';
import { expiredSessionsMax } from './limits.js';
import { cutAfter, extend, idAt } from './spans.js';
import type { Ledger, Session, StagedBlock, StagedEntry, StagedVersion } from './state.js';

/** What a commit changes in the store; filled while the ledger folds, in order. */
export interface StoreChanges {
  object(key: Uint8Array, version: StagedVersion): void;
  /** An outcome to keep, or (undefined) to forget. */
  outcome(clientId: string, seq: number, outcome: Outcome | undefined): void;
  /** A session as it is now, or (undefined) that nothing is known of this client any more. */
  session(clientId: string, record: SessionRecord | undefined): void;
}

const nowhere: StoreChanges = {
  object: () => undefined,
  outcome: () => undefined,
  session: () => undefined,
};

export function emptyLedger(): Ledger {
  return {
    last: origin,
    synced: origin,
    watermark: origin,
    spans: [],
    bytes: 0,
    staged: [],
    stagedBytes: 0,
    stagedEntries: 0,
    dirty: new Map(),
    sessions: new Map(),
    expired: new Map(),
    expiring: new Set(),
    lastAt: 0,
  };
}

/** Appends a block: its versions and outcomes are staged, kept apart from committed ones (R12). */
export function stageBlock(ledger: Ledger, block: LogBlock): void {
  assert(
    block.previous.index === ledger.last.index &&
      block.previous.generation === ledger.last.generation,
    'a block follows the end of the one before',
    { previous: block.previous, last: ledger.last },
  );
  const entries: StagedEntry[] = [];
  for (const envelope of block.entries) {
    const { record } = ChainRecord.decode(envelope.payload);
    assert(record !== undefined, 'an entry has a record', { index: envelope.index });
    entries.push(stageEntry(ledger, envelope, record));
  }
  ledger.staged.push({
    previous: block.previous,
    end: block.end,
    bytes: block.bytes.byteLength,
    entries,
  });
  ledger.bytes += block.bytes.byteLength;
  ledger.stagedBytes += block.bytes.byteLength;
  ledger.stagedEntries += entries.length;
  extend(ledger.spans, block.end.generation, block.previous.index + 1, block.end.index);
  ledger.last = block.end;
}

function stageEntry(
  ledger: Ledger,
  envelope: Envelope,
  record: StagedEntry['record'],
): StagedEntry {
  const { generation, index, request } = envelope;
  ledger.lastAt = Math.max(ledger.lastAt, envelope.at);
  const written = versionOf(index, record);
  const key = written === undefined ? undefined : toMapKey(written.key);
  if (written !== undefined && key !== undefined) {
    const versions = ledger.dirty.get(key);
    if (versions === undefined) ledger.dirty.set(key, [written.version]);
    else versions.push(written.version);
  }
  if (record.$case === 'sessionsExpired') {
    for (const id of record.value.clientIds) ledger.expiring.add(toMapKey(id));
  }
  const client = request === undefined ? undefined : toMapKey(request.clientId);
  if (request !== undefined && client !== undefined) {
    sessionOf(ledger, client).staged.set(request.seq, { generation, index });
  }
  return { envelope, record, key, client };
}

/** The key and version that a record writes; undefined for one that writes none. */
export function versionOf(
  revision: number,
  record: StagedEntry['record'],
): { readonly key: Uint8Array; readonly version: StagedVersion } | undefined {
  switch (record.$case) {
    case 'put':
      return {
        key: record.value.key,
        version: {
          revision,
          value: record.value.value,
          createRevision: record.value.createRevision,
          version: record.value.version,
        },
      };
    case 'delete':
      return {
        key: record.value.key,
        version: { revision, value: undefined, createRevision: 0, version: 0 },
      };
    case 'sessionsExpired':
    case 'nothing':
      return undefined;
  }
}

export function outcomeOf(id: EntryId, record: StagedEntry['record']): Outcome {
  return {
    revision: id.index,
    generation: id.generation,
    existed: record.$case === 'delete' && record.value.existed,
  };
}

/** The session of a client; a new one where it has none. */
export function sessionOf(ledger: Ledger, client: string): Session {
  let session = ledger.sessions.get(client);
  if (session === undefined) {
    session = {
      outcomes: new Map(),
      staged: new Map(),
      answeredBelow: 1,
      lastRevision: 0,
      lastAt: 0,
    };
    ledger.sessions.set(client, session);
  }
  return session;
}

/** Removes everything after `after`, a block's end at or above the watermark, newest first. */
export function cutSuffix(ledger: Ledger, after: EntryId): void {
  assert(after.index >= ledger.watermark.index, 'a cut never goes below the watermark', {
    after,
    watermark: ledger.watermark,
  });
  while (ledger.last.index > after.index) {
    const block = ledger.staged.pop();
    assert(block !== undefined, 'what is above the watermark is staged', { last: ledger.last });
    assert(block.previous.index >= after.index, 'a cut falls on the end of a block', { after });
    for (const entry of block.entries.toReversed()) unstageEntry(ledger, entry);
    ledger.bytes -= block.bytes;
    ledger.stagedBytes -= block.bytes;
    ledger.stagedEntries -= block.entries.length;
    ledger.last = block.previous;
  }
  assert(ledger.last.generation === after.generation, 'a cut names an entry that is here', {
    after,
    last: ledger.last,
  });
  ledger.spans = cutAfter(ledger.spans, after.index);
  if (ledger.synced.index > after.index) ledger.synced = after;
}

function unstageEntry(ledger: Ledger, { envelope, record, key, client }: StagedEntry): void {
  if (record.$case === 'sessionsExpired') {
    for (const id of record.value.clientIds) ledger.expiring.delete(toMapKey(id));
  }
  if (key !== undefined) {
    const versions = ledger.dirty.get(key);
    assert(versions?.at(-1)?.revision === envelope.index, 'the newest version is cut first', {
      index: envelope.index,
    });
    versions.pop();
    if (versions.length === 0) ledger.dirty.delete(key);
  }
  if (envelope.request === undefined || client === undefined) return;
  const session = ledger.sessions.get(client);
  assert(session !== undefined, 'a staged request has a session', { index: envelope.index });
  session.staged.delete(envelope.request.seq);
  const empty = session.staged.size === 0 && session.outcomes.size === 0;
  if (empty && session.lastAt === 0) ledger.sessions.delete(client);
}

/** Commits every block up to `through`, a block's end that is in the log. */
export function commitThrough(
  ledger: Ledger,
  through: EntryId,
  changes: StoreChanges = nowhere,
): void {
  assert(through.index <= ledger.last.index, 'only what is in the log is committed', {
    through,
    last: ledger.last,
  });
  let count = 0;
  for (const block of ledger.staged) {
    if (block.end.index > through.index) break;
    commitBlock(ledger, block, changes);
    count += 1;
  }
  ledger.staged.splice(0, count);
  assert(ledger.watermark.index === through.index, 'a watermark is the end of a block', {
    through,
    watermark: ledger.watermark,
  });
  assert(idAt(ledger.spans, through.index).generation === through.generation, 'same entry', {
    through,
  });
}

function commitBlock(ledger: Ledger, block: StagedBlock, changes: StoreChanges): void {
  const touched = new Set<string>();
  for (const entry of block.entries) {
    const { envelope, record, key, client } = entry;
    if (key !== undefined && (record.$case === 'put' || record.$case === 'delete')) {
      changes.object(record.value.key, commitVersion(ledger, key, envelope.index));
    } else if (record.$case === 'sessionsExpired') {
      for (const id of record.value.clientIds) {
        expire(ledger, toMapKey(id), envelope.at, changes);
      }
    }
    if (envelope.request !== undefined && client !== undefined) {
      recordOutcome(ledger, client, envelope.request, entry, changes);
      touched.add(client);
    }
  }
  for (const client of touched) changes.session(client, recordOf(sessionOf(ledger, client)));
  ledger.stagedBytes -= block.bytes;
  ledger.stagedEntries -= block.entries.length;
  ledger.watermark = block.end;
}

/** The oldest version of a key isn't above the watermark any more. */
function commitVersion(ledger: Ledger, key: string, index: number): StagedVersion {
  const versions = ledger.dirty.get(key);
  const version = versions?.[0];
  assert(version?.revision === index, 'versions are committed in order', { index });
  if (versions?.length === 1) ledger.dirty.delete(key);
  else versions?.shift();
  return version;
}

function recordOutcome(
  ledger: Ledger,
  client: string,
  request: RequestId,
  { envelope, record }: StagedEntry,
  changes: StoreChanges,
): void {
  const session = sessionOf(ledger, client);
  assert(!session.outcomes.has(request.seq), 'a request is committed at most once', {
    seq: request.seq,
    index: envelope.index,
  });
  const outcome = outcomeOf(envelope, record);
  session.staged.delete(request.seq);
  session.outcomes.set(request.seq, outcome);
  session.lastRevision = outcome.revision;
  session.lastAt = Math.max(session.lastAt, envelope.at);
  // It may have been forgotten by some, and run here: at all who apply this it is a client again.
  ledger.expired.delete(client);
  changes.outcome(client, request.seq, outcome);
  if (request.answeredBelow > session.answeredBelow) {
    session.answeredBelow = request.answeredBelow;
    // In order of commit, so nearly in order of seq: what a stop leaves behind goes with a later one.
    for (const seq of session.outcomes.keys()) {
      if (seq >= session.answeredBelow) break;
      session.outcomes.delete(seq);
      changes.outcome(client, seq, undefined);
    }
  }
}

function recordOf({ answeredBelow, lastAt }: Session): SessionRecord {
  return { answeredBelow, lastAt, expired: false, expiredAt: 0 };
}

/** @param at of the entry that says so, wall milliseconds */
function expire(ledger: Ledger, client: string, at: number, changes: StoreChanges): void {
  ledger.expiring.delete(client);
  const session = ledger.sessions.get(client);
  if (session !== undefined) {
    for (const seq of session.outcomes.keys()) changes.outcome(client, seq, undefined);
    session.outcomes.clear();
    session.answeredBelow = 1;
    session.lastRevision = 0;
    session.lastAt = 0;
    if (session.staged.size === 0) ledger.sessions.delete(client);
  }
  ledger.expired.delete(client);
  ledger.expired.set(client, at);
  changes.session(client, { answeredBelow: 1, lastAt: 0, expired: true, expiredAt: at });
  for (const [oldest] of ledger.expired) {
    if (ledger.expired.size <= expiredSessionsMax) break;
    ledger.expired.delete(oldest);
    // A log of 0.1.0 may hold a write of a client after its expiry.
    const left = ledger.sessions.get(oldest);
    changes.session(oldest, left && recordOf(left));
  }
}

/** After the records of a store were taken, which are in order of their keys: oldest first, and no more than are remembered. */
export function sortExpired({ expired }: Ledger): void {
  const sorted = [...expired].sort(([a, at], [b, bt]) => at - bt || (a < b ? -1 : 1));
  expired.clear();
  for (const [client, at] of sorted.slice(-expiredSessionsMax)) expired.set(client, at);
}

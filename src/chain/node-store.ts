import { toMapKey } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { View } from '../gen/keychaindb/v1/coordinator.js';
import { EntryId, LogSpans, Outcome, SessionRecord } from '../gen/keychaindb/v1/log.js';
import { decodeBlock } from '../log/block.js';
import type { WriteOp } from '../log/engine.js';
import { type EventLog, isDamage, type LogBlock } from '../log/event-log.js';
import { blockKey, blockPrefix, metaKey, parseOutcomeKey, sessionPrefix } from '../log/keys.js';
import { incompleteKey, readBase, revisionOf } from './base.js';
import { emptyLedger, sessionOf, sortExpired, stageBlock } from './fold.js';
import type { Kept } from './kept.js';
import type { Remembered } from './start.js';
import type { Ledger } from './state.js';

/** Of what is committed here; written with the objects, in one batch. */
export const watermarkKey = metaKey('watermark');
export const spansKey = metaKey('spans');

const names = {
  seen: metaKey('seen'),
  leaseMax: metaKey('lease-max'),
  watermark: watermarkKey,
  spans: spansKey,
};

/** What a start needs from the disk: the ledger as it was at the stored watermark, with the log above it staged. */
export async function remember(log: EventLog): Promise<Remembered> {
  const leaseBytes = await log.get(names.leaseMax);
  const leaseMaxMs = leaseBytes === undefined ? 0 : Number(new TextDecoder().decode(leaseBytes));
  if ((await log.get(incompleteKey)) !== undefined) {
    throw new KeychainError('CORRUPT', 'it holds a part of a snapshot');
  }
  const ledger = await rememberLedger(log);
  const kept = await rememberKept(log, ledger);
  return { ledger, kept, seen: await rememberSeen(log), leaseMaxMs };
}

/** Blocks that are looked at to tell how long a log is: to read it all would take too long. */
const samplesMax = 32;

/** What of the log is there; its bytes by a sample of its blocks, before those that the ledger counts. */
async function rememberKept(log: EventLog, ledger: Ledger): Promise<Kept> {
  const { start } = log;
  const base = await readBase(log);
  const at = base === undefined ? start : revisionOf(base);
  const isLost = base === undefined && start.index > 0;
  if (isLost || at.index < start.index || at.index > ledger.watermark.index) {
    throw new KeychainError(
      'CORRUPT',
      `the log begins after entry ${start.index}, and the base is of ${at.index}`,
    );
  }
  const perEntry = await sampleBytes(log, start.index, ledger.watermark.index);
  const bytes = ({ index }: EntryId): number =>
    -Math.round(perEntry * (ledger.watermark.index - index));
  return { start: { id: start, bytes: bytes(start) }, base: { id: at, bytes: bytes(at) } };
}

/** The first block from an entry on; one that can't be read is left to who needs it. */
async function firstBlock(log: EventLog, index: number): Promise<LogBlock | undefined> {
  try {
    for await (const [, value] of log.scan(blockKey(index), blockPrefix)) return decodeBlock(value);
  } catch (error) {
    if (!isDamage(error)) throw error;
  }
  return undefined;
}

/** Bytes of a block for each of its entries, on average. */
async function sampleBytes(log: EventLog, after: number, through: number): Promise<number> {
  const step = Math.max(1, Math.ceil((through - after) / samplesMax));
  let [bytes, entries] = [0, 0];
  for (let index = after + 1; index <= through; index += step) {
    const block = await firstBlock(log, index);
    bytes += block?.bytes.byteLength ?? 0;
    entries += block?.entries.length ?? 0;
  }
  return entries === 0 ? 0 : bytes / entries;
}

/** The newest view that this store has seen. */
export async function rememberSeen(log: Pick<EventLog, 'get'>): Promise<View | undefined> {
  const bytes = await log.get(names.seen);
  return bytes === undefined ? undefined : View.decode(bytes);
}

/** The ledger as it was at the stored watermark, with the log above it staged. */
export async function rememberLedger(log: EventLog): Promise<Ledger> {
  const ledger = emptyLedger();
  const watermark = await log.get(names.watermark);
  if (watermark !== undefined) {
    const id = EntryId.decode(watermark);
    if (id.index > log.last.index) {
      // The end of the log is gone, and the high-water file is too old to tell.
      throw new KeychainError(
        'CORRUPT',
        `the log ends at entry ${log.last.index}; entry ${id.index} was committed here`,
      );
    }
    ledger.watermark = id;
    ledger.last = id;
    const spans = await log.get(names.spans);
    // `last` of the newest span moves without a write of the record: the log's end says it.
    ledger.spans = (spans === undefined ? [] : LogSpans.decode(spans).spans)
      .filter((s) => s.first <= id.index)
      .map((s, i, all) => ({
        ...s,
        last: Math.min(id.index, (all[i + 1]?.first ?? Number.POSITIVE_INFINITY) - 1),
      }));
  }
  await rememberSessions(log, ledger);
  // Times never go back: what the newest committed entry says may be told by no session.
  const committed = await log.blockEndingAt(ledger.watermark.index);
  const time = committed?.entries.at(-1)?.at ?? (await readBase(log))?.time ?? 0;
  ledger.lastAt = Math.max(ledger.lastAt, time);
  for await (const block of log.read(ledger.watermark)) stageBlock(ledger, block);
  ledger.synced = ledger.last;
  return ledger;
}

async function rememberSessions(log: EventLog, ledger: Ledger): Promise<void> {
  for await (const [key, value] of log.scan(sessionPrefix)) rememberSession(ledger, key, value);
  sortExpired(ledger);
}

/** Takes one stored record of a session, or of one of its outcomes. */
export function rememberSession(ledger: Ledger, key: Uint8Array, value: Uint8Array): void {
  const { clientId, seq } = parseOutcomeKey(key);
  const client = toMapKey(clientId);
  if (seq !== undefined) {
    const session = sessionOf(ledger, client);
    const outcome = Outcome.decode(value);
    session.outcomes.set(seq, outcome);
    session.lastRevision = Math.max(session.lastRevision, outcome.revision);
    return;
  }
  const record = SessionRecord.decode(value);
  ledger.lastAt = Math.max(ledger.lastAt, record.lastAt);
  if (record.expired) {
    ledger.expired.set(client, record.expiredAt);
    return;
  }
  const session = sessionOf(ledger, client);
  session.answeredBelow = Math.max(1, record.answeredBelow);
  session.lastAt = record.lastAt;
}

export function recordSeen(view: View): readonly WriteOp[] {
  return [{ type: 'put', key: names.seen, value: View.encode(view).finish() }];
}

export function recordLeaseMax(leaseMs: number): readonly WriteOp[] {
  return [{ type: 'put', key: names.leaseMax, value: new TextEncoder().encode(String(leaseMs)) }];
}

export function recordSpans(ledger: Ledger): readonly WriteOp[] {
  const value = LogSpans.encode({ spans: ledger.spans }).finish();
  return [{ type: 'put', key: names.spans, value }];
}

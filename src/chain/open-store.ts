import { noBytes } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import type { DataFolder } from '../log/data-folder.js';
import type { StorageEngine, WriteOp } from '../log/engine.js';
import { type EventLog, isDamage } from '../log/event-log.js';
import { metaKey } from '../log/keys.js';
import { type Damage, openLog } from '../log/open-log.js';
import { seal, unseal } from '../log/record.js';
import { incompleteKey } from './base.js';
import { remember, rememberSeen } from './node-store.js';
import { servingOf } from './views.js';

/** Milliseconds: no cluster runs with longer leases. */
const leaseMsMax = 60_000;
/** R5 counts from what the store promised before it was emptied. */
const leaseMaxKey = metaKey('lease-max');

export interface OpenStoreOptions {
  readonly folder: DataFolder;
  readonly id: string;
  readonly fatal: (error: unknown) => void;
  /** What an operator should read. */
  readonly notice: (text: string) => void;
  /** For a store that can't be emptied while it is open: the next opening does, and keeps these records. */
  readonly emptyAtNextOpen: (keep: readonly WriteOp[]) => Promise<void>;
}

/**
 * Opens a node's store. A damaged one is emptied and synced anew, unless it may be the last copy. Where it can't be
 * read for another reason, e.g. too many open files, this rejects, and nothing was changed.
 */
export async function openStore(options: OpenStoreOptions): Promise<EventLog> {
  const { folder, id, fatal, notice } = options;
  const { engine, dir } = folder;
  await mendLeaseLimit(engine, notice);
  const opened = await openLog({ engine, fatal });
  const isPart = await holdsPart(engine);
  const damage = opened.damage ?? (isPart ? undefined : await damageOfState(opened.log));
  if (damage === undefined && !isPart) return opened.log;
  const what =
    damage === undefined
      ? `the store in ${dir} holds a part of a snapshot only`
      : `the store in ${dir} is damaged (${damage.kind}): ${damage.message}`;
  // A part of a snapshot is no copy.
  if (!isPart && (await mayBeLastCopy(opened.log, id))) {
    await engine.close();
    throw new KeychainError(
      'CORRUPT',
      `${what}. ${id} is the last that served this chain, or its view can't be read: nothing was changed. Bring another member's store back; to give this one up, move the folder away`,
    );
  }
  const log = await emptyDamaged(opened.log, what, options);
  notice(`${what}. It was emptied and is synced anew from the chain`);
  return log;
}

/** As emptyStore. Throws KeychainError CORRUPT where only the next start can: `what` says what is wrong. */
export async function emptyDamaged(
  log: EventLog,
  what: string,
  { folder, id, fatal, emptyAtNextOpen }: Omit<OpenStoreOptions, 'notice'>,
): Promise<EventLog> {
  try {
    return await emptyStore(log, folder, fatal);
  } catch (error) {
    // The binding can't scan a damaged table, nor close a store that has one: the next start empties it.
    await emptyAtNextOpen(await leaseLimit(folder));
    throw new KeychainError(
      'CORRUPT',
      `${what}. It can't be emptied while it is open: start ${id} again, and it is, and is synced anew from the chain`,
      {},
      error,
    );
  }
}

/** A snapshot that didn't come to its end, or a store that was being emptied: nothing of it counts (R17). */
async function holdsPart(engine: StorageEngine): Promise<boolean> {
  const stored = await engine.get(incompleteKey).catch(leaveDamage);
  return stored !== undefined;
}

/** Empties the store of a node: what it held is no part of the chain any more. */
export async function emptyStore(
  log: EventLog,
  folder: DataFolder,
  fatal: (error: unknown) => void,
): Promise<EventLog> {
  await log.release();
  // An end in the middle leaves objects without their log: the next start must not go on from them.
  const value = seal(incompleteKey, noBytes);
  await folder.engine.write([{ type: 'put', key: incompleteKey, value }], { sync: true });
  await folder.wipe([leaseMaxKey, incompleteKey]);
  await folder.engine.write([{ type: 'del', key: incompleteKey }], { sync: true });
  return (await openLog({ engine: folder.engine, fatal })).log;
}

/**
 * A record of the largest lease that can't be read may have said anything: the longest that there is takes its
 * place (R5). The node has its data yet, and serves after that time.
 */
async function mendLeaseLimit(
  engine: StorageEngine,
  notice: (text: string) => void,
): Promise<void> {
  const stored = await engine.get(leaseMaxKey).catch(leaveDamage);
  if (stored === undefined) return;
  try {
    unseal(leaseMaxKey, stored);
  } catch {
    await engine.write([longestLease], { sync: true });
    const seconds = leaseMsMax / 1_000;
    notice(`what this store has promised can't be read any more: it may serve after ${seconds} s`);
  }
}

/** Damage is looked at by who opens the log. What else can't be read ends the start: it may be well at the next one. */
function leaveDamage(error: unknown): undefined {
  if (!isDamage(error)) throw error;
}

const longestLease = {
  type: 'put' as const,
  key: leaseMaxKey,
  value: seal(leaseMaxKey, new TextEncoder().encode(String(leaseMsMax))),
};

/** The largest lease that this store ever promised (R5); where it can't be read, more than any. */
async function leaseLimit({ engine }: DataFolder): Promise<readonly WriteOp[]> {
  const stored = await engine.get(leaseMaxKey).catch(() => undefined);
  return [stored === undefined ? longestLease : { ...longestLease, value: stored }];
}

/** What a node starts from besides its log: the view, the watermark, sessions. */
async function damageOfState(log: EventLog): Promise<Damage | undefined> {
  try {
    await remember(log);
    return undefined;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return { kind: 'checksum', message: KeychainError.from(error).message };
  }
}

async function mayBeLastCopy(log: EventLog, id: string): Promise<boolean> {
  try {
    const seen = await rememberSeen(log);
    if (seen === undefined) return log.last.index > 0;
    const serving = servingOf(seen);
    return serving.length === 1 && serving[0]?.id === id;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return true;
  }
}

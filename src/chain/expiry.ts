import { fromMapKey, noBytes } from '../base/bytes.js';
import { encoded } from '../base/message-writer.js';
import { ChainRecord, type Envelope } from '../gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../log/block.js';
import {
  crowdedSilenceMs,
  expiredInEntryMax,
  looksInSilence,
  marksInSilence,
  sessionsMax,
} from './limits.js';
import type { Ledger, Session, Silence } from './state.js';
import type { Turn } from './turn.js';
import { isHead } from './views.js';

/*
 * Sessions end by entries in the log, decided at the head, so that every node forgets the same outcomes at the same
 * place. Whoever asks again after that is refused and not run a second time (R12).
 *
 * Silence is told by the head's monotonic clock alone: it marks how far the chain had committed, and a client is silent
 * whose newest outcome is no later than a mark that is old enough. Wall clocks are set at will, and a log keeps their times.
 */

/** Expires clients that have been silent for long, also while writes are under way: a busy chain must forget, too. */
export function expireSessions(turn: Turn, now: number, wall: number): void {
  const { state } = turn;
  const { active, ledger, silence } = state;
  if (active === undefined || state.removed || !isHead(active, state.self)) return;
  markCommitted(silence, ledger, now);
  // One entry at a time: the next one would name the same clients.
  if (ledger.expiring.size > 0) return;
  if (silence.found.length === 0 && now >= silence.lookAt) {
    silence.lookAt = now + silence.afterMs / looksInSilence;
    look(silence, ledger, now);
  }
  // Those that one entry doesn't hold go with the next, without another look at all of them.
  const clientIds = silence.found
    .splice(-expiredInEntryMax)
    .filter((client) => isSilent(ledger.sessions.get(client), silence.through))
    .sort()
    .map(fromMapKey);
  if (clientIds.length === 0) return;
  const payload = encoded(ChainRecord, {
    record: { $case: 'sessionsExpired', value: { clientIds } },
  });
  const entry: Envelope = {
    generation: active.epoch,
    index: ledger.last.index + 1,
    // Later than any other: the order of expiries is told by their times, and by the ids in one entry.
    at: Math.max(ledger.lastAt + 1, wall),
    request: undefined,
    trace: noBytes,
    payload,
    checksum: payloadChecksum(payload),
    isGroup: false,
  };
  const block = encodeBlock({ chainId: state.chainId, previous: ledger.last, entries: [entry] });
  turn.emit({ type: 'BlockAppended', block, stored: false });
}

/** What is committed now was committed by now; how long ago is asked later. */
function markCommitted({ marks, afterMs }: Silence, { watermark }: Ledger, now: number): void {
  const newest = marks.at(-1);
  if (newest !== undefined && now < newest.now + afterMs / marksInSilence) return;
  marks.push({ now, revision: watermark.index });
  const old = marks.findLastIndex((mark) => mark.now <= now - afterMs);
  if (old > 0) marks.splice(0, old);
}

/** Finds those that are silent, by one walk over all sessions. */
function look(silence: Silence, ledger: Ledger, now: number): void {
  const through = silentThrough(silence, ledger, now);
  if (through === undefined) return;
  silence.through = through;
  for (const [client, session] of ledger.sessions) {
    if (isSilent(session, through)) silence.found.push(client);
  }
}

/** Nothing of it is committed above `through`, and nothing is staged. */
function isSilent(session: Session | undefined, through: number): boolean {
  return session !== undefined && session.staged.size === 0 && session.lastRevision <= through;
}

/** The revision up to which a client's newest outcome must be for it to be expired; undefined: nobody is. */
function silentThrough(silence: Silence, { sessions }: Ledger, now: number): number | undefined {
  const long = committedBy(silence, now - silence.afterMs);
  const excess = sessions.size - sessionsMax;
  if (excess <= 0) return long;
  const short = committedBy(silence, now - crowdedSilenceMs);
  if (short === undefined) return long;
  const revisions = Float64Array.from(sessions.values(), (session) => session.lastRevision).sort();
  return Math.max(long ?? 0, Math.min(revisions[excess - 1] ?? 0, short));
}

/** What is known to have been committed by then; undefined: this head can't tell. */
function committedBy({ marks }: Silence, then: number): number | undefined {
  return marks.findLast((mark) => mark.now <= then)?.revision;
}

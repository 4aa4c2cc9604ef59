import { fromMapKey, noBytes } from '../base/bytes.js';
import { encoded } from '../base/message-writer.js';
import { ChainRecord, type Envelope } from '../gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../log/block.js';
import {
  crowdedSilenceMs,
  expiredInEntryMax,
  expiryMs,
  sessionSilenceMs,
  sessionsMax,
} from './limits.js';
import type { Ledger } from './state.js';
import type { Turn } from './turn.js';
import { isHead } from './views.js';

/*
 * Sessions end by entries in the log, decided at the head, so that every node forgets the same outcomes at the same
 * place. Whoever asks again after that is refused and not run a second time (R12).
 */

/** Expires clients that have been silent for long, also while writes are under way: a busy chain must forget, too. */
export function expireSessions(turn: Turn, now: number, wall: number): void {
  const { state } = turn;
  const { active, ledger } = state;
  if (active === undefined || state.removed || !isHead(active, state.self)) return;
  // One entry at a time: the next one would name the same clients.
  if (now < state.expiryDueAt || ledger.expiring.size > 0) return;
  // Those that one entry doesn't hold go with the next, without another look at all of them.
  state.expiryBefore ??= silentBefore(ledger, wall);
  const silent = silentClients(ledger, state.expiryBefore);
  if (silent.length < expiredInEntryMax) {
    state.expiryDueAt = now + expiryMs;
    state.expiryBefore = undefined;
  }
  if (silent.length === 0) return;
  const payload = encoded(ChainRecord, {
    record: { $case: 'sessionsExpired', value: { clientIds: silent } },
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

/** As many as one entry may name, of those that nothing is staged for. */
function silentClients({ sessions }: Ledger, before: number): readonly Uint8Array[] {
  const silent: string[] = [];
  for (const [client, { staged, lastAt }] of sessions) {
    if (silent.length >= expiredInEntryMax) break;
    if (lastAt <= before && staged.size === 0) silent.push(client);
  }
  return silent.sort().map(fromMapKey);
}

/** The wall time up to which a client must have been heard last, to be expired. */
function silentBefore({ sessions }: Ledger, wall: number): number {
  const long = wall - sessionSilenceMs;
  const excess = sessions.size - sessionsMax;
  if (excess <= 0) return long;
  const times = Float64Array.from(sessions.values(), ({ lastAt }) => lastAt).sort();
  return Math.max(long, Math.min(times[excess - 1] ?? long, wall - crowdedSilenceMs));
}

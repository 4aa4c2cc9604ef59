import { noBytes } from '../base/bytes.js';
import type { Refusal } from './inputs.js';
import type { Proposer } from './state.js';
import type { Turn } from './turn.js';

export function refuse(turn: Turn, proposer: Proposer, reason: Refusal): void {
  if (proposer.type === 'local') {
    turn.effect({ type: 'refuse', token: proposer.token, reason });
    return;
  }
  const value = { id: proposer.id, reason, index: 0, result: noBytes };
  turn.send(proposer.from, { $case: 'proposalResult', value }, { afterSync: false });
}

/** What was asked for is done, through this entry. */
export function settle(
  turn: Turn,
  proposer: Proposer,
  index: number,
  result: Uint8Array = noBytes,
): void {
  if (proposer.type === 'local') {
    turn.effect({ type: 'resolve', token: proposer.token, index, result });
    return;
  }
  const value = { id: proposer.id, reason: '', index, result };
  turn.send(proposer.from, { $case: 'proposalResult', value }, { afterSync: false });
}

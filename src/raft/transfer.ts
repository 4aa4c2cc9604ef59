import { refuse, settle } from './answer.js';
import { isVoter } from './group.js';
import type { Refusal } from './inputs.js';
import { sendAppend } from './replication.js';
import { currentGroup, type Proposer } from './state.js';
import type { Turn } from './turn.js';

/**
 * Hands leadership over (thesis §3.10): new proposals are refused, the other one gets what it lacks, and is told to
 * stand for election at once. Given up after one election timeout. `to`: '' for the one with the longest log.
 */
export function beginTransfer(turn: Turn, proposer: Proposer, wanted: string): void {
  const { state, now } = turn;
  const { group } = currentGroup(state.durable);
  const to = wanted === '' ? nextInLine(turn) : wanted;
  const refusal = whyNot(turn, to);
  if (to === state.id) settle(turn, proposer, state.commit);
  else if (refusal !== undefined) refuse(turn, proposer, refusal);
  else if (!isVoter(group, to)) refuse(turn, proposer, 'MEMBER_BEHIND');
  else {
    state.transfer = { to, until: now + state.limits.electionMs, proposer, told: false };
    sendAppend(turn, to, true);
    continueTransfer(turn);
  }
}

function whyNot(turn: Turn, to: string): Refusal | undefined {
  const { state, now } = turn;
  if (!currentGroup(state.durable).group.members.some(({ id }) => id === to)) {
    return 'MEMBER_NOT_FOUND';
  }
  if (state.transfer !== undefined) return 'CHANGE_PENDING';
  const progress = state.progress.get(to);
  const isHeard = progress !== undefined && now - progress.heardAt < state.limits.electionMs;
  return isHeard || to === state.id ? undefined : 'MEMBER_BEHIND';
}

/** The voter with the longest log, '' where there is no other. */
export function nextInLine({ state }: Turn): string {
  const { group } = currentGroup(state.durable);
  const voters = [...state.progress].filter(([id]) => isVoter(group, id));
  voters.sort(([, a], [, b]) => b.heardAt - a.heardAt);
  voters.sort(([, a], [, b]) => b.match - a.match);
  return voters[0]?.[0] ?? '';
}

/** When all is committed and the other one has it, it is told: so no proposal is left without an answer. */
export function continueTransfer(turn: Turn): void {
  const { state } = turn;
  const { transfer } = state;
  if (state.role !== 'leader' || transfer === undefined || transfer.told) return;
  const last = state.durable.log.last.index;
  if (state.commit < last || state.progress.get(transfer.to)?.match !== last) return;
  transfer.told = true;
  turn.send(transfer.to, { $case: 'timeoutNow', value: {} }, { afterSync: false });
}

/** The next leader is known. */
export function settleTransfer(turn: Turn, leader: string): void {
  const { state } = turn;
  const { transfer } = state;
  if (transfer === undefined) return;
  state.transfer = undefined;
  if (transfer.to === leader) settle(turn, transfer.proposer, state.commit);
  else refuse(turn, transfer.proposer, 'TRANSFER_FAILED');
}

/** It takes too long: the old leader goes on, unless it is one no more. */
export function expireTransfer(turn: Turn): void {
  const { state, now } = turn;
  const { transfer } = state;
  if (transfer === undefined || now < transfer.until) return;
  // Who was told may win yet.
  if (
    transfer.told &&
    state.role !== 'leader' &&
    now < transfer.until + 2 * state.limits.electionMs
  )
    return;
  state.transfer = undefined;
  refuse(turn, transfer.proposer, 'TRANSFER_FAILED');
}

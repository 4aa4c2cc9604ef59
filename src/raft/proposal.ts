import { noBytes } from '../base/bytes.js';
import type { GroupChange, Proposal, ProposalResult } from '../gen/keychaindb/v1/raft.js';
import { refuse } from './answer.js';
import { proposeChange } from './change.js';
import type { Refusal } from './inputs.js';
import { proposalsMax, uncommittedBytesMax, uncommittedEntriesMax } from './limits.js';
import { appendAsLeader, broadcast } from './replication.js';
import { keep, others, type Proposer } from './state.js';
import type { Turn } from './turn.js';

export interface Asked {
  readonly payload: Uint8Array;
  readonly change?: GroupChange | undefined;
}

/** At the leader it goes into the log; a follower passes it on, once. */
export function propose(turn: Turn, proposer: Proposer, { payload, change }: Asked): void {
  const { state } = turn;
  if (state.role === 'leader') {
    if (change !== undefined) proposeChange(turn, proposer, change.change);
    else append(turn, proposer, payload);
    return;
  }
  // What a follower was given by another follower it refuses.
  if (proposer.type === 'remote' || state.leader === undefined) {
    refuse(turn, proposer, 'NO_LEADER');
    return;
  }
  const id = state.nextQuestion;
  state.nextQuestion += 1;
  keep(state.forwarded, id, proposer.token, proposalsMax);
  const value = { id, request: undefined, payload, trace: noBytes, change };
  turn.send(state.leader, { $case: 'proposal', value }, { afterSync: false });
}

function append(turn: Turn, proposer: Proposer, payload: Uint8Array): void {
  const { state } = turn;
  const uncommitted = state.durable.log.last.index - state.commit;
  const bytes = state.uncommittedBytes + payload.byteLength;
  if (uncommitted >= uncommittedEntriesMax || bytes > uncommittedBytesMax) {
    refuse(turn, proposer, 'OVERLOADED');
    return;
  }
  // Whoever takes over should have nothing left to wait for.
  if (state.transfer !== undefined) {
    refuse(turn, proposer, 'NO_LEADER');
    return;
  }
  const { index } = appendAsLeader(turn, payload);
  state.proposers.set(index, proposer);
  broadcast(turn);
}

export function onProposal(turn: Turn, from: string, proposal: Proposal): void {
  const proposer: Proposer = { type: 'remote', from, id: proposal.id };
  if (others(turn.state).some(({ id }) => id === from)) propose(turn, proposer, proposal);
  else refuse(turn, proposer, 'NO_LEADER');
}

export function onProposalResult(turn: Turn, { id, reason, index, result }: ProposalResult): void {
  const token = turn.state.forwarded.get(id);
  if (token === undefined) return;
  turn.state.forwarded.delete(id);
  if (reason === '') turn.effect({ type: 'resolve', token, index, result });
  else turn.effect({ type: 'refuse', token, reason: reason as Refusal });
}

/** Their entries may be committed by the next leader. */
export function abandonProposers(turn: Turn): void {
  const { state } = turn;
  for (const proposer of state.proposers.values()) refuse(turn, proposer, 'OUTCOME_UNKNOWN');
  state.proposers.clear();
  state.uncommittedBytes = 0;
  const { removal } = state;
  state.removal = undefined;
  if (removal !== undefined) refuse(turn, removal.proposer, 'NO_LEADER');
}

/** The leader that they were passed to leads no more. */
export function abandonForwarded(turn: Turn): void {
  for (const token of turn.state.forwarded.values()) {
    turn.effect({ type: 'refuse', token, reason: 'OUTCOME_UNKNOWN' });
  }
  turn.state.forwarded.clear();
}

import { noBytes } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { VoteRequest, VoteResponse } from '../gen/keychaindb/v1/raft.js';
import { followGroup, markSeen } from './change.js';
import { isMajority, isVoter } from './group.js';
import { abandonForwarded, abandonProposers } from './proposal.js';
import { abandonAskedReads, abandonReads } from './reads.js';
import { appendAsLeader, broadcast } from './replication.js';
import { currentGroup, groupAt, inLease, others, type RaftState } from './state.js';
import { settleTransfer } from './transfer.js';
import type { Turn } from './turn.js';

/** An election timeout in [E, 2E) from now (§5.2). */
export function restTimer({ state, now, chance }: Turn): void {
  state.electionAt = now + state.limits.electionMs * (1 + chance);
}

/** A follower of a term, of its leader where one is known. Whoever waits for this leader is told. */
export function becomeFollower(turn: Turn, term: number, leader: string | undefined): void {
  const { state } = turn;
  if (term > state.durable.term) turn.emit({ type: 'TermVoted', term, vote: '' });
  if (state.role === 'leader') {
    abandonProposers(turn);
    abandonReads(turn);
  }
  if (state.leader !== leader) {
    abandonForwarded(turn);
    abandonAskedReads(turn);
  }
  state.role = 'follower';
  state.leader = leader;
  state.votes.clear();
  state.progress.clear();
  if (leader !== undefined) settleTransfer(turn, leader);
}

/** Asks first whether an election could be won (thesis §9.6): a member that was cut off disturbs nobody. */
export function startPreVote(turn: Turn): void {
  const { state } = turn;
  becomeFollower(turn, state.durable.term, undefined);
  state.role = 'pre-candidate';
  restTimer(turn);
  askForVotes(turn, { preVote: true, transfer: false });
}

/** `transfer`: the leader asked for it (thesis §3.10). */
export function startElection(turn: Turn, transfer: boolean): void {
  const { state } = turn;
  becomeFollower(turn, state.durable.term, undefined);
  turn.emit({ type: 'TermVoted', term: state.durable.term + 1, vote: state.id });
  state.role = 'candidate';
  restTimer(turn);
  askForVotes(turn, { preVote: false, transfer });
}

function askForVotes(
  turn: Turn,
  kind: { readonly preVote: boolean; readonly transfer: boolean },
): void {
  const { state } = turn;
  const { preVote } = kind;
  state.votes = new Map(preVote ? [[state.id, true]] : []);
  const term = state.durable.term + (preVote ? 1 : 0);
  const request = { ...kind, last: state.durable.log.last };
  for (const { id, learner } of others(state)) {
    if (learner) continue;
    turn.send(id, { $case: 'voteRequest', value: request }, { term, afterSync: !preVote });
  }
  countVotes(turn);
}

/** A candidate's own vote counts as the others' do, when it is on the disk: else it could lead a term twice (B3). */
export function countOwnVote(turn: Turn): void {
  const { state } = turn;
  if (state.role !== 'candidate' || state.storedTerm !== state.durable.term) return;
  if (state.votes.has(state.id)) return;
  state.votes.set(state.id, true);
  countVotes(turn);
}

/** §5.4.1: the log with the later term in its last entry is newer; of equal terms the longer one. */
export function isUpToDate(candidate: EntryId, own: EntryId): boolean {
  return (
    candidate.generation > own.generation ||
    (candidate.generation === own.generation && candidate.index >= own.index)
  );
}

/**
 * `term`: the request's, not below the own one. A learner votes too: it may have been given its vote and not know
 * it (B7).
 */
export function onVoteRequest(turn: Turn, from: string, term: number, request: VoteRequest): void {
  const { state, now } = turn;
  const { durable } = state;
  const { preVote } = request;
  const last = request.last ?? { generation: 0, index: 0 };
  const free = preVote
    ? term > durable.term && !inLease(state, now)
    : durable.vote === from || (durable.vote === '' && state.leader === undefined);
  const granted = free && isUpToDate(last, durable.log.last);
  if (granted && !preVote) {
    if (durable.vote !== from) turn.emit({ type: 'TermVoted', term: durable.term, vote: from });
    restTimer(turn);
  }
  turn.send(
    from,
    { $case: 'voteResponse', value: { preVote, granted } },
    { term: granted ? term : durable.term, afterSync: true },
  );
}

export function onVoteResponse(turn: Turn, from: string, term: number, vote: VoteResponse): void {
  const { state } = turn;
  const asked = state.role === 'pre-candidate' ? state.durable.term + 1 : state.durable.term;
  const isMine = vote.preVote === (state.role === 'pre-candidate');
  if (state.role !== 'candidate' && state.role !== 'pre-candidate') return;
  if (!isMine || (vote.granted && term !== asked)) return;
  state.votes.set(from, vote.granted);
  countVotes(turn);
}

function countVotes(turn: Turn): void {
  const { state } = turn;
  const { group } = currentGroup(state.durable);
  if (isMajority(group, (id) => state.votes.get(id) === true)) {
    if (state.role === 'pre-candidate') startElection(turn, false);
    else becomeLeader(turn);
  } else if (isMajority(group, (id) => state.votes.get(id) === false)) {
    becomeFollower(turn, state.durable.term, undefined);
  }
}

/** The no-op of the new term lets entries of older terms be committed (§5.4.2, §8). */
function becomeLeader(turn: Turn): void {
  const { state, now } = turn;
  state.role = 'leader';
  state.leader = state.id;
  state.votes.clear();
  state.progress.clear();
  followGroup(turn);
  state.proposers.clear();
  state.uncommittedBytes = 0;
  settleTransfer(turn, state.id);
  appendAsLeader(turn, noBytes);
  markSeen(turn, state.id);
  state.heartbeatAt = now + state.limits.heartbeatMs;
  broadcast(turn);
}

/** A leader that a majority doesn't answer is none (check-quorum, thesis §6.2). */
export function checkQuorum(turn: Turn): void {
  const { state, now } = turn;
  const isHeard = (id: string): boolean =>
    id === state.id ||
    now - (state.progress.get(id)?.heardAt ?? Number.NEGATIVE_INFINITY) <
      2 * state.limits.electionMs;
  if (isMajority(currentGroup(state.durable).group, isHeard)) return;
  becomeFollower(turn, state.durable.term, undefined);
  restTimer(turn);
}

/**
 * Only who has a vote stands for election. One whose removal isn't committed has it yet: it may be the only one with the
 * entry that removes it (thesis §4.2.2). It then leads without counting itself.
 */
export function mayStartElection(state: RaftState, now: number): boolean {
  if (state.role === 'leader' || now < state.electionAt) return false;
  return mayLead(state);
}

export function mayLead({ durable, commit, id }: RaftState): boolean {
  return isVoter(currentGroup(durable).group, id) || isVoter(groupAt(durable, commit), id);
}

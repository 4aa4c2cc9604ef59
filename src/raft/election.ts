import { noBytes } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { VoteRequest, VoteResponse } from '../gen/keychaindb/v1/raft.js';
import { appendAsLeader, broadcast } from './replication.js';
import { inLease, majority, type RaftState } from './state.js';
import type { Turn } from './turn.js';

/** An election timeout in [E, 2E) from now (§5.2). */
export function restTimer({ state, now, chance }: Turn): void {
  state.electionAt = now + state.electionMs * (1 + chance);
}

/** A follower of a term, of its leader where one is known. Whoever waits for this leader is told. */
export function becomeFollower(turn: Turn, term: number, leader: string | undefined): void {
  const { state } = turn;
  if (term > state.durable.term) turn.emit({ type: 'TermVoted', term, vote: '' });
  if (state.role === 'leader') abandonProposers(turn);
  if (state.leader !== leader) abandonForwarded(turn);
  state.role = 'follower';
  state.leader = leader;
  state.votes.clear();
  state.progress.clear();
}

/** Their entries may be committed by the next leader. */
function abandonProposers(turn: Turn): void {
  const { state } = turn;
  for (const proposer of state.proposers.values()) {
    if (proposer.type === 'local') {
      turn.effect({ type: 'refuse', token: proposer.token, reason: 'OUTCOME_UNKNOWN' });
    } else {
      const { id, from } = proposer;
      const result = { id, reason: 'OUTCOME_UNKNOWN', index: 0, result: noBytes };
      turn.send(from, { $case: 'proposalResult', value: result }, { afterSync: false });
    }
  }
  state.proposers.clear();
  state.uncommittedBytes = 0;
}

function abandonForwarded(turn: Turn): void {
  for (const token of turn.state.forwarded.values()) {
    turn.effect({ type: 'refuse', token, reason: 'OUTCOME_UNKNOWN' });
  }
  turn.state.forwarded.clear();
}

/** Asks first whether an election could be won (thesis §9.6): a member that was cut off disturbs nobody. */
export function startPreVote(turn: Turn): void {
  const { state } = turn;
  becomeFollower(turn, state.durable.term, undefined);
  state.role = 'pre-candidate';
  restTimer(turn);
  askForVotes(turn, true);
}

function startElection(turn: Turn): void {
  const { state } = turn;
  turn.emit({ type: 'TermVoted', term: state.durable.term + 1, vote: state.id });
  state.role = 'candidate';
  state.leader = undefined;
  restTimer(turn);
  askForVotes(turn, false);
}

function askForVotes(turn: Turn, preVote: boolean): void {
  const { state } = turn;
  state.votes = new Map([[state.id, true]]);
  const term = state.durable.term + (preVote ? 1 : 0);
  const request = { preVote, last: state.durable.log.last };
  for (const peer of state.peers) {
    turn.send(peer, { $case: 'voteRequest', value: request }, { term, afterSync: !preVote });
  }
  countVotes(turn);
}

/** §5.4.1: the log with the later term in its last entry is newer; of equal terms the longer one. */
export function isUpToDate(candidate: EntryId, own: EntryId): boolean {
  return (
    candidate.generation > own.generation ||
    (candidate.generation === own.generation && candidate.index >= own.index)
  );
}

/** `term`: the request's, not below the own one. */
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
  const granted = [...state.votes.values()].filter((vote) => vote).length;
  if (granted >= majority(state)) {
    if (state.role === 'pre-candidate') startElection(turn);
    else becomeLeader(turn);
  } else if (state.votes.size - granted >= majority(state)) {
    becomeFollower(turn, state.durable.term, undefined);
  }
}

/** The no-op of the new term lets entries of older terms be committed (§5.4.2, §8). */
function becomeLeader(turn: Turn): void {
  const { state, now } = turn;
  state.role = 'leader';
  state.leader = state.id;
  state.votes.clear();
  state.progress = new Map(
    state.peers.map((peer) => [
      peer,
      {
        match: 0,
        next: state.durable.log.last.index + 1,
        inFlight: 0,
        probing: true,
        heardAt: now,
      },
    ]),
  );
  state.proposers.clear();
  state.uncommittedBytes = 0;
  appendAsLeader(turn, noBytes, state.lastAt);
  state.heartbeatAt = now + state.heartbeatMs;
  broadcast(turn);
}

/** A leader that a majority doesn't answer is none (check-quorum, thesis §6.2). */
export function checkQuorum(turn: Turn): void {
  const { state, now } = turn;
  const heard = [...state.progress.values()].filter(
    (progress) => now - progress.heardAt < 2 * state.electionMs,
  ).length;
  if (heard + 1 >= majority(state)) return;
  becomeFollower(turn, state.durable.term, undefined);
  restTimer(turn);
}

export function mayStartElection(state: RaftState, now: number): boolean {
  return state.role !== 'leader' && now >= state.electionAt;
}

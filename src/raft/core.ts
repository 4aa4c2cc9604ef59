import { noBytes } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { Proposal, ProposalResult, RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { LogBlock } from '../log/event-log.js';
import {
  becomeFollower,
  checkQuorum,
  mayStartElection,
  onVoteRequest,
  onVoteResponse,
  restTimer,
  startPreVote,
} from './election.js';
import type { RaftEffect, RaftInput, Refusal } from './inputs.js';
import { uncommittedBytesMax, uncommittedEntriesMax } from './limits.js';
import {
  advanceCommit,
  appendAsLeader,
  broadcast,
  onAppendRequest,
  onAppendResponse,
} from './replication.js';
import {
  type DurableState,
  inLease,
  type Proposer,
  type RaftEvent,
  type RaftState,
} from './state.js';
import { Turn } from './turn.js';

export interface RaftStep {
  readonly events: readonly RaftEvent[];
  readonly effects: readonly RaftEffect[];
}

/** A member that has just started: it follows nobody and knows of no commit. */
export function startState(
  options: {
    readonly id: string;
    readonly peers: readonly string[];
    readonly electionMs: number;
    readonly heartbeatMs: number;
  },
  durable: DurableState,
  now: number,
  chance: number,
): RaftState {
  const last = durable.log.last.index;
  const [newest] = durable.log.between(last, last);
  return {
    ...options,
    durable,
    role: 'follower',
    leader: undefined,
    commit: 0,
    applied: 0,
    synced: last,
    votes: new Map(),
    progress: new Map(),
    round: 0,
    electionAt: now + options.electionMs * (1 + chance),
    heartbeatAt: now,
    heardLeaderAt: Number.NEGATIVE_INFINITY,
    proposers: new Map(),
    uncommittedBytes: 0,
    forwarded: new Map(),
    nextProposal: 1,
    lastAt: newest?.entries[0]?.at ?? 0,
  };
}

/** Decides one input: pure but for `state`, which it alone owns. Ongaro & Ousterhout 2014, §5. */
export function step(state: RaftState, input: RaftInput): RaftStep {
  switch (input.type) {
    case 'Ticked': {
      const turn = new Turn(state, input.now, input.chance);
      onTick(turn);
      return turn;
    }
    case 'MessageReceived': {
      const turn = new Turn(state, input.now, input.chance);
      onMessage(turn, input.message, input.blocks, input.wall);
      return turn;
    }
    case 'Proposed': {
      const turn = new Turn(state, input.now, 0);
      propose(turn, { type: 'local', token: input.token }, input.payload, input.wall);
      return turn;
    }
    case 'LogSynced': {
      const turn = new Turn(state, 0, 0);
      onLogSynced(turn, input.through);
      return turn;
    }
  }
}

function onTick(turn: Turn): void {
  const { state, now } = turn;
  if (state.role === 'leader') {
    checkQuorum(turn);
    if (state.role === 'leader' && now >= state.heartbeatAt) {
      state.heartbeatAt = now + state.heartbeatMs;
      // An answer that was lost must not hold its place for ever.
      for (const progress of state.progress.values()) progress.inFlight = 0;
      broadcast(turn);
    }
    return;
  }
  if (mayStartElection(state, now)) startPreVote(turn);
}

function onMessage(
  turn: Turn,
  message: RaftMessage,
  blocks: readonly LogBlock[],
  wall: number,
): void {
  const { state, now } = turn;
  const { from, term, to } = message;
  const body = message.message;
  if (to !== state.id || !state.peers.includes(from) || body === undefined) return;
  const { durable } = state;
  if (term > durable.term) {
    const isVote = body.$case === 'voteRequest';
    // A member that hears its leader helps nobody to replace it.
    if (isVote && inLease(state, now)) return;
    const keepsTerm =
      (isVote && body.value.preVote) ||
      (body.$case === 'voteResponse' && body.value.preVote && body.value.granted);
    if (!keepsTerm) {
      becomeFollower(turn, term, body.$case === 'appendRequest' ? from : undefined);
      if (isVote) restTimer(turn);
    }
  } else if (term < durable.term) {
    answerOldTerm(turn, from, body);
    return;
  }
  switch (body.$case) {
    case 'voteRequest':
      onVoteRequest(turn, from, term, body.value);
      return;
    case 'voteResponse':
      onVoteResponse(turn, from, term, body.value);
      return;
    case 'appendRequest':
      if (state.role !== 'follower' || state.leader !== from) becomeFollower(turn, term, from);
      state.heardLeaderAt = now;
      restTimer(turn);
      onAppendRequest(turn, from, body.value, blocks);
      return;
    case 'appendResponse':
      if (state.role === 'leader') onAppendResponse(turn, from, body.value);
      return;
    case 'proposal':
      onProposal(turn, from, body.value, wall);
      return;
    case 'proposalResult':
      onProposalResult(turn, body.value);
      return;
  }
}

/** Whoever is behind learns the term from the answer; a result of an older term is still a result. */
function answerOldTerm(turn: Turn, from: string, body: NonNullable<RaftMessage['message']>): void {
  const options = { afterSync: true };
  if (body.$case === 'appendRequest') {
    const value = { accepted: false, match: 0, conflict: undefined, round: body.value.round };
    turn.send(from, { $case: 'appendResponse', value }, options);
  } else if (body.$case === 'voteRequest') {
    const value = { preVote: body.value.preVote, granted: false };
    turn.send(from, { $case: 'voteResponse', value }, options);
  } else if (body.$case === 'proposalResult') {
    onProposalResult(turn, body.value);
  } else if (body.$case === 'proposal') {
    refuse(turn, { type: 'remote', from, id: body.value.id }, 'NO_LEADER');
  }
}

function propose(turn: Turn, proposer: Proposer, payload: Uint8Array, wall: number): void {
  const { state } = turn;
  if (state.role === 'leader') {
    const uncommitted = state.durable.log.last.index - state.commit;
    const bytes = state.uncommittedBytes + payload.byteLength;
    if (uncommitted >= uncommittedEntriesMax || bytes > uncommittedBytesMax) {
      refuse(turn, proposer, 'OVERLOADED');
      return;
    }
    const { index } = appendAsLeader(turn, payload, wall);
    state.proposers.set(index, proposer);
    broadcast(turn);
    return;
  }
  // Passed on once: what a follower was given by another follower it refuses.
  if (proposer.type === 'remote' || state.leader === undefined) {
    refuse(turn, proposer, 'NO_LEADER');
    return;
  }
  const id = state.nextProposal;
  state.nextProposal += 1;
  state.forwarded.set(id, proposer.token);
  const value = { id, request: undefined, payload, trace: noBytes };
  turn.send(state.leader, { $case: 'proposal', value }, { afterSync: false });
}

function refuse(turn: Turn, proposer: Proposer, reason: Refusal): void {
  if (proposer.type === 'local') {
    turn.effect({ type: 'refuse', token: proposer.token, reason });
    return;
  }
  const value = { id: proposer.id, reason, index: 0, result: noBytes };
  turn.send(proposer.from, { $case: 'proposalResult', value }, { afterSync: false });
}

function onProposal(turn: Turn, from: string, proposal: Proposal, wall: number): void {
  propose(turn, { type: 'remote', from, id: proposal.id }, proposal.payload, wall);
}

function onProposalResult(turn: Turn, { id, reason, index, result }: ProposalResult): void {
  const token = turn.state.forwarded.get(id);
  if (token === undefined) return;
  turn.state.forwarded.delete(id);
  if (reason === '') turn.effect({ type: 'resolve', token, index, result });
  else turn.effect({ type: 'refuse', token, reason: reason as Refusal });
}

/** An append that was cut since vouches for nothing: the entry must still be the log's own. */
function onLogSynced(turn: Turn, through: EntryId): void {
  const { state } = turn;
  if (state.durable.log.termAt(through.index) !== through.generation) return;
  state.synced = Math.max(state.synced, through.index);
  advanceCommit(turn);
}

/** After an entry was applied: whoever proposed it gets the result. */
export function answerApplied(
  state: RaftState,
  index: number,
  result: Uint8Array,
): readonly RaftEffect[] {
  state.applied = index;
  const proposer = state.proposers.get(index);
  if (proposer === undefined) return [];
  state.proposers.delete(index);
  const turn = new Turn(state, 0, 0);
  if (proposer.type === 'local') {
    turn.effect({ type: 'resolve', token: proposer.token, index, result });
  } else {
    const value = { id: proposer.id, reason: '', index, result };
    turn.send(proposer.from, { $case: 'proposalResult', value }, { afterSync: false });
  }
  return turn.effects;
}

import { noBytes } from '../base/bytes.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import type { LogBlock } from '../log/event-log.js';
import { refuse, settle } from './answer.js';
import {
  continueRemoval,
  expireRemoval,
  followAddress,
  isRemoved,
  leaveIfRemoved,
  markSeen,
  promoteLearner,
  tellRemoved,
} from './change.js';
import {
  becomeFollower,
  checkQuorum,
  countOwnVote,
  mayLead,
  mayStartElection,
  onVoteRequest,
  onVoteResponse,
  restTimer,
  startElection,
  startPreVote,
} from './election.js';
import type { Admission, RaftEffect, RaftInput } from './inputs.js';
import { freeOne, mayCarry } from './progress.js';
import { onProposal, onProposalResult, propose } from './proposal.js';
import { askRead, confirmReads, onReadRequest, onReadResult, releaseReads } from './reads.js';
import { advanceCommit, broadcast, onAppendRequest, onAppendResponse } from './replication.js';
import { isSnapshotDue, onSnapshotMade, onSnapshotRequest } from './snapshot.js';
import {
  type DurableState,
  inLease,
  type RaftLimits,
  type RaftState,
  snapshotId,
} from './state.js';
import { continueTransfer, expireTransfer } from './transfer.js';
import { type StoreRequest, Turn } from './turn.js';

/**
 * Numbers of questions to the leader are never used twice, not by the process before this one either: an answer that was
 * under way while it restarted would answer the wrong question (B6). `chance`: in [0, 1); the numbers stay exact.
 */
function firstQuestion(chance: number): number {
  return 1 + Math.floor(chance * 2 ** 32) * 2 ** 20;
}

export interface RaftStep {
  /** What the disk is asked for; done when `Stored` comes with its id. */
  readonly store: StoreRequest | undefined;
  readonly effects: readonly RaftEffect[];
}

/** A member that has just started: it follows nobody and knows of no commit but its snapshot's. */
export function startState(
  own: { readonly id: string; readonly address: string; readonly unsure?: boolean },
  limits: RaftLimits,
  durable: DurableState,
  now: number,
  chance: number,
): RaftState {
  const { id, address, unsure = false } = own;
  const last = durable.log.last.index;
  const [newest] = last > durable.log.base.index ? durable.log.between(last, last) : [];
  const at = snapshotId(durable.snapshot).index;
  return {
    id,
    address,
    limits,
    durable,
    role: 'follower',
    leader: undefined,
    unsure,
    commit: at,
    applied: at,
    synced: last,
    storedTerm: durable.term,
    storing: [],
    nextStore: 1,
    votes: new Map(),
    progress: new Map(),
    round: 0,
    electionAt: now + limits.electionMs * (1 + chance),
    heartbeatAt: now,
    heardLeaderAt: Number.NEGATIVE_INFINITY,
    proposers: new Map(),
    uncommittedBytes: 0,
    forwarded: new Map(),
    nextQuestion: firstQuestion(chance),
    reads: [],
    askedReads: new Map(),
    readyReads: [],
    removal: undefined,
    transfer: undefined,
    removed: false,
    snapshotAsked: at,
    lastAt: Math.max(newest?.entries[0]?.at ?? 0, durable.snapshot?.time ?? 0),
  };
}

/** Decides one input: pure but for `state`, which it alone owns. Ongaro & Ousterhout 2014, §5. */
export function step(state: RaftState, input: RaftInput): RaftStep {
  const turn = new Turn(state, input);
  if (!state.removed) decide(turn, input);
  const store = turn.finish();
  return { store, effects: turn.effects };
}

function decide(turn: Turn, input: RaftInput): void {
  switch (input.type) {
    case 'Ticked':
      onTick(turn);
      break;
    case 'Admitted':
      onAdmitted(turn, input);
      break;
    case 'MessageReceived':
      if (!turn.state.unsure) onMessage(turn, input.message, input.blocks);
      break;
    case 'Proposed':
      propose(turn, { type: 'local', token: input.token }, input);
      break;
    case 'ChangeProposed': {
      const { token, change } = input;
      propose(turn, { type: 'local', token }, { payload: noBytes, change });
      break;
    }
    case 'ReadAsked':
      askRead(turn, input.token);
      break;
    case 'Stored':
      onStored(turn, input.id);
      break;
    case 'SnapshotMade':
      onSnapshotMade(turn, input.index, input.state);
      break;
  }
  leaveIfRemoved(turn);
}

/**
 * The others have shown that nobody counts on what this folder may have held (decision 16). A vote in one of their terms
 * may be forgotten with it; given to itself, it is given to nobody else.
 */
function onAdmitted(turn: Turn, { group, term }: Admission): void {
  const { state } = turn;
  if (!state.unsure) return;
  state.unsure = false;
  if (group.members.length > 0) turn.emit({ type: 'GroupFounded', group });
  if (term > 0) turn.emit({ type: 'TermVoted', term, vote: state.id });
  restTimer(turn);
}

function onTick(turn: Turn): void {
  const { state, now } = turn;
  expireTransfer(turn);
  expireRemoval(turn);
  if (state.role === 'leader') {
    checkQuorum(turn);
    if (state.role === 'leader' && now >= state.heartbeatAt) {
      state.heartbeatAt = now + state.limits.heartbeatMs;
      for (const progress of state.progress.values()) {
        progress.probed = false;
        if (!mayCarry(progress)) freeOne(progress);
      }
      broadcast(turn);
      followAddress(turn, state.id, state.address);
    }
    return;
  }
  if (mayStartElection(state, now)) startPreVote(turn);
}

function onMessage(turn: Turn, message: RaftMessage, blocks: readonly LogBlock[]): void {
  const { state, now } = turn;
  const { from, term, to } = message;
  const body = message.message;
  if (to !== state.id || from === state.id || body === undefined) return;
  const { durable } = state;
  if (body.$case === 'removed') {
    turn.effect({ type: 'removed' });
    state.removed = true;
    return;
  }
  // Who was removed may not know it, and is told (B12); a leader that goes says a last word. One that isn't known here
  // may be new.
  if (isRemoved(state, from, state.commit) && body.$case !== 'timeoutNow') {
    turn.send(from, { $case: 'removed', value: {} }, { afterSync: false });
    return;
  }
  if (term > durable.term) {
    const isVote = body.$case === 'voteRequest';
    // A member that hears its leader helps nobody to replace it, unless the leader wants it.
    if (isVote && inLease(state, now) && !body.value.transfer) return;
    const keepsTerm =
      (isVote && body.value.preVote) ||
      (body.$case === 'voteResponse' && body.value.preVote && body.value.granted);
    if (!keepsTerm) {
      const isLeaders = body.$case === 'appendRequest' || body.$case === 'snapshotRequest';
      becomeFollower(turn, term, isLeaders ? from : undefined);
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
      hearLeader(turn, from, term);
      onAppendRequest(turn, from, body.value, blocks);
      return;
    case 'snapshotRequest':
      hearLeader(turn, from, term);
      onSnapshotRequest(turn, from, body.value);
      return;
    case 'appendResponse':
      if (state.role !== 'leader') return;
      onAppendResponse(turn, from, body.value);
      markSeen(turn, from);
      confirmReads(turn);
      continueRemoval(turn);
      followAddress(turn, from, message.address);
      promoteLearner(turn);
      continueTransfer(turn);
      return;
    case 'timeoutNow':
      if (from === state.leader && mayLead(state)) {
        startElection(turn, true);
      }
      return;
    case 'proposal':
      onProposal(turn, from, body.value);
      return;
    case 'proposalResult':
      onProposalResult(turn, body.value);
      return;
    case 'readRequest':
      onReadRequest(turn, from, body.value.id);
      return;
    case 'readResult':
      onReadResult(turn, body.value);
      return;
  }
}

function hearLeader(turn: Turn, from: string, term: number): void {
  const { state, now } = turn;
  if (state.role !== 'follower' || state.leader !== from) becomeFollower(turn, term, from);
  state.heardLeaderAt = now;
  restTimer(turn);
}

/** Whoever is behind learns the term from the answer; a result of an older term is still a result. */
function answerOldTerm(turn: Turn, from: string, body: NonNullable<RaftMessage['message']>): void {
  const options = { afterSync: true };
  if (body.$case === 'appendRequest' || body.$case === 'snapshotRequest') {
    // Nor its round: it may be of the process before, which counted for itself, and would confirm reads of this one (B6).
    const value = { accepted: false, match: 0, conflict: undefined, round: 0 };
    turn.send(from, { $case: 'appendResponse', value }, options);
  } else if (body.$case === 'voteRequest') {
    const value = { preVote: body.value.preVote, granted: false };
    turn.send(from, { $case: 'voteResponse', value }, options);
  } else if (body.$case === 'proposalResult') {
    onProposalResult(turn, body.value);
  } else if (body.$case === 'proposal') {
    refuse(turn, { type: 'remote', from, id: body.value.id }, 'NO_LEADER');
  } else if (body.$case === 'readRequest') {
    const value = { id: body.value.id, reason: 'NO_LEADER', index: 0 };
    turn.send(from, { $case: 'readResult', value }, options);
  }
}

/** The own disk has what it was asked for, in order; what was cut since doesn't count. */
function onStored(turn: Turn, id: number): void {
  const { state } = turn;
  while ((state.storing[0]?.id ?? Number.POSITIVE_INFINITY) <= id) {
    const stored = state.storing.shift();
    if (stored === undefined) break;
    state.synced = Math.max(state.synced, stored.through);
    state.storedTerm = stored.term;
    for (const effect of stored.effects) turn.effect(effect);
  }
  countOwnVote(turn);
  advanceCommit(turn);
  continueTransfer(turn);
}

/** After an entry was applied: whoever proposed it gets the result, and reads that waited for it go on. */
export function answerApplied(
  state: RaftState,
  index: number,
  result: Uint8Array,
): readonly RaftEffect[] {
  state.applied = index;
  const turn = new Turn(state, { now: 0, chance: 0, wall: 0 });
  const proposer = state.proposers.get(index);
  if (proposer !== undefined) {
    state.proposers.delete(index);
    settle(turn, proposer, index, result);
  }
  tellRemoved(turn, index);
  releaseReads(turn);
  // Once, though more is applied before it is made.
  if (isSnapshotDue(state)) {
    state.snapshotAsked = index;
    turn.effect({ type: 'takeSnapshot' });
  }
  return turn.effects;
}

/** After the state machine was restored from a snapshot. */
export function answerRestored(state: RaftState, index: number): readonly RaftEffect[] {
  state.applied = index;
  const turn = new Turn(state, { now: 0, chance: 0, wall: 0 });
  releaseReads(turn);
  return turn.effects;
}

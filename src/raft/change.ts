import { type GroupMember, RaftGroup } from '../gen/keychaindb/v1/log.js';
import type { GroupChange } from '../gen/keychaindb/v1/raft.js';
import { refuse, settle } from './answer.js';
import {
  isMajority,
  isSeen,
  isVoter,
  withAddress,
  withLearner,
  withoutMember,
  withSeen,
  withVoter,
} from './group.js';
import type { Refusal } from './inputs.js';
import { learnerLagMax } from './limits.js';
import { newProgress } from './progress.js';
import { appendAsLeader, broadcast } from './replication.js';
import {
  currentGroup,
  groupAt,
  knowsCommits,
  others,
  type Proposer,
  type RaftState,
} from './state.js';
import { beginTransfer, nextInLine } from './transfer.js';
import type { Turn } from './turn.js';

/** A change of the group, one server at a time (thesis §4.1), decided by the leader. */
export function proposeChange(turn: Turn, proposer: Proposer, change: GroupChange['change']): void {
  switch (change?.$case) {
    case 'add':
      addLearner(turn, proposer, change.value);
      return;
    case 'remove':
      removeMember(turn, proposer, change.value);
      return;
    case 'transfer':
      beginTransfer(turn, proposer, change.value);
      return;
    case undefined:
      refuse(turn, proposer, 'MEMBER_NOT_FOUND');
      return;
  }
}

function addLearner(turn: Turn, proposer: Proposer, { id, address }: GroupMember): void {
  const { state } = turn;
  const { group } = currentGroup(state.durable);
  const known = group.members.find((m) => m.id === id);
  if (known?.address === address) {
    settleWithGroup(turn, proposer);
    return;
  }
  const refusal: Refusal | undefined =
    known !== undefined
      ? 'MEMBER_EXISTS'
      : group.removed.includes(id)
        ? 'MEMBER_REMOVED'
        : group.members.some((m) => m.address === address)
          ? 'ADDRESS_IN_USE'
          : (notNow(state) ??
            (group.members.some((m) => m.learner) || lacksVoter(group)
              ? 'MEMBER_BEHIND'
              : undefined));
  if (refusal !== undefined) refuse(turn, proposer, refusal);
  else appendGroup(turn, withLearner(group, id, address), proposer);
}

/**
 * A voter goes when those that are left have answered since, and are a majority of themselves: else nobody could decide
 * anything any more, not even to undo it.
 */
function removeMember(turn: Turn, proposer: Proposer, id: string): void {
  const { state, now } = turn;
  const { group } = currentGroup(state.durable);
  const isMember = group.members.some((m) => m.id === id);
  if (!isMember && group.removed.includes(id)) {
    settleWithGroup(turn, proposer);
    return;
  }
  const refusal = isMember ? notNow(state) : 'MEMBER_NOT_FOUND';
  if (refusal !== undefined) refuse(turn, proposer, refusal);
  else if (!isVoter(group, id)) appendGroup(turn, withoutMember(group, id), proposer);
  else {
    const until = now + state.limits.electionMs;
    state.removal = { id, proposer, round: state.round + 1, until };
    broadcast(turn);
    continueRemoval(turn);
  }
}

/** Somebody has answered. */
export function continueRemoval(turn: Turn): void {
  const { state } = turn;
  const { removal } = state;
  if (removal === undefined || state.role !== 'leader') return;
  const { group } = currentGroup(state.durable);
  const next = withoutMember(group, removal.id);
  const hasAnswered = (id: string): boolean =>
    id === state.id || (state.progress.get(id)?.round ?? 0) >= removal.round;
  if (!isMajority(next, hasAnswered)) return;
  state.removal = undefined;
  appendGroup(turn, next, removal.proposer);
}

/** Too few of those that would be left have answered. */
export function expireRemoval(turn: Turn): void {
  const { state, now } = turn;
  const { removal } = state;
  if (removal === undefined || now < removal.until) return;
  state.removal = undefined;
  refuse(turn, removal.proposer, 'LAST_MAJORITY');
}

/**
 * One change at a time, and none before an entry of the own term is committed: else two leaders could each change
 * the group that the other one doesn't know, and their majorities would not meet (B1).
 */
function notNow(state: RaftState): Refusal | undefined {
  const isPending = currentGroup(state.durable).index > state.commit;
  const isBusy = state.transfer !== undefined || state.removal !== undefined;
  return !knowsCommits(state) || isPending || isBusy ? 'CHANGE_PENDING' : undefined;
}

/**
 * Where a founder has not been heard yet nobody new gets a vote: who asks then whether that founder is new asks founders
 * (decision 16), and a majority with others in it need not have one of them.
 */
function lacksVoter({ members }: RaftGroup): boolean {
  return members.some(({ learner, seen }) => !learner && !seen);
}

/** What was asked for is so already: answered when that is committed. */
function settleWithGroup(turn: Turn, proposer: Proposer): void {
  const { state } = turn;
  const { index } = currentGroup(state.durable);
  if (index <= state.commit) settle(turn, proposer, index);
  else refuse(turn, proposer, 'CHANGE_PENDING');
}

function appendGroup(turn: Turn, group: RaftGroup, proposer: Proposer | undefined): void {
  const { state } = turn;
  const { index } = appendAsLeader(turn, RaftGroup.encode(group).finish(), true);
  if (proposer !== undefined) state.proposers.set(index, proposer);
  followGroup(turn);
  broadcast(turn);
}

/** A leader feeds every other member of the group that holds now, and nobody else. */
export function followGroup(turn: Turn): void {
  const { state, now } = turn;
  const ids = new Set(others(state).map(({ id }) => id));
  for (const id of [...state.progress.keys()]) if (!ids.has(id)) state.progress.delete(id);
  for (const id of ids) {
    if (state.progress.has(id)) continue;
    state.progress.set(id, newProgress(state.durable.log.last.index + 1, now));
  }
}

/** A learner that has nearly all gets its vote. */
export function promoteLearner(turn: Turn): void {
  const { state } = turn;
  if (state.role !== 'leader' || notNow(state) !== undefined) return;
  const { group } = currentGroup(state.durable);
  const learner = group.members.find(({ learner }) => learner);
  const progress = learner && state.progress.get(learner.id);
  if (lacksVoter(group)) return;
  if (learner === undefined || progress?.mode !== 'replicate') return;
  if (progress.match + learnerLagMax < state.durable.log.last.index || progress.match === 0) return;
  appendGroup(turn, withVoter(group, learner.id), undefined);
}

/**
 * A voter is heard for the first time: the leader writes it down before it counts on it (decision 16). Not held up by a
 * change that isn't committed: the voters stay those of the newest group in the log, whoever wrote it.
 */
export function markSeen(turn: Turn, id: string): void {
  const { state } = turn;
  const { group } = currentGroup(state.durable);
  if (state.role !== 'leader' || !isVoter(group, id) || isSeen(group, id)) return;
  appendGroup(turn, withSeen(group, id), undefined);
}

/** A member is reached elsewhere than the group says: the leader lets all know. */
export function followAddress(turn: Turn, id: string, address: string): void {
  const { state } = turn;
  const { group } = currentGroup(state.durable);
  const known = group.members.find((m) => m.id === id);
  if (address === '' || known === undefined || known.address === address) return;
  const isTaken = group.members.some((m) => m.address === address);
  if (state.role !== 'leader' || isTaken || notNow(state) !== undefined) return;
  appendGroup(turn, withAddress(group, id, address), undefined);
}

/** Was this member removed, by what stands at or before this entry? */
export function isRemoved({ durable }: RaftState, id: string, index: number): boolean {
  const { members, removed } = groupAt(durable, index);
  return removed.includes(id) && !members.some((m) => m.id === id);
}

/** A leader has applied this entry: who was removed by it is told. */
export function tellRemoved(turn: Turn, index: number): void {
  const { role, durable } = turn.state;
  if (role !== 'leader' || !durable.groups.some((g) => g.index === index)) return;
  for (const { id } of groupAt(durable, index - 1).members) {
    if (id === turn.state.id || !isRemoved(turn.state, id, index)) continue;
    turn.send(id, { $case: 'removed', value: {} }, { afterSync: false });
  }
}

/** Its own removal is applied: it hands over and stands aside (thesis §4.2.2). */
export function leaveIfRemoved(turn: Turn): void {
  const { state } = turn;
  if (state.removed || !isRemoved(state, state.id, state.applied)) return;
  if (state.role === 'leader') {
    const to = nextInLine(turn);
    if (to !== '') turn.send(to, { $case: 'timeoutNow', value: {} }, { afterSync: false });
  }
  state.removed = true;
  turn.effect({ type: 'removed' });
}

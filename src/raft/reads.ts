import type { ReadResult } from '../gen/keychaindb/v1/raft.js';
import { majorityIndex } from './group.js';
import type { Refusal } from './inputs.js';
import { readsMax } from './limits.js';
import { broadcast } from './replication.js';
import { currentGroup, keep, knowsCommits, type Proposer, type RaftState } from './state.js';
import type { Turn } from './turn.js';

/*
 * ReadIndex (thesis §6.4): what is committed when a read comes, said by a leader that a majority still follows after
 * that. No entry is written.
 */

/** A read of this process: the leader says from which index on the state is as new. */
export function askRead(turn: Turn, token: number): void {
  const { state } = turn;
  if (state.role === 'leader') {
    addRead(turn, { type: 'local', token });
    return;
  }
  if (state.leader === undefined) {
    turn.effect({ type: 'refuse', token, reason: 'NO_LEADER' });
    return;
  }
  // A number is never used twice: an answer to an older question answers nothing (B6).
  const id = state.nextQuestion;
  state.nextQuestion += 1;
  keep(state.askedReads, id, token, readsMax);
  turn.send(state.leader, { $case: 'readRequest', value: { id } }, { afterSync: false });
}

export function onReadRequest(turn: Turn, from: string, id: number): void {
  const reader: Proposer = { type: 'remote', from, id };
  if (turn.state.role === 'leader') addRead(turn, reader);
  else refuseRead(turn, reader, 'NO_LEADER');
}

function addRead(turn: Turn, reader: Proposer): void {
  const { state } = turn;
  // Before its first commit a leader doesn't know what is committed (§8; B6).
  if (!knowsCommits(state)) {
    refuseRead(turn, reader, 'NO_LEADER');
    return;
  }
  if (state.reads.length >= readsMax) {
    refuseRead(turn, reader, 'OVERLOADED');
    return;
  }
  // What comes while a round is under way waits for the next one, together.
  const isFirst = state.reads.length === 0;
  state.reads.push({ reader, index: state.commit, round: state.round + 1 });
  if (isFirst) broadcast(turn);
  confirmReads(turn);
}

/** Answers the reads that came before the newest round which a majority has answered. */
export function confirmReads(turn: Turn): void {
  const { state } = turn;
  if (state.role !== 'leader' || state.reads.length === 0) return;
  const confirmed = confirmedRound(state);
  while ((state.reads[0]?.round ?? Number.POSITIVE_INFINITY) <= confirmed) {
    const read = state.reads.shift();
    if (read !== undefined) answerRead(turn, read.reader, read.index);
  }
  if ((state.reads[0]?.round ?? 0) > state.round) {
    broadcast(turn);
    // A leader that is alone has its own word.
    if (confirmedRound(state) === state.round) confirmReads(turn);
  }
}

function confirmedRound(state: RaftState): number {
  return majorityIndex(currentGroup(state.durable).group, (id) =>
    id === state.id ? state.round : (state.progress.get(id)?.round ?? 0),
  );
}

function answerRead(turn: Turn, reader: Proposer, index: number): void {
  if (reader.type === 'local') {
    readAt(turn, reader.token, index);
    return;
  }
  const value = { id: reader.id, reason: '', index };
  turn.send(reader.from, { $case: 'readResult', value }, { afterSync: false });
}

export function onReadResult(turn: Turn, { id, reason, index }: ReadResult): void {
  const token = turn.state.askedReads.get(id);
  if (token === undefined) return;
  turn.state.askedReads.delete(id);
  if (reason === '') readAt(turn, token, index);
  else turn.effect({ type: 'refuse', token, reason: reason as Refusal });
}

function readAt(turn: Turn, token: number, index: number): void {
  const { readyReads } = turn.state;
  readyReads.push({ token, index });
  if (readyReads.length > readsMax) readyReads.shift();
  releaseReads(turn);
}

/** What is applied here is as new as these reads ask for. */
export function releaseReads(turn: Turn): void {
  const { state } = turn;
  if (state.readyReads.length === 0) return;
  const ready = state.readyReads.filter(({ index }) => index <= state.applied);
  if (ready.length === 0) return;
  state.readyReads = state.readyReads.filter(({ index }) => index > state.applied);
  for (const { token, index } of ready) turn.effect({ type: 'read', token, index });
}

function refuseRead(turn: Turn, reader: Proposer, reason: Refusal): void {
  if (reader.type === 'local') {
    turn.effect({ type: 'refuse', token: reader.token, reason });
    return;
  }
  const value = { id: reader.id, reason, index: 0 };
  turn.send(reader.from, { $case: 'readResult', value }, { afterSync: false });
}

/** A leader that is none any more can vouch for nothing. */
export function abandonReads(turn: Turn): void {
  for (const { reader } of turn.state.reads) refuseRead(turn, reader, 'NO_LEADER');
  turn.state.reads = [];
}

/** The leader that was asked leads no more: the next one is asked anew, by who wants to know. */
export function abandonAskedReads(turn: Turn): void {
  for (const token of turn.state.askedReads.values()) {
    turn.effect({ type: 'refuse', token, reason: 'NO_LEADER' });
  }
  turn.state.askedReads.clear();
}

import { equalBytes } from '../base/bytes.js';
import type { PeerMessage, StateAnswer, StateQuery } from '../gen/keychaindb/v1/chain.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { nameOf } from '../log/record.js';
import { endingAt, type RangeHash, type Round, type StateRange } from './comparison.js';
import { headerTo } from './header.js';
import { holds } from './spans.js';
import type { NodeState } from './state.js';
import type { Turn } from './turn.js';
import { memberOf, type Name, predecessorOf, sameName, servesIn, servingOf } from './views.js';

/*
 * Neighbours compare their states (R18): a part after the other, each as it is after one entry that both have
 * committed. What was read of a store is of no entry exactly: the log's entries since bring it to the one that is
 * agreed on, so that nothing waits for a comparison. An answer that doesn't come, another epoch, a log that
 * doesn't reach back: no verdict, and the part comes again.
 */

/** Milliseconds that a round may take before it ends without a verdict. */
const roundMsMax = 10_000;
/** Milliseconds between two rounds at the least. */
const pauseMsMin = 20;

/** What a neighbour asked for. */
export interface AskedRange {
  readonly by: Name;
  readonly epoch: number;
  readonly nonce: number;
  readonly from: Uint8Array;
  readonly to: Uint8Array;
  readonly atLeast: EntryId;
}

/** Begins the next round where one is due, and gives one up that takes too long. */
export function compareOnTick(turn: Turn, now: number): void {
  const { state } = turn;
  const { comparison, active } = state;
  const { round, pace } = comparison;
  if (round !== undefined) {
    if (now - round.since > roundMsMax) endRound(turn, now);
    return;
  }
  if (pace.share <= 0 || now < comparison.nextAt || state.damage !== undefined) return;
  if (active === undefined || state.removed || !servesIn(active, state.self)) return;
  const predecessor = predecessorOf(active, state.self);
  if (predecessor === undefined || state.up?.reconciled !== true) return;
  const nonce = state.nextNonce;
  state.nextNonce += 1;
  const { id, incarnation } = predecessor;
  turn.emit({
    type: 'RoundBegan',
    nonce,
    epoch: active.epoch,
    predecessor: { id, incarnation },
    now,
  });
  turn.effect({ type: 'readRange', nonce, from: comparison.from });
}

/** The round that this belongs to, if it goes on, in its epoch. */
function roundOf({ state }: Turn, nonce: number): Round | undefined {
  const { round } = state.comparison;
  if (round === undefined || round.nonce !== nonce || state.removed) return undefined;
  return state.active?.epoch === round.epoch ? round : undefined;
}

/** The own part was read; undefined: it could not be. */
export function onRangeRead(
  turn: Turn,
  nonce: number,
  range: StateRange | undefined,
  now: number,
): void {
  const round = roundOf(turn, nonce);
  if (round === undefined) return;
  if (range === undefined) {
    endRound(turn, now);
    return;
  }
  turn.emit({ type: 'RangeRead', range, now });
  ask(turn, round.predecessor, nonce, range);
}

function ask(turn: Turn, of: Name, nonce: number, { from, to, through }: StateRange): void {
  turn.emit({ type: 'RangeAsked', of });
  const value = { nonce, from, to, atLeast: through };
  sayTo(turn, of, { $case: 'stateQuery', value });
}

function sayTo(turn: Turn, to: Name, message: PeerMessage['message']): void {
  const { state } = turn;
  const member = state.active === undefined ? undefined : memberOf(state.active, to);
  if (member === undefined) return;
  turn.effect({ type: 'say', to: member, message: { header: headerTo(state, to), message } });
}

/** A neighbour of the same epoch asks. What it has committed is in this log: both serve (R11). */
export function onStateQuery(turn: Turn, by: Name, epoch: number, query: StateQuery): void {
  const { state } = turn;
  const { active } = state;
  if (active?.epoch !== epoch || !servesIn(active, state.self) || !servesIn(active, by)) return;
  const { nonce, from, to, atLeast } = query;
  if (atLeast === undefined || !mayHash(state, atLeast)) return;
  turn.effect({ type: 'hashRange', asked: { by, epoch, nonce, from, to, atLeast } });
}

/** Is it an entry of this log? */
function mayHash({ ledger }: NodeState, at: EntryId): boolean {
  return at.index <= ledger.synced.index && holds(ledger.spans, at);
}

/** What a neighbour asked for is there; undefined: it could not be read. */
export function onRangeHashed(turn: Turn, asked: AskedRange, hash: RangeHash | undefined): void {
  const { state } = turn;
  if (hash === undefined || state.removed || state.active?.epoch !== asked.epoch) return;
  sayTo(turn, asked.by, { $case: 'stateAnswer', value: { nonce: asked.nonce, ...hash } });
}

export function onStateAnswer(
  turn: Turn,
  from: Name,
  epoch: number,
  { nonce, at, to, hash }: StateAnswer,
  now: number,
): void {
  const round = roundOf(turn, nonce);
  if (round?.range === undefined || round.epoch !== epoch || !sameName(round.asked, from)) return;
  const isOfLog = at !== undefined && at.index >= round.range.through.index;
  if (!isOfLog || !mayHash(turn.state, at) || !isWithin(round, to)) {
    endRound(turn, now);
    return;
  }
  turn.effect({ type: 'rollRange', nonce, theirs: { at, to, hash } });
}

/** A first answer may be of less than was asked for; those that are compared with it then may not. */
function isWithin({ range, differ }: Round, to: Uint8Array): boolean {
  if (range === undefined || Buffer.compare(to, range.from) <= 0) return false;
  return differ.length > 0 ? equalBytes(to, range.to) : Buffer.compare(to, range.to) <= 0;
}

/** The own part as it was at the same entry; undefined: the log doesn't reach back. */
export function onRangeRolled(
  turn: Turn,
  nonce: number,
  theirs: RangeHash,
  own: RangeHash | undefined,
  now: number,
): void {
  const round = roundOf(turn, nonce);
  if (round === undefined) return;
  if (own === undefined) {
    endRound(turn, now);
    return;
  }
  const isEqual = own.hash === theirs.hash;
  const { asked, predecessor, range } = round;
  if (isEqual && sameName(asked, predecessor)) {
    const { pace } = turn.state.comparison;
    const pause = Math.max(pauseMsMin, round.tookMs * (1 / pace.share - 1));
    const isLast = range !== undefined && endingAt(range, own.to).isLast;
    const nextAt = now + (isLast ? Math.max(pause, pace.intervalMs) : pause);
    turn.emit({ type: 'RoundEqual', at: own.at, to: own.to, nextAt });
    return;
  }
  if (isEqual) turn.emit({ type: 'RangeAgreed', from: asked });
  else turn.emit({ type: 'RangeDiffered', from: asked, to: own.to });
  askNextOrJudge(turn, own.at, now);
}

/** It differs from the predecessor's: what the other members have tells which of the two is the odd one. */
function askNextOrJudge(turn: Turn, at: EntryId, now: number): void {
  const { state } = turn;
  const { active, self, comparison } = state;
  const { round } = comparison;
  if (active === undefined || round?.range === undefined) return;
  const { agree, differ, predecessor, nonce, range } = round;
  const heard = [...agree, ...differ];
  const next = servingOf(active).find(
    (m) => !sameName(m, self) && !heard.some((name) => sameName(name, m)),
  );
  if (next !== undefined) {
    ask(turn, { id: next.id, incarnation: next.incarnation }, nonce, range);
    return;
  }
  const isMost = agree.length + 1 > differ.length;
  const outlier = isMost ? predecessor.id : self.id;
  endRound(turn, now);
  turn.emit({ type: 'DamageFound', damage: { what: differenceOf(round, range, at), outlier } });
  turn.effect({ type: 'beat' });
}

function differenceOf({ agree, differ }: Round, { from, to }: StateRange, at: EntryId): string {
  const ids = (names: readonly Name[]): string => names.map(({ id }) => id).join(' and ');
  const like = agree.length > 0 ? `, and is that of ${ids(agree)}` : '';
  const where = `between the records ${nameOf(from)} and ${nameOf(to)}`;
  return `its state at revision ${at.index} differs from that of ${ids(differ)}${like}, ${where}`;
}

function endRound(turn: Turn, now: number): void {
  turn.emit({ type: 'RoundEnded', nextAt: now + turn.state.comparison.pace.intervalMs });
}

/** A record of the own store can't be read. It stays so: the coordinators take this member out, if they may. */
export function onDamageFound(turn: Turn, what: string): void {
  const { state } = turn;
  if (state.removed || state.damage?.outlier === '') return;
  turn.emit({ type: 'DamageFound', damage: { what, outlier: '' } });
  turn.effect({ type: 'beat' });
}

/** Is this store to be emptied when this node is out of the chain: others have all that is committed? */
export function isDamaged({ damage, self }: NodeState): boolean {
  return damage !== undefined && (damage.outlier === '' || damage.outlier === self.id);
}

import { toMapKey } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import { origin } from '../log/event-log.js';
import { headerTo } from './header.js';
import { parkedReadsMax } from './limits.js';
import type { KeyValue, ReadAnswer, ReadRequest } from './messages.js';
import { isLeased } from './promise.js';
import type { ParkedRead, StagedVersion } from './state.js';
import type { Turn } from './turn.js';
import { isTail, memberOf, type Name, sameName, servesIn, servingOf } from './views.js';

/*
 * Reads (CRAQ §2.3, R4, R14).
 *
 * Clean key (nothing staged above the watermark): answered here.
 * Dirty key: the tail is asked for its watermark; the answer is the newest version at or below it.
 * Never staged data that isn't committed; never the last committed value while a newer one might be.
 */

/** `now` was read after the requests were taken in and after their objects were loaded. */
export function onReadsReceived(turn: Turn, reads: readonly ReadRequest[], now: number): void {
  for (const read of reads) takeRead(turn, read, now);
  askTail(turn, now);
}

function takeRead(turn: Turn, read: ReadRequest, now: number): void {
  const { state } = turn;
  if (state.removed || state.active === undefined || !servesIn(state.active, state.self)) {
    answer(turn, read, {
      type: 'refused',
      reason: 'NOT_SERVING',
      message: `${state.self.id} is not a serving member of the chain`,
    });
    return;
  }
  if (!isLeased(state, now)) {
    parkUnleased(turn, read);
    return;
  }
  const key = toMapKey(read.key);
  const dirty = state.ledger.dirty.get(key);
  if (dirty === undefined || state.authority) {
    answerFound(turn, read, read.stored, read.askedTail ?? false);
    return;
  }
  // The tail said earlier that everything through `floor` is committed; this node has got there or not.
  if (read.floor === undefined) {
    parkDirty(turn, read, key);
    return;
  }
  const staged = newestAt(dirty, read.floor);
  answerFound(turn, read, staged === undefined ? read.stored : keyValue(staged), true);
}

function answer(turn: Turn, read: ReadRequest, what: ReadAnswer): void {
  turn.effect({ type: 'answerRead', token: read.token, answer: what });
}

function answerFound(
  turn: Turn,
  read: ReadRequest,
  found: KeyValue | undefined,
  askedTail: boolean,
): void {
  const { state } = turn;
  answer(turn, read, {
    type: 'value',
    found,
    askedTail,
    epoch: state.active?.epoch ?? 0,
    watermark: state.ledger.watermark.index,
  });
}

function parkUnleased(turn: Turn, read: ReadRequest): void {
  const { unleased, parked } = turn.state.waiting;
  if (unleased.length + parked.length >= parkedReadsMax) overloaded(turn, read);
  else unleased.push(read);
}

function parkDirty(turn: Turn, read: ReadRequest, key: string): void {
  const { unleased, parked } = turn.state.waiting;
  if (unleased.length + parked.length >= parkedReadsMax) overloaded(turn, read);
  else parked.push({ read, key });
}

function overloaded(turn: Turn, read: ReadRequest): void {
  answer(turn, read, {
    type: 'refused',
    reason: 'OVERLOADED',
    message: `${parkedReadsMax} reads wait at ${turn.state.self.id} for a lease or for the tail`,
  });
}

/**
 * The newest version at or below max(through, own watermark), all of it committed. Where nothing of the
 * key is staged in there it is the committed object, which is loaded again.
 */
function resolveAt(turn: Turn, { read, key }: ParkedRead, through: number): void {
  const staged = newestAt(turn.state.ledger.dirty.get(key) ?? [], through);
  if (staged !== undefined) answerFound(turn, read, keyValue(staged), true);
  else turn.effect({ type: 'readAgain', read: { ...read, floor: through, askedTail: true } });
}

function newestAt(versions: readonly StagedVersion[], through: number): StagedVersion | undefined {
  let newest: StagedVersion | undefined;
  for (const version of versions) {
    if (version.revision > through) break;
    newest = version;
  }
  return newest;
}

function keyValue(version: StagedVersion): KeyValue | undefined {
  if (version.value === undefined) return undefined;
  return {
    value: version.value,
    createRevision: version.createRevision,
    modRevision: version.revision,
    version: version.version,
  };
}

/** Sends a query for the reads that wait and that none covers; one in flight. */
export function askTail(turn: Turn, now: number): void {
  const { state } = turn;
  const { active, waiting } = state;
  if (waiting.query !== undefined || waiting.parked.length === 0) return;
  // Without a lease the answer could not be used, and the next query would follow it at once.
  if (active === undefined || !isLeased(state, now)) return;
  const tail = servingOf(active).at(-1);
  // A tail without authority answers its own dirty reads when it has it.
  if (tail === undefined || sameName(tail, state.self)) return;
  const nonce = state.nextNonce;
  state.nextNonce += 1;
  waiting.query = { nonce, epoch: active.epoch, sentAt: now, covers: waiting.parked };
  waiting.parked = [];
  state.counters.queriesSent += 1;
  turn.effect({
    type: 'say',
    to: tail,
    message: {
      header: headerTo(state, tail),
      message: { $case: 'watermarkQuery', value: { nonce } },
    },
  });
}

/** A query whose answer is overdue is given up; its reads wait for the next. */
export function repeatLateQuery(turn: Turn, now: number): void {
  const { state } = turn;
  const { query } = state.waiting;
  if (query !== undefined && now - query.sentAt > 2 * state.timing.heartbeatMs) dropQuery(turn);
}

/** The query in flight answers nothing any more: its reads wait for the next. */
export function dropQuery(turn: Turn): void {
  const { waiting } = turn.state;
  if (waiting.query === undefined) return;
  waiting.parked = [...waiting.query.covers, ...waiting.parked];
  waiting.query = undefined;
}

/** At activation: own reads ask anew; queries of older epochs are not answered. */
export function dropQueries(turn: Turn): void {
  dropQuery(turn);
  const { active, waiting } = turn.state;
  waiting.queries = waiting.queries.filter((query) => query.epoch >= (active?.epoch ?? 0));
}

/** The tail's side: answers only with authority in that epoch and valid promises now (R14). */
export function onWatermarkQuery(
  turn: Turn,
  from: Name,
  epoch: number,
  nonce: number,
  now: number,
): void {
  const { state } = turn;
  const { active, waiting } = state;
  if (state.removed || active === undefined) return;
  const current = epoch === active.epoch && isTail(active, state.self);
  if (current && state.authority && isLeased(state, now)) {
    answerQuery(turn, from, nonce);
  } else if (epoch >= active.epoch && waiting.queries.length < parkedReadsMax) {
    waiting.queries.push({ from, nonce, epoch });
  }
}

function answerQuery(turn: Turn, to: Name, nonce: number): void {
  const { state } = turn;
  const member = state.active === undefined ? undefined : memberOf(state.active, to);
  if (member === undefined) return;
  state.counters.queriesAnswered += 1;
  turn.effect({
    type: 'say',
    to: member,
    message: {
      header: headerTo(state, to),
      message: {
        $case: 'watermarkAnswer',
        value: { nonce, watermark: state.ledger.watermark },
      },
    },
  });
}

/** The reader's side: used only if its epoch is unchanged and its own promises are valid. */
export function onWatermarkAnswer(
  turn: Turn,
  epoch: number,
  nonce: number,
  watermark: EntryId | undefined,
  now: number,
): void {
  const { state } = turn;
  const { query } = state.waiting;
  if (query === undefined || query.nonce !== nonce) return;
  if (state.active?.epoch !== query.epoch || epoch !== query.epoch || !isLeased(state, now)) {
    dropQuery(turn);
  } else {
    state.waiting.query = undefined;
    const through = Math.max((watermark ?? origin).index, state.ledger.watermark.index);
    for (const parked of query.covers) {
      if (parked.read.deadline > now) resolveAt(turn, parked, through);
    }
  }
  askTail(turn, now);
}

/** The watermark rose or authority came: keys may be clean, queries of others may be answered. */
export function afterCommit(turn: Turn, now: number): void {
  const { state } = turn;
  const { waiting, ledger } = state;
  if (state.authority && isLeased(state, now)) answerQueries(turn);
  if (waiting.parked.length === 0 || !isLeased(state, now)) return;
  const still: ParkedRead[] = [];
  for (const parked of waiting.parked) {
    if (state.authority || !ledger.dirty.has(parked.key)) {
      turn.effect({ type: 'readAgain', read: parked.read });
    } else still.push(parked);
  }
  waiting.parked = still;
}

function answerQueries(turn: Turn): void {
  const { state } = turn;
  const queries = state.waiting.queries;
  if (queries.length === 0) return;
  state.waiting.queries = [];
  for (const query of queries) {
    if (query.epoch === state.active?.epoch) answerQuery(turn, query.from, query.nonce);
    else if (query.epoch > (state.active?.epoch ?? 0)) state.waiting.queries.push(query);
  }
}

/** Leases may run again: reads that waited for one are taken up anew. */
export function afterLeaseChange(turn: Turn, now: number): void {
  const { state } = turn;
  const { waiting } = state;
  if (!isLeased(state, now)) return;
  if (state.authority) answerQueries(turn);
  if (waiting.unleased.length > 0) {
    const reads = waiting.unleased;
    waiting.unleased = [];
    for (const read of reads) turn.effect({ type: 'readAgain', read });
  }
  afterCommit(turn, now);
  askTail(turn, now);
}

/** Nobody waits for these any more: the shell has answered them. */
export function forgetLate(turn: Turn, now: number): void {
  const { waiting } = turn.state;
  if (waiting.unleased.length > 0) {
    waiting.unleased = waiting.unleased.filter((read) => read.deadline > now);
  }
  if (waiting.parked.length > 0) {
    waiting.parked = waiting.parked.filter(({ read }) => read.deadline > now);
  }
}

/** Removed: every read that waits is refused, so that its proxy asks another node. */
export function refuseWaitingReads(turn: Turn): void {
  dropQuery(turn);
  const { waiting, self } = turn.state;
  const reads = [...waiting.unleased, ...waiting.parked.map((p) => p.read)];
  waiting.unleased = [];
  waiting.parked = [];
  for (const read of reads) {
    answer(turn, read, {
      type: 'refused',
      reason: 'NOT_SERVING',
      message: `${self.id} is not a serving member of the chain any more`,
    });
  }
}

import { assert } from '../base/assert.js';
import { toMapKey } from '../base/bytes.js';
import { encoded } from '../base/message-writer.js';
import { ChainRecord, type EntryId, type Envelope } from '../gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../log/block.js';
import { outcomeOf, versionOf } from './fold.js';
import { blockBytesMax, outcomesMax, stagedBytesMax, stagedEntriesMax } from './limits.js';
import { syncedThrough } from './link.js';
import type { Refusal, Token, WriteRequest } from './messages.js';
import { afterCommit } from './read.js';
import { holds } from './spans.js';
import type { NodeState, StagedEntry, StagedVersion } from './state.js';
import type { Turn } from './turn.js';
import { isHead, isTail, joiningOf, sameName } from './views.js';

/*
 * Writes: admitted at the head (R12), committed by the tail (R7, R9, R11), answered by the head when
 * the watermark has come up (R15).
 */

/** The head decides a batch: one block, one group commit. */
export function onWritesReceived(
  turn: Turn,
  writes: readonly WriteRequest[],
  now: number,
  wall: number,
): void {
  const { state } = turn;
  const { active, ledger } = state;
  if (state.removed || active === undefined || !isHead(active, state.self)) {
    for (const write of writes) {
      refuse(turn, write.token, {
        reason: 'NOT_HEAD',
        message: `${state.self.id} is not the head of the chain: the view names it`,
      });
    }
    return;
  }
  const draft = new Draft(state, Math.max(ledger.lastAt, wall));
  for (const write of writes) {
    if (now >= write.deadline) continue;
    admit(turn, draft, write);
  }
  draft.appendTo(turn);
  commitWhatMay(turn, now);
}

/** One write: refused, answered from its recorded outcome, joined to its staged entry, or drafted. */
function admit(turn: Turn, draft: Draft, write: WriteRequest): void {
  const { state } = turn;
  const { ledger } = state;
  const client = toMapKey(write.request.clientId);
  const { seq } = write.request;
  const session = ledger.sessions.get(client);
  if (session !== undefined) {
    const outcome = session.outcomes.get(seq);
    if (outcome !== undefined) {
      turn.effect({
        type: 'answerWrite',
        token: write.token,
        answer: { type: 'committed', outcome, ...servedBy(state) },
      });
      return;
    }
    const staged = session.staged.get(seq);
    if (staged !== undefined) {
      waitFor(state, staged, write.token);
      return;
    }
    if (seq < session.answeredBelow) {
      refuse(turn, write.token, {
        reason: 'SESSION_EXPIRED',
        message: `request ${seq} was answered already: the client said so (answered_below ${session.answeredBelow})`,
      });
      return;
    }
  }
  // What is staged after the expiry would be an outcome of a client that is known to have none.
  if (ledger.expired.has(client) || ledger.expiring.has(client)) {
    refuse(turn, write.token, {
      reason: 'SESSION_EXPIRED',
      message: 'the session of this client was expired after a long silence: its outcomes are gone',
    });
    return;
  }
  if (draft.join(client, seq, write.token)) return;
  const outstanding = (session?.outcomes.size ?? 0) + (session?.staged.size ?? 0);
  if (outstanding >= outcomesMax) {
    refuse(turn, write.token, {
      reason: 'OVERLOADED',
      message: `a client may have ${outcomesMax} requests whose answers it hasn't confirmed (answered_below)`,
    });
    return;
  }
  if (
    ledger.stagedEntries + draft.size >= stagedEntriesMax ||
    ledger.stagedBytes + draft.bytes >= stagedBytesMax
  ) {
    refuse(turn, write.token, {
      reason: 'OVERLOADED',
      message: `${ledger.stagedEntries} writes wait for their commit: at most ${stagedEntriesMax}, or ${stagedBytesMax} bytes`,
    });
    return;
  }
  draft.add(write, client);
  if (draft.bytes >= blockBytesMax) draft.appendTo(turn);
}

function refuse(turn: Turn, token: Token, refusal: Refusal): void {
  turn.effect({ type: 'answerWrite', token, answer: { type: 'refused', ...refusal } });
}

function servedBy(state: NodeState): { readonly epoch: number; readonly watermark: number } {
  return { epoch: state.active?.epoch ?? 0, watermark: state.ledger.watermark.index };
}

function waitFor(state: NodeState, id: EntryId, token: Token): void {
  const waiting = state.waiting.writes.get(id.index);
  if (waiting === undefined) state.waiting.writes.set(id.index, { id, tokens: [token] });
  else waiting.tokens.push(token);
}

/** A block in the making. */
class Draft {
  readonly #state: NodeState;
  readonly #at: number;
  #entries: Envelope[] = [];
  #waiting: { readonly id: EntryId; readonly token: Token }[] = [];
  readonly #requests = new Map<string, EntryId>();
  readonly #versions = new Map<string, StagedVersion>();
  bytes = 0;

  constructor(state: NodeState, at: number) {
    this.#state = state;
    this.#at = at;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** The same request twice in one batch: both wait for the one entry. */
  join(client: string, seq: number, token: Token): boolean {
    const id = this.#requests.get(`${seq}/${client}`);
    if (id === undefined) return false;
    this.#waiting.push({ id, token });
    return true;
  }

  add(write: WriteRequest, client: string): void {
    const { active, ledger } = this.#state;
    assert(active !== undefined, 'a head has an active view');
    const index = ledger.last.index + this.#entries.length + 1;
    const id: EntryId = { generation: active.epoch, index };
    const record = this.#record(write, index);
    const payload = encoded(ChainRecord, { record });
    this.#entries.push({
      ...id,
      at: this.#at,
      request: write.request,
      trace: write.trace,
      payload,
      checksum: payloadChecksum(payload),
      isGroup: false,
    });
    this.bytes += payload.byteLength + 64;
    this.#requests.set(`${write.request.seq}/${client}`, id);
    this.#waiting.push({ id, token: write.token });
    const version = versionOf(index, record);
    if (version !== undefined) this.#versions.set(toMapKey(version.key), version.version);
  }

  /** The resulting value, never the operation; decided against the newest version, staged ones included. */
  #record(write: WriteRequest, revision: number): StagedEntry['record'] {
    const { operation } = write;
    const key = toMapKey(operation.key);
    const staged = this.#versions.get(key) ?? this.#state.ledger.dirty.get(key)?.at(-1);
    const existing =
      staged === undefined ? write.stored : staged.value === undefined ? undefined : staged;
    if (operation.type === 'delete') {
      return {
        $case: 'delete',
        value: { key: operation.key, existed: existing !== undefined },
      };
    }
    return {
      $case: 'put',
      value: {
        key: operation.key,
        value: operation.value,
        createRevision: existing?.createRevision ?? revision,
        version: (existing?.version ?? 0) + 1,
        lease: 0,
      },
    };
  }

  appendTo(turn: Turn): void {
    if (this.#entries.length === 0) return;
    const { ledger } = this.#state;
    const block = encodeBlock({
      chainId: this.#state.chainId,
      previous: ledger.last,
      entries: this.#entries,
    });
    for (const { id, token } of this.#waiting) waitFor(this.#state, id, token);
    turn.emit({ type: 'BlockAppended', block, stored: false });
    this.#entries = [];
    this.#waiting = [];
    this.#requests.clear();
    this.#versions.clear();
    this.bytes = 0;
  }
}

/** The token is here: authority comes when everything that is held now is committed (R7). */
export function takeToken(turn: Turn): void {
  turn.emit({ type: 'TokenReceived', through: turn.state.ledger.last.index });
}

/** The tail commits what every counting member has synced: own disk, all before it, the JOINING one (R9, R11). */
export function commitWhatMay(turn: Turn, now: number): void {
  const { state } = turn;
  const { active, ledger } = state;
  if (active === undefined || state.removed || state.authorityAt === undefined) return;
  if (!isTail(active, state.self)) return;
  let limit = syncedThrough(state);
  const joining = joiningOf(active);
  if (joining !== undefined) {
    const { down } = state;
    const acked = down !== undefined && sameName(down.from, joining) ? (down.acked?.index ?? 0) : 0;
    if (acked < limit.index) limit = down?.acked ?? { generation: 0, index: 0 };
  }
  if (limit.index > ledger.watermark.index) commit(turn, endAtOrBelow(state, limit.index), now);
  if (!state.authority && ledger.watermark.index >= state.authorityAt) {
    turn.emit({ type: 'AuthorityTaken' });
    turn.effect({ type: 'beat' });
    afterCommit(turn, now);
  }
}

/** The newest block's end at or below an index. */
function endAtOrBelow(state: NodeState, index: number): EntryId {
  let end = state.ledger.watermark;
  for (const block of state.ledger.staged) {
    if (block.end.index > index) break;
    end = block.end;
  }
  return end;
}

/** A watermark that came over a reconciled link of this epoch. */
export function commitThroughKnown(turn: Turn, watermark: EntryId, now: number): void {
  const { state } = turn;
  const { ledger } = state;
  if (watermark.index <= ledger.watermark.index) return;
  if (watermark.index > ledger.last.index) {
    // A member that catches up: all it holds is committed, it is a prefix of its predecessor's log.
    commit(turn, ledger.last, now);
    return;
  }
  assert(holds(ledger.spans, watermark), 'a watermark names an entry of the same log', {
    watermark,
    last: ledger.last,
  });
  commit(turn, endAtOrBelow(state, watermark.index), now);
}

function commit(turn: Turn, through: EntryId, now: number): void {
  const { state } = turn;
  const { ledger } = state;
  if (through.index <= ledger.watermark.index) return;
  const answers = committedAnswers(state, through);
  turn.emit({ type: 'Committed', through });
  for (const { token, entry } of answers) {
    turn.effect({
      type: 'answerWrite',
      token,
      answer: {
        type: 'committed',
        outcome: outcomeOf(entry.envelope, entry.record),
        ...servedBy(state),
      },
    });
  }
  if (state.up?.reconciled === true) {
    turn.effect({ type: 'acknowledge', session: state.up.session });
  }
  const { active, down } = state;
  if (down !== undefined && active !== undefined && isTail(active, state.self)) {
    turn.effect({ type: 'refreshFollower', link: down.link });
  }
  afterCommit(turn, now);
}

function committedAnswers(
  state: NodeState,
  through: EntryId,
): { readonly token: Token; readonly entry: StagedEntry }[] {
  const { writes } = state.waiting;
  const answers: { readonly token: Token; readonly entry: StagedEntry }[] = [];
  if (writes.size === 0) return answers;
  for (const block of state.ledger.staged) {
    if (block.end.index > through.index) break;
    for (const entry of block.entries) {
      const waiting = writes.get(entry.envelope.index);
      if (waiting === undefined) continue;
      writes.delete(entry.envelope.index);
      assert(
        waiting.id.generation === entry.envelope.generation,
        'a waiting request is that of the entry',
        { waiting: waiting.id, generation: entry.envelope.generation },
      );
      for (const token of waiting.tokens) answers.push({ token, entry });
    }
  }
  return answers;
}

const unknown: Refusal = {
  reason: 'OUTCOME_UNKNOWN',
  message: 'the node left the chain before the write was committed: it may be applied yet',
};

/** Requests whose entries were cut: they may have been sent again elsewhere, so nothing is promised. */
export function failCutWrites(turn: Turn, after: number): void {
  for (const [index, { tokens }] of turn.state.waiting.writes) {
    if (index <= after) continue;
    turn.state.waiting.writes.delete(index);
    for (const token of tokens) refuse(turn, token, unknown);
  }
}

/** R15: a head that learns of its removal answers "outcome unknown" to what is not committed. */
export function refuseWaitingWrites(turn: Turn): void {
  failCutWrites(turn, -1);
}

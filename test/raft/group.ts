import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import type { RaftMessage } from '../../src/gen/keychaindb/v1/raft.js';
import { decodeBlock } from '../../src/log/block.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { answerApplied, startState, step } from '../../src/raft/core.js';
import type { RaftEffect, RaftInput } from '../../src/raft/inputs.js';
import { assertInvariants } from '../../src/raft/invariants.js';
import { emptyDurable, evolve, type RaftEvent, type RaftState } from '../../src/raft/state.js';
import { check } from '../sim/check.js';

export const electionMs = 100;

/** One member: a pure core, and a disk on which what was handed over is synced when the test says so. */
export class Member {
  readonly id: string;
  readonly #peers: readonly string[];
  readonly #group: Group;
  state: RaftState;
  isUp = true;
  /** On the disk. */
  #disk: RaftEvent[] = [];
  /** Handed over, not synced; effects wait for what was handed over before them. */
  #writing: RaftEvent[] = [];
  #waiting: RaftEffect[] = [];
  syncing:
    | {
        readonly events: readonly RaftEvent[];
        readonly effects: readonly RaftEffect[];
        readonly last: EntryId;
      }
    | undefined;
  readonly applied: string[] = [];
  readonly resolved = new Map<number, string>();

  constructor(id: string, peers: readonly string[], group: Group) {
    this.id = id;
    this.#peers = peers;
    this.#group = group;
    this.state = this.#started();
  }

  #started(): RaftState {
    const durable = emptyDurable();
    for (const event of this.#disk) evolve(durable, event);
    const options = { id: this.id, peers: this.#peers, electionMs, heartbeatMs: 20 };
    return startState(options, durable, this.#group.now, this.#group.random());
  }

  give(input: RaftInput): void {
    if (!this.isUp) return;
    const { events, effects } = step(this.state, input);
    this.#writing.push(...events);
    assertInvariants(this.state);
    for (const effect of effects) {
      const waits = effect.type === 'send' && effect.afterSync;
      const isBehind = this.#writing.length > 0 || this.syncing !== undefined;
      if (waits && isBehind) this.#waiting.push(effect);
      else this.#perform(effect);
    }
  }

  tick(): void {
    const { now } = this.#group;
    this.give({ type: 'Ticked', now, wall: now, chance: this.#group.random() });
  }

  propose(token: number, text: string): void {
    const { now } = this.#group;
    this.give({ type: 'Proposed', token, payload: Buffer.from(text), now, wall: now });
  }

  receive(message: RaftMessage): void {
    const { now } = this.#group;
    let blocks: readonly LogBlock[] = [];
    if (message.message?.$case === 'appendRequest') {
      blocks = message.message.value.blocks.map(decodeBlock);
    }
    const chance = this.#group.random();
    this.give({ type: 'MessageReceived', message, blocks, now, wall: now, chance });
  }

  /** What was handed over is on the disk now. */
  sync(): void {
    if (!this.isUp) return;
    if (this.syncing !== undefined) this.syncSlowly();
    this.#disk.push(...this.#writing);
    this.#writing = [];
    for (const effect of this.#waiting.splice(0)) this.#perform(effect);
    this.give({ type: 'LogSynced', through: this.state.durable.log.last });
  }

  /** A sync begins, of what was handed over until now; or, where one has begun, it ends. */
  syncSlowly(): void {
    if (!this.isUp) return;
    const { syncing } = this;
    if (syncing === undefined) {
      if (this.#writing.length === 0) return;
      const { last } = this.state.durable.log;
      this.syncing = { events: this.#writing.splice(0), effects: this.#waiting.splice(0), last };
      return;
    }
    this.syncing = undefined;
    this.#disk.push(...syncing.events);
    for (const effect of syncing.effects) this.#perform(effect);
    this.give({ type: 'LogSynced', through: syncing.last });
  }

  /** An older sync ends: it vouches for the entry that was the last one then. */
  synced(index: number, generation: number): void {
    this.give({ type: 'LogSynced', through: { index, generation } });
  }

  crash(): void {
    this.isUp = false;
    this.syncing = undefined;
    this.#writing = [];
    this.#waiting = [];
  }

  restart(): void {
    this.isUp = true;
    this.applied.length = 0;
    this.state = this.#started();
  }

  /** What a restart would find. */
  get disk(): RaftState['durable'] {
    const durable = emptyDurable();
    for (const event of this.#disk) evolve(durable, event);
    return durable;
  }

  #perform(effect: RaftEffect): void {
    switch (effect.type) {
      case 'send':
        this.#group.sent(effect.message);
        return;
      case 'apply': {
        const { log } = this.state.durable;
        for (const block of log.between(this.state.applied + 1, effect.through)) {
          const text = Buffer.from(block.entries[0]?.payload ?? []).toString();
          this.applied.push(`${block.end.index}:${block.end.generation}:${text}`);
          const result = Buffer.from(`did ${text}`);
          for (const more of answerApplied(this.state, block.end.index, result)) {
            this.#perform(more);
          }
        }
        return;
      }
      case 'resolve':
        this.resolved.set(effect.token, Buffer.from(effect.result).toString());
        return;
      case 'refuse':
        this.resolved.set(effect.token, effect.reason);
        return;
    }
  }
}

/** A group of members and the messages on their way; time and order are the test's. */
export class Group {
  now = 0;
  readonly members: readonly Member[];
  messages: RaftMessage[] = [];
  readonly random: () => number;
  /** "from>to" */
  readonly cut = new Set<string>();
  readonly #committed: string[] = [];
  readonly #leaders = new Map<number, string>();

  constructor(size: number, random: () => number = () => 0.5) {
    this.random = random;
    const ids = Array.from({ length: size }, (_, i) => `m${i + 1}`);
    this.members = ids.map(
      (id) =>
        new Member(
          id,
          ids.filter((other) => other !== id),
          this,
        ),
    );
  }

  member(id: string): Member {
    const found = this.members.find((m) => m.id === id);
    if (found === undefined) throw new Error(`no member ${id}`);
    return found;
  }

  get leader(): Member | undefined {
    return this.members.find((m) => m.isUp && m.state.role === 'leader');
  }

  sent(message: RaftMessage): void {
    if (!this.cut.has(`${message.from}>${message.to}`)) this.messages.push(message);
  }

  deliver(message: RaftMessage): void {
    if (this.cut.has(`${message.from}>${message.to}`)) return;
    this.member(message.to).receive(message);
  }

  /** Syncs and delivers until nothing is on its way. */
  settle(): void {
    for (let round = 0; round < 200; round += 1) {
      for (const member of this.members) member.sync();
      const messages = this.messages;
      this.check();
      if (messages.length === 0) return;
      this.messages = [];
      for (const message of messages) this.deliver(message);
    }
    throw new Error('the group never settles');
  }

  /** Time passes, tick by tick, everything delivered in between. */
  pass(milliseconds: number): void {
    const until = this.now + milliseconds;
    while (this.now < until) {
      this.now += 10;
      for (const member of this.members) member.tick();
      this.settle();
    }
  }

  /** One member stands for election. */
  elect(id: string): void {
    const member = this.member(id);
    member.state.electionAt = this.now;
    for (const other of this.members) {
      other.state.heardLeaderAt = Number.NEGATIVE_INFINITY;
      if (other !== member) other.state.electionAt = this.now + 10_000;
    }
    member.tick();
    this.settle();
  }

  /** Figure 3, and what is committed is on a majority's disks and never changes. */
  check(): void {
    for (const { id, state, isUp } of this.members) {
      if (!isUp || state.role !== 'leader') continue;
      const other = this.#leaders.get(state.durable.term);
      check(other === undefined || other === id, 'raft walk', 'election safety', {
        term: state.durable.term,
        leaders: [other, id],
      });
      this.#leaders.set(state.durable.term, id);
      for (const [index, entry] of this.#committed.entries()) {
        const term = state.durable.log.termAt(index + 1);
        const isNewer = Number(entry.split(':')[1]) <= state.durable.term;
        check(
          !isNewer || entry.startsWith(`${index + 1}:${term}:`),
          'raft walk',
          'leader completeness',
          {
            id,
            term: state.durable.term,
            entry,
            found: term,
          },
        );
      }
    }
    for (const { applied, id } of this.members) {
      for (let index = 0; index < applied.length; index += 1) {
        const known = this.#committed[index];
        const entry = applied[index] ?? '';
        if (known !== undefined) {
          check(known === entry, 'raft walk', 'state machine safety', { id, known, entry });
          continue;
        }
        this.#committed.push(entry);
        const [at, term] = entry.split(':').map(Number);
        const holders = this.members.filter((m) => m.disk.log.termAt(at ?? 0) === term);
        check(
          holders.length * 2 > this.members.length,
          'raft walk',
          'committed is on a majority of disks',
          {
            entry,
            holders: holders.map((m) => m.id),
          },
        );
      }
    }
    this.#checkLogMatching();
  }

  #checkLogMatching(): void {
    const [first, ...rest] = this.members.map((m) => m.state.durable.log);
    if (first === undefined) return;
    for (const log of rest) {
      let same = Math.min(first.last.index, log.last.index);
      while (same > 0 && first.termAt(same) !== log.termAt(same)) same -= 1;
      for (let index = same; index > 0; index -= 1) {
        check(first.termAt(index) === log.termAt(index), 'raft walk', 'log matching', { index });
      }
    }
  }

  get committed(): readonly string[] {
    return this.#committed;
  }
}

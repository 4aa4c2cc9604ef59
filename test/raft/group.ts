import { noBytes } from '../../src/base/bytes.js';
import type { GroupMember, RaftGroup } from '../../src/gen/keychaindb/v1/log.js';
import type { GroupChange, RaftMessage } from '../../src/gen/keychaindb/v1/raft.js';
import { decodeBlock, encodeBlock, payloadChecksum } from '../../src/log/block.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { admittedIn, isOfOtherGroup } from '../../src/raft/admission.js';
import { answerApplied, answerRestored, startState, step } from '../../src/raft/core.js';
import { isBlank } from '../../src/raft/durable-record.js';
import { groupOf, isSeen, votersOf } from '../../src/raft/group.js';
import type { Moment, RaftEffect, RaftInput } from '../../src/raft/inputs.js';
import { assertInvariants } from '../../src/raft/invariants.js';
import {
  currentGroup,
  type DurableState,
  emptyDurable,
  evolve,
  type RaftEvent,
  type RaftState,
  snapshotId,
} from '../../src/raft/state.js';
import { check } from '../sim/check.js';
import { RaftSpec } from './spec.js';

export const electionMs = 100;
export const heartbeatMs = 20;

/** Snapshots are taken where a test says so. */
const never = 1_000_000;

interface Writing {
  readonly id: number;
  readonly events: readonly RaftEvent[];
}

/** One member: a pure core, and a disk on which what was handed over is synced when the test says so. */
export class Member {
  readonly id: string;
  readonly #group: Group;
  state: RaftState;
  isUp = true;
  /** On the disk. */
  readonly #disk: RaftEvent[] = [];
  #folded: DurableState | undefined;
  /** Handed over, not synced. */
  #writing: Writing[] = [];
  /** A write that has begun; it ends when the test says so. */
  syncing: readonly Writing[] = [];
  /** What the state machine has applied since it knows everything; a snapshot brings what was before. */
  applied: string[] = [];
  readonly resolved = new Map<number, string>();
  readonly snapshotEntries: number;
  readonly keptEntries: number;
  /** It saw that it was removed. */
  isRemoved = false;
  readonly #founders: RaftGroup;

  constructor(id: string, group: Group, founders: ReadonlyMap<string, string>) {
    this.id = id;
    this.#group = group;
    this.snapshotEntries = group.snapshotEntries;
    this.keptEntries = group.keptEntries;
    const founded = groupOf(founders);
    // Elsewhere all have taken part before: no entry has to say so.
    const members = founded.members.map((m) => ({ ...m, seen: !group.isFirstStart }));
    this.#founders = { ...founded, members };
    if (founders.size > 0 && !group.isFirstStart) {
      this.#disk.push({ type: 'GroupFounded', group: this.#founders });
    }
    this.state = this.#started();
  }

  #started(): RaftState {
    const durable = emptyDurable();
    for (const event of this.#disk) evolve(durable, event);
    const { snapshotEntries, keptEntries } = this;
    const limits = { electionMs, heartbeatMs, snapshotEntries, keptEntries };
    const { snapshot } = durable;
    this.applied = snapshot === undefined ? [] : JSON.parse(Buffer.from(snapshot.state).toString());
    return startState(
      { id: this.id, address: '', unsure: this.#founders.members.length > 0 && isBlank(durable) },
      limits,
      durable,
      this.#group.now,
      this.#group.random(),
    );
  }

  give(input: RaftInput): void {
    if (!this.isUp || this.isRemoved) return;
    const { store, effects } = step(this.state, input);
    if (store !== undefined) this.#writing.push(store);
    assertInvariants(this.state);
    for (const effect of effects) this.#perform(effect);
    this.#group.check();
  }

  #moment(): Moment {
    const { now, random } = this.#group;
    return { now, wall: now, chance: random() };
  }

  tick(): void {
    this.give({ type: 'Ticked', ...this.#moment() });
  }

  propose(token: number, text: string): void {
    this.give({ type: 'Proposed', token, payload: Buffer.from(text), ...this.#moment() });
  }

  change(token: number, change: NonNullable<GroupChange['change']>): void {
    this.give({ type: 'ChangeProposed', token, change: { change }, ...this.#moment() });
  }

  /** `resolved` says which index it may read at; the group checks that it is not too low. */
  read(token: number): void {
    this.#group.asked(this.id, token);
    this.give({ type: 'ReadAsked', token, ...this.#moment() });
  }

  receive(message: RaftMessage): void {
    let blocks: readonly LogBlock[] = [];
    if (message.message?.$case === 'appendRequest') {
      blocks = message.message.value.blocks.map(decodeBlock);
    }
    this.give({ type: 'MessageReceived', message, blocks, ...this.#moment() });
  }

  /** Entries of these terms, as if earlier leaders had put them on the disk. */
  fill(terms: readonly number[]): void {
    let previous = this.state.durable.log.last;
    const term = terms.at(-1) ?? 0;
    const events: RaftEvent[] = [{ type: 'TermVoted', term, vote: '' }];
    for (const generation of terms) {
      const index = previous.index + 1;
      const payload = Buffer.from(`${index} of ${generation}`);
      const entry = {
        ...{ generation, index, at: 0, request: undefined, trace: noBytes, payload },
        ...{ checksum: payloadChecksum(payload), isGroup: false },
      };
      const block = encodeBlock({ chainId: 0, previous, entries: [entry] });
      events.push({ type: 'EntriesAppended', blocks: [block] });
      previous = block.end;
    }
    this.#write(events);
    this.restart();
  }

  /** Asks the other founders that run, as a process does: refused by who knows it, admitted, or neither yet. */
  ask(): 'refused' | 'admitted' | 'waits' {
    const others = this.#group.members.filter((m) => m !== this && m.isUp);
    if (others.some((m) => isSeen(currentGroup(m.state.durable).group, this.id))) return 'refused';
    const witnesses = others.map(({ state: { durable } }) => ({
      term: durable.term,
      voters: votersOf(currentGroup(durable).group),
    }));
    const founders = votersOf(this.#founders);
    if (witnesses.some((witness) => isOfOtherGroup(founders, witness))) return 'refused';
    const term = admittedIn(founders, witnesses);
    if (term === undefined) return 'waits';
    this.give({ type: 'Admitted', group: this.#founders, term, ...this.#moment() });
    return 'admitted';
  }

  /** Its disk is replaced by an empty one while it is down. */
  loseFolder(): void {
    this.crash();
    this.#disk.length = 0;
    this.#folded = undefined;
    this.#group.lostFolder(this.id);
  }

  get isWriting(): boolean {
    return this.isUp && !this.isRemoved && this.#writing.length + this.syncing.length > 0;
  }

  /** What was handed over is on the disk now. */
  sync(): void {
    if (!this.isUp) return;
    this.#stored([...this.syncing, ...this.#writing]);
  }

  /** A write begins, of what was handed over until now; or, where one has begun, it ends. */
  syncSlowly(): void {
    if (!this.isUp) return;
    if (this.syncing.length > 0) this.#stored(this.syncing);
    else this.syncing = this.#writing.splice(0);
  }

  #stored(writes: readonly Writing[]): void {
    const last = writes.at(-1);
    if (last === undefined) return;
    this.syncing = [];
    this.#writing = this.#writing.filter(({ id }) => id > last.id);
    for (const { events } of writes) this.#write(events);
    this.give({ type: 'Stored', id: last.id, ...this.#moment() });
  }

  #write(events: readonly RaftEvent[]): void {
    for (const event of events) {
      this.#disk.push(event);
      if (this.#folded !== undefined) evolve(this.#folded, event);
    }
  }

  /** What was handed over and not synced is lost. */
  crash(): void {
    this.isUp = false;
    this.syncing = [];
    this.#writing = [];
  }

  restart(): void {
    this.isUp = true;
    this.#folded = undefined;
    this.state = this.#started();
  }

  /** What a restart would find. */
  get disk(): DurableState {
    if (this.#folded === undefined) {
      this.#folded = emptyDurable();
      for (const event of this.#disk) evolve(this.#folded, event);
    }
    return this.#folded;
  }

  #perform(effect: RaftEffect): void {
    switch (effect.type) {
      case 'send':
        this.#group.sent(effect.message);
        return;
      case 'apply':
        this.#apply(effect.through);
        return;
      case 'restore': {
        this.applied = JSON.parse(Buffer.from(effect.snapshot.state).toString());
        const { index } = snapshotId(effect.snapshot);
        for (const more of answerRestored(this.state, index)) this.#perform(more);
        return;
      }
      case 'takeSnapshot':
        this.takeSnapshot();
        return;
      case 'read': {
        this.resolved.set(effect.token, `read at ${effect.index}`);
        this.#group.wasRead(this.id, effect.token, effect.index);
        return;
      }
      case 'resolve':
        this.resolved.set(effect.token, Buffer.from(effect.result).toString());
        return;
      case 'refuse':
        this.resolved.set(effect.token, effect.reason);
        return;
      case 'removed':
        this.isRemoved = true;
        return;
    }
  }

  #apply(through: number): void {
    const { log } = this.state.durable;
    for (const block of log.between(this.state.applied + 1, through)) {
      const [entry] = block.entries;
      const text = entry?.isGroup === true ? 'group' : Buffer.from(entry?.payload ?? []).toString();
      this.applied.push(`${block.end.index}:${block.end.generation}:${text}`);
      const result = Buffer.from(`did ${text}`);
      for (const more of answerApplied(this.state, block.end.index, result)) this.#perform(more);
    }
  }

  takeSnapshot(): void {
    const state = Buffer.from(JSON.stringify(this.applied));
    const { applied } = this.state;
    this.give({ type: 'SnapshotMade', index: applied, state, ...this.#moment() });
  }
}

export interface GroupOptions {
  readonly random?: () => number;
  readonly snapshotEntries?: number;
  readonly keptEntries?: number;
  /** Their folders are empty, and they take part when they were admitted. */
  readonly isFirstStart?: boolean;
}

/** A group of members and the messages on their way; time and order are the test's. */
export class Group {
  now = 0;
  readonly members: Member[] = [];
  messages: RaftMessage[] = [];
  readonly random: () => number;
  readonly snapshotEntries: number;
  readonly keptEntries: number;
  readonly isFirstStart: boolean;
  /** "from>to" */
  readonly cut = new Set<string>();
  readonly #committed: string[] = [];
  readonly #spec = new RaftSpec();
  /** What was committed when a read was asked for, by reader and token. */
  readonly #asked = new Map<string, number>();

  constructor(size: number, options: GroupOptions | (() => number) = {}) {
    const { random, snapshotEntries, keptEntries, isFirstStart } =
      typeof options === 'function' ? { random: options } : options;
    this.random = random ?? (() => 0.5);
    this.snapshotEntries = snapshotEntries ?? never;
    this.keptEntries = keptEntries ?? 2;
    this.isFirstStart = isFirstStart ?? false;
    const ids = Array.from({ length: size }, (_, i) => `m${i + 1}`);
    const founders = new Map(ids.map((id) => [id, addressOf(id)]));
    for (const id of ids) this.members.push(new Member(id, this, founders));
  }

  member(id: string): Member {
    const found = this.members.find((m) => m.id === id);
    if (found === undefined) throw new Error(`no member ${id}`);
    return found;
  }

  /** Starts a process that belongs to no group yet. */
  start(id: string): Member {
    const member = new Member(id, this, new Map());
    this.members.push(member);
    return member;
  }

  get leader(): Member | undefined {
    return this.members.find((m) => m.isUp && !m.isRemoved && m.state.role === 'leader');
  }

  sent(message: RaftMessage): void {
    if (!this.cut.has(`${message.from}>${message.to}`)) this.messages.push(message);
  }

  deliver(message: RaftMessage): void {
    if (this.cut.has(`${message.from}>${message.to}`)) return;
    this.members.find(({ id }) => id === message.to)?.receive(message);
  }

  /** Syncs and delivers until nothing is on its way. */
  settle(): void {
    for (let round = 0; round < 200; round += 1) {
      for (const member of this.members) member.sync();
      const messages = this.messages;
      this.check();
      if (messages.length === 0 && !this.members.some((m) => m.isWriting)) return;
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

  lostFolder(id: string): void {
    this.#spec.lost(id);
  }

  asked(id: string, token: number): void {
    this.#asked.set(`${id} ${token}`, this.#spec.committed.length);
  }

  /** ReadIndex (thesis §6.4): a read sees all that was committed when it was asked for. */
  wasRead(id: string, token: number, index: number): void {
    const asked = this.#asked.get(`${id} ${token}`) ?? 0;
    check(index >= asked, 'raft: read index', 'a read is as new as its request', {
      id,
      index,
      asked,
    });
  }

  /** The invariants of the specification, and that every state machine has applied the same. */
  check(): void {
    this.#spec.check(
      this.members.map((member) => ({
        id: member.id,
        state: member.isUp && !member.isRemoved ? member.state : undefined,
        disk: () => member.disk,
      })),
    );
    for (const { applied, id } of this.members) {
      for (let index = applied.length - 1; index >= 0; index -= 1) {
        const known = this.#committed[index];
        const entry = applied[index] ?? '';
        if (known === undefined) this.#committed[index] = entry;
        else check(known === entry, 'raft: applied', 'one entry is applied', { id, known, entry });
        if (index < applied.length - 3 && known !== undefined) break;
      }
    }
  }

  get committed(): readonly string[] {
    return this.#committed;
  }

  /** The members of the group, as this one knows them. */
  membersOf(id: string): readonly GroupMember[] {
    return currentGroup(this.member(id).state.durable).group.members;
  }
}

export function addressOf(id: string): string {
  return `${id}:1`;
}

/** Asks for another member. */
export function adding(id: string): NonNullable<GroupChange['change']> {
  return { $case: 'add', value: { id, address: addressOf(id), learner: true, seen: false } };
}

export function removing(id: string): NonNullable<GroupChange['change']> {
  return { $case: 'remove', value: id };
}

export function transferring(to: string): NonNullable<GroupChange['change']> {
  return { $case: 'transfer', value: to };
}

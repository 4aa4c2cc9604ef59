import { BehaviorSubject, observeOn, queueScheduler, Subject, type Subscription } from 'rxjs';
import { assert } from '../base/assert.js';
import { equalBytes, noBytes } from '../base/bytes.js';
import { type Cancel, type Clock, every } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Timing } from '../base/timing.js';
import type { RaftGroup } from '../gen/keychaindb/v1/log.js';
import type { GroupChange, RaftMessage } from '../gen/keychaindb/v1/raft.js';
import { decodeBlock } from '../log/block.js';
import type { EventLog, LogBlock } from '../log/event-log.js';
import type { Acceptor, Dialer } from '../wire/channel.js';
import { answerApplied, answerRestored, startState, step } from './core.js';
import { isBlank, isFounded, persist, readDurable } from './durable-record.js';
import { groupOf } from './group.js';
import type { Moment, RaftEffect, RaftInput } from './inputs.js';
import { assertInvariants } from './invariants.js';
import { keptEntriesDefault, proposalsMax, snapshotEntriesDefault } from './limits.js';
import { PeerLinks } from './peer-links.js';
import type {
  MemberProgress,
  ProposeOutcome,
  RaftMember,
  RaftStatus,
  ReadOutcome,
  ReplicatedStateMachine,
} from './raft.js';
import {
  currentGroup,
  evolve,
  groupAt,
  others,
  type RaftEvent,
  type RaftState,
  snapshotId,
} from './state.js';
import type { StoreRequest } from './turn.js';

export interface RaftOptions {
  readonly id: string;
  /** host:port at which the others reach this one. */
  readonly address: string;
  /** The group that this member founds; empty: it joins one. Of no meaning once it has known a group. */
  readonly founders: ReadonlyMap<string, string>;
  /**
   * Asked once, where the folder is empty: resolves with the newest term of the others when it is known that they count
   * on nothing which a lost folder may have held. Until then this member takes no part. Absent: at once.
   */
  readonly admission?: () => Promise<number>;
  readonly clock: Clock;
  readonly random: Random;
  readonly timing: Timing;
  readonly log: EventLog;
  readonly dialer: Dialer<RaftMessage, RaftMessage>;
  readonly machine: ReplicatedStateMachine;
  /** Applied entries between snapshots, and how many are kept behind one. */
  readonly snapshotEntries?: number;
  readonly keptEntries?: number;
  /** Known from the data folder, or empty; messages of another cluster are not heard. */
  readonly clusterId: () => Uint8Array;
  /** Called once; after it the process must end. */
  readonly fatal: (error: unknown) => void;
}

export interface RaftHandle extends RaftMember {
  readonly accept: Acceptor<RaftMessage, RaftMessage>;
  /** For tests, tools and assertions; nobody outside the room changes it. */
  readonly state: RaftState;
  /** Proposals and reads of this process that wait for their outcome. */
  readonly waiting: number;
}

/** Ticks in one election timeout. */
const ticksPerElection = 10;

interface Waiting {
  readonly settle: (outcome: ProposeOutcome | ReadOutcome) => void;
  readonly cancel: Cancel;
}

/** The shell of one member: inputs → step → append the events → release the effects. */
export async function startRaft(options: RaftOptions): Promise<RaftHandle> {
  const { id, timing, clock, random, log, founders, machine } = options;
  const { admission } = options;
  const durable = await readDurable(log);
  const unsure = admission !== undefined && isBlank(durable);
  if (!unsure && !isFounded(durable) && founders.size > 0) {
    const founded: RaftEvent = { type: 'GroupFounded', group: groupOf(founders) };
    evolve(durable, founded);
    persist(log, founded, durable);
  }
  if (durable.snapshot !== undefined) machine.restore(durable.snapshot.state);
  const limits = {
    electionMs: timing.electionMs,
    heartbeatMs: Math.min(timing.heartbeatMs, timing.electionMs / 3),
    snapshotEntries: options.snapshotEntries ?? snapshotEntriesDefault,
    keptEntries: options.keptEntries ?? keptEntriesDefault,
  };
  const state = startState(
    { id, address: options.address, unsure },
    limits,
    durable,
    clock.monotonic(),
    random.float(),
  );
  const runtime = new RaftRuntime(options, state);
  if (unsure) admission().then((term) => runtime.admit(term), options.fatal);
  return runtime;
}

class RaftRuntime implements RaftHandle {
  readonly id: string;
  readonly state: RaftState;
  readonly status$: BehaviorSubject<RaftStatus>;
  readonly accept: Acceptor<RaftMessage, RaftMessage>;
  readonly removed: Promise<void>;
  #onRemoved: () => void = () => undefined;
  readonly #options: RaftOptions;
  readonly #clock: Clock;
  readonly #inbox = new Subject<RaftInput>();
  readonly #links: PeerLinks;
  readonly #waiting = new Map<number, Waiting>();
  readonly #subscriptions: Subscription[] = [];
  readonly #stopTicks: Cancel;
  #linked: RaftGroup | undefined;
  #nextToken = 1;
  #closed = false;

  constructor(options: RaftOptions, state: RaftState) {
    this.#options = options;
    this.#clock = options.clock;
    this.id = options.id;
    this.state = state;
    this.status$ = new BehaviorSubject(this.#status());
    this.removed = new Promise((resolve) => {
      this.#onRemoved = resolve;
    });
    this.#links = new PeerLinks(options.dialer, options.clock);
    this.#link();
    this.accept = (channel) => ({
      message: (message) => this.#received(message),
      closed: () => channel.close('closed by the peer'),
    });
    const inbox$ = this.#inbox.pipe(observeOn(queueScheduler));
    this.#subscriptions.push(inbox$.subscribe((input) => this.#guarded(() => this.#step(input))));
    this.#stopTicks = every(this.#clock, state.limits.electionMs / ticksPerElection, () =>
      this.#give({ type: 'Ticked', ...this.#moment() }),
    );
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get status(): RaftStatus {
    return this.status$.value;
  }

  get appliedEntry(): RaftMember['appliedEntry'] {
    const { durable, applied, lastAt } = this.state;
    // While the state machine is being restored the log begins with what it becomes.
    const index = Math.max(applied, durable.log.base.index);
    return { at: durable.log.at(index), time: lastAt, group: groupAt(durable, index) };
  }

  get heard(): readonly string[] {
    return this.#links.told;
  }

  get progress(): readonly MemberProgress[] {
    const now = this.#clock.monotonic();
    return [...this.state.progress].map(([id, { match, mode, heardAt }]) => ({
      id,
      match,
      mode,
      silentMs: now - heardAt,
    }));
  }

  async propose(
    payload: Uint8Array,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<ProposeOutcome> {
    const outcome = await this.#ask(timeoutMs, (token) =>
      this.#give({ type: 'Proposed', token, payload, ...this.#moment() }),
    );
    return asProposed(outcome);
  }

  async change(
    change: NonNullable<GroupChange['change']>,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<ProposeOutcome> {
    const outcome = await this.#ask(timeoutMs, (token) =>
      this.#give({ type: 'ChangeProposed', token, change: { change }, ...this.#moment() }),
    );
    return asProposed(outcome);
  }

  async read({ timeoutMs }: { readonly timeoutMs: number }): Promise<ReadOutcome> {
    const outcome = await this.#ask(timeoutMs, (token) =>
      this.#give({ type: 'ReadAsked', token, ...this.#moment() }),
    );
    if (outcome.type === 'current') return outcome;
    const reason = outcome.type === 'refused' ? outcome.reason : 'NO_LEADER';
    // Nothing was written: what is not known may be asked again.
    const isTold = reason === 'OVERLOADED' || reason === 'SHUTTING_DOWN';
    return { type: 'refused', reason: isTold ? reason : 'NO_LEADER' };
  }

  admit(term: number): void {
    const group = groupOf(this.#options.founders);
    this.#give({ type: 'Admitted', group, term, ...this.#moment() });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTicks();
    this.#links.close();
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    for (const token of [...this.#waiting.keys()]) this.#settle(token, { type: 'unknown' });
    this.#inbox.complete();
    this.status$.complete();
    await this.#options.log.settled();
  }

  #ask(timeoutMs: number, give: (token: number) => void): Promise<ProposeOutcome | ReadOutcome> {
    if (this.#closed) return Promise.resolve({ type: 'refused', reason: 'SHUTTING_DOWN' });
    if (this.#waiting.size >= proposalsMax) {
      return Promise.resolve({ type: 'refused', reason: 'OVERLOADED' });
    }
    return new Promise((resolve) => {
      const token = this.#nextToken;
      this.#nextToken += 1;
      const cancel = this.#clock.after(timeoutMs, () => this.#settle(token, { type: 'unknown' }));
      this.#waiting.set(token, { settle: resolve, cancel });
      give(token);
    });
  }

  #moment(): Moment {
    return {
      now: this.#clock.monotonic(),
      wall: this.#clock.wall(),
      chance: this.#options.random.float(),
    };
  }

  #received(message: RaftMessage): void {
    if (this.#closed || this.#isOfOtherCluster(message)) return;
    let blocks: readonly LogBlock[] = [];
    if (message.message?.$case === 'appendRequest') {
      try {
        blocks = message.message.value.blocks.map(decodeBlock);
      } catch {
        // Damaged on its way: as if it had been lost.
        return;
      }
    }
    this.#links.heard(message.from, message.address);
    this.#give({ type: 'MessageReceived', message, blocks, ...this.#moment() });
  }

  #isOfOtherCluster({ clusterId }: RaftMessage): boolean {
    const own = this.#options.clusterId();
    return own.byteLength > 0 && clusterId.byteLength > 0 && !equalBytes(own, clusterId);
  }

  #give(input: RaftInput): void {
    if (!this.#closed) this.#inbox.next(input);
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#closed = true;
      this.#options.fatal(error);
    }
  }

  #step(input: RaftInput): void {
    if (this.#closed) return;
    const { store, effects } = step(this.state, input);
    if (store !== undefined) this.#store(store);
    assertInvariants(this.state);
    for (const effect of effects) this.#perform(effect);
    this.#link();
    this.#publish();
  }

  /** The loop goes on; that it is on the disk is an input. */
  #store({ id, events }: StoreRequest): void {
    const { log } = this.#options;
    for (const event of events) persist(log, event, this.state.durable);
    void log.settled().then(() => this.#give({ type: 'Stored', id, ...this.#moment() }));
  }

  #perform(effect: RaftEffect): void {
    if (this.#closed) return;
    switch (effect.type) {
      case 'send': {
        const { address } = this.#options;
        const clusterId = this.#options.clusterId();
        this.#links.send({ ...effect.message, clusterId, address });
        return;
      }
      case 'apply':
        this.#apply(effect.through);
        return;
      case 'restore': {
        const { snapshot } = effect;
        this.#options.machine.restore(snapshot.state);
        for (const more of answerRestored(this.state, snapshotId(snapshot).index)) {
          this.#perform(more);
        }
        return;
      }
      case 'takeSnapshot': {
        const made = this.#options.machine.snapshot();
        const index = this.state.applied;
        this.#give({ type: 'SnapshotMade', index, state: made, ...this.#moment() });
        return;
      }
      case 'refuse':
        this.#settle(
          effect.token,
          effect.reason === 'OUTCOME_UNKNOWN'
            ? { type: 'unknown' }
            : { type: 'refused', reason: effect.reason },
        );
        return;
      case 'resolve':
        this.#settle(effect.token, {
          type: 'applied',
          index: effect.index,
          result: effect.result,
        });
        return;
      case 'read':
        this.#settle(effect.token, { type: 'current', index: effect.index });
        return;
      case 'removed':
        this.#onRemoved();
        return;
    }
  }

  /** In log order; a leader's no-op and changes of the group aren't handed on. */
  #apply(through: number): void {
    const { log } = this.state.durable;
    for (const { end, entries } of log.between(this.state.applied + 1, through)) {
      const [entry] = entries;
      const isOwn = entry === undefined || entry.payload.byteLength === 0 || entry.isGroup;
      const result = isOwn
        ? noBytes
        : this.#options.machine.apply({
            id: end,
            at: entry.at,
            request: entry.request,
            payload: entry.payload,
          });
      for (const effect of answerApplied(this.state, end.index, result)) this.#perform(effect);
    }
  }

  #settle(token: number, outcome: ProposeOutcome | ReadOutcome): void {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined) return;
    this.#waiting.delete(token);
    waiting.cancel();
    waiting.settle(outcome);
  }

  /** Links go to the members of the group that holds now. */
  #link(): void {
    const { group } = currentGroup(this.state.durable);
    if (group === this.#linked) return;
    this.#linked = group;
    // A founder that was started elsewhere is where the flags say.
    const { founders } = this.#options;
    const reached = others(this.state).map(
      ({ id, address }) => [id, [founders.get(id) ?? address, address]] as const,
    );
    this.#links.follow(new Map(reached));
  }

  #status(): RaftStatus {
    const { id, role, leader, commit, applied, durable } = this.state;
    const { term, log } = durable;
    const isCurrent = role === 'leader' && log.termAt(applied) === term;
    const { group } = currentGroup(durable);
    const snapshot = snapshotId(durable.snapshot).index;
    const { last, first } = log;
    return { id, role, leader, commit, applied, term, last, first, snapshot, group, isCurrent };
  }

  #publish(): void {
    const next = this.#status();
    const before = this.status$.value;
    const same =
      before.role === next.role &&
      before.leader === next.leader &&
      before.term === next.term &&
      before.commit === next.commit &&
      before.applied === next.applied &&
      before.isCurrent === next.isCurrent &&
      before.group === next.group &&
      before.snapshot === next.snapshot &&
      before.last.index === next.last.index;
    if (!same) this.status$.next(next);
  }
}

/** A proposal is never answered as a read is. */
function asProposed(outcome: ProposeOutcome | ReadOutcome): ProposeOutcome {
  assert(outcome.type !== 'current', 'a proposal has an outcome');
  return outcome;
}

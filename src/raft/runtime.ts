import type { Subscription } from 'rxjs';
import { BehaviorSubject, observeOn, queueScheduler, Subject } from 'rxjs';
import { noBytes } from '../base/bytes.js';
import { type Cancel, type Clock, every } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Timing } from '../base/timing.js';
import type { RaftMessage } from '../gen/keychaindb/v1/raft.js';
import { decodeBlock } from '../log/block.js';
import { type EventLog, type LogBlock, origin } from '../log/event-log.js';
import type { Acceptor, Dialer } from '../wire/channel.js';
import { answerApplied, startState, step } from './core.js';
import type { RaftEffect, RaftInput } from './inputs.js';
import { assertInvariants } from './invariants.js';
import { proposalsMax } from './limits.js';
import { PeerLinks } from './peer-links.js';
import type { ProposeOutcome, RaftMember, RaftStatus, ReplicatedStateMachine } from './raft.js';
import type { RaftEvent, RaftState } from './state.js';
import { readDurable, recordVote } from './vote-record.js';

export interface RaftOptions {
  readonly id: string;
  /** host:port of every member, this one included. */
  readonly peers: ReadonlyMap<string, string>;
  readonly clock: Clock;
  readonly random: Random;
  readonly timing: Timing;
  readonly log: EventLog;
  readonly dialer: Dialer<RaftMessage, RaftMessage>;
  readonly machine: ReplicatedStateMachine;
  /** Called once; after it the process must end. */
  readonly fatal: (error: unknown) => void;
}

export interface RaftHandle extends RaftMember {
  readonly accept: Acceptor<RaftMessage, RaftMessage>;
  /** For tests, tools and assertions; nobody outside the room changes it. */
  readonly state: RaftState;
  /** Proposals of this process that wait for their outcome. */
  readonly waiting: number;
}

/** Ticks in one election timeout. */
const ticksPerElection = 10;

interface Waiting {
  readonly resolve: (outcome: ProposeOutcome) => void;
  readonly cancel: Cancel;
}

/** The shell of one member: inputs → step → append the events → release the effects. */
export async function startRaft(options: RaftOptions): Promise<RaftHandle> {
  const durable = await readDurable(options.log);
  const { id, peers, timing, clock, random } = options;
  const state = startState(
    {
      id,
      peers: [...peers.keys()].filter((peer) => peer !== id),
      electionMs: timing.electionMs,
      heartbeatMs: Math.min(timing.heartbeatMs, timing.electionMs / 3),
    },
    durable,
    clock.monotonic(),
    random.float(),
  );
  return new RaftRuntime(options, state);
}

class RaftRuntime implements RaftHandle {
  readonly id: string;
  readonly peers: ReadonlyMap<string, string>;
  readonly state: RaftState;
  readonly status$: BehaviorSubject<RaftStatus>;
  readonly accept: Acceptor<RaftMessage, RaftMessage>;
  readonly #options: RaftOptions;
  readonly #clock: Clock;
  readonly #inbox = new Subject<RaftInput>();
  readonly #links: PeerLinks;
  readonly #waiting = new Map<number, Waiting>();
  readonly #subscriptions: Subscription[] = [];
  readonly #stopTicks: Cancel;
  #nextToken = 1;
  #closed = false;

  constructor(options: RaftOptions, state: RaftState) {
    this.#options = options;
    this.#clock = options.clock;
    this.id = options.id;
    this.peers = options.peers;
    this.state = state;
    this.status$ = new BehaviorSubject(this.#status());
    this.#links = new PeerLinks(options.id, options.peers, options.dialer, options.clock);
    this.accept = (channel) => ({
      message: (message) => this.#received(message),
      closed: () => channel.close('closed by the peer'),
    });
    const inbox$ = this.#inbox.pipe(observeOn(queueScheduler));
    this.#subscriptions.push(
      inbox$.subscribe((input) => this.#guarded(() => this.#step(input))),
      options.log.durable$.subscribe(({ synced }) =>
        this.#give({ type: 'LogSynced', through: synced }),
      ),
    );
    this.#stopTicks = every(this.#clock, state.electionMs / ticksPerElection, () =>
      this.#give({ type: 'Ticked', ...this.#moment() }),
    );
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get status(): RaftStatus {
    return this.status$.value;
  }

  propose(
    payload: Uint8Array,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<ProposeOutcome> {
    if (this.#closed) return Promise.resolve({ type: 'refused', reason: 'SHUTTING_DOWN' });
    if (this.#waiting.size >= proposalsMax) {
      return Promise.resolve({ type: 'refused', reason: 'OVERLOADED' });
    }
    return new Promise((resolve) => {
      const token = this.#nextToken;
      this.#nextToken += 1;
      const cancel = this.#clock.after(timeoutMs, () => this.#settle(token, { type: 'unknown' }));
      this.#waiting.set(token, { resolve, cancel });
      const now = this.#clock.monotonic();
      this.#give({ type: 'Proposed', token, payload, now, wall: this.#clock.wall() });
    });
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

  #moment(): { readonly now: number; readonly wall: number; readonly chance: number } {
    return {
      now: this.#clock.monotonic(),
      wall: this.#clock.wall(),
      chance: this.#options.random.float(),
    };
  }

  #received(message: RaftMessage): void {
    if (this.#closed) return;
    let blocks: readonly LogBlock[] = [];
    if (message.message?.$case === 'appendRequest') {
      try {
        blocks = message.message.value.blocks.map(decodeBlock);
      } catch {
        // Damaged on its way: as if it had been lost.
        return;
      }
    }
    this.#give({ type: 'MessageReceived', message, blocks, ...this.#moment() });
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
    const { events, effects } = step(this.state, input);
    for (const event of events) this.#persist(event);
    assertInvariants(this.state);
    const later = effects.filter(waits);
    for (const effect of effects) if (!waits(effect)) this.#perform(effect);
    if (later.length > 0) {
      void this.#options.log.settled().then(() =>
        this.#guarded(() => {
          for (const effect of later) this.#perform(effect);
        }),
      );
    }
    this.#publish();
  }

  #persist(event: RaftEvent): void {
    const { log } = this.#options;
    switch (event.type) {
      case 'TermVoted':
        log.record(recordVote(event.term, event.vote), { sync: true });
        return;
      case 'EntriesAppended':
        log.append(event.blocks);
        return;
      case 'SuffixCut':
        log.cut(event.after === 0 ? origin : this.state.durable.log.at(event.after));
        return;
    }
  }

  #perform(effect: RaftEffect): void {
    if (this.#closed) return;
    switch (effect.type) {
      case 'send':
        this.#links.send(effect.message);
        return;
      case 'apply':
        this.#apply(effect.through);
        return;
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
    }
  }

  /** In log order; a leader's no-op isn't handed on. */
  #apply(through: number): void {
    const { log } = this.state.durable;
    for (const { end, entries } of log.between(this.state.applied + 1, through)) {
      const [entry] = entries;
      const isNoop = entry === undefined || entry.payload.byteLength === 0;
      const result = isNoop
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

  #settle(token: number, outcome: ProposeOutcome): void {
    const waiting = this.#waiting.get(token);
    if (waiting === undefined) return;
    this.#waiting.delete(token);
    waiting.cancel();
    waiting.resolve(outcome);
  }

  #status(): RaftStatus {
    const { id, role, leader, commit, applied, durable } = this.state;
    const { term, log } = durable;
    const isCurrent = role === 'leader' && log.termAt(applied) === term;
    return { id, role, leader, commit, applied, term, last: log.last, isCurrent };
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
      before.last.index === next.last.index;
    if (!same) this.status$.next(next);
  }
}

/**
 * What vouches for the disk waits for all that was handed over before, also by earlier steps. An entry may
 * be applied at a follower before its own sync: it is on a majority's disks.
 */
function waits(effect: RaftEffect): boolean {
  return effect.type === 'send' && effect.afterSync;
}

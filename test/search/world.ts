import { toMapKey } from '../../src/base/bytes.js';
import { step } from '../../src/chain/core.js';
import { cutSuffix, emptyLedger, type StoreChanges } from '../../src/chain/fold.js';
import type { ChainEffect, ChainInput } from '../../src/chain/inputs.js';
import { checkNode } from '../../src/chain/invariants.js';
import { downMessage, upMessage } from '../../src/chain/link.js';
import type { KeyValue } from '../../src/chain/messages.js';
import { isLeased } from '../../src/chain/promise.js';
import { joinReport } from '../../src/chain/report.js';
import { startState } from '../../src/chain/start.js';
import type { NodeState, NodeTiming } from '../../src/chain/state.js';
import { nameKey, servingOf } from '../../src/chain/views.js';
import { decide, evolve as evolveRegistry } from '../../src/coordinator/registry.js';
import type { RegistryState } from '../../src/coordinator/registry-state.js';
import {
  type ChangeView,
  type JoinReport,
  type Member,
  MemberState,
  type View,
} from '../../src/gen/keychaindb/v1/coordinator.js';
import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { meanings } from '../../src/retry/retry.js';
import { check } from '../sim/check.js';
import { cloneLedger, cloneNode } from './clone.js';

/** A lease lasts two ticks and a promise three: W = L(1+ρ)/(1−ρ) with a wide ρ. Milliseconds. */
export const tickMs = 50;
export const timing: NodeTiming = {
  heartbeatMs: 25,
  detectionMs: 50,
  leaseMs: 2 * tickMs,
  drift: 1 / 5,
};

/** Ticks within which a chain must serve again: promises are waited out one after the other. */
const ticksToRestore = 12;

const key = new TextEncoder().encode('k');
const mapKey = toMapKey(key);

/** A message under way, or what else waits until its channel lets it through. */
interface Packet {
  /** E.g. "data a>b"; FIFO within one channel. */
  readonly channel: string;
  readonly to: string;
  readonly incarnation: number;
  readonly input: (now: number) => ChainInput;
  readonly text: string;
}

interface Feed {
  readonly follower: string;
  readonly incarnation: number;
  readonly link: number;
  readonly after: EntryId;
}

/** One process. Copied before it is changed. */
interface Process {
  readonly state: NodeState;
  /** Blocks of the log, durable or not. */
  log: readonly LogBlock[];
  /** "generation:request" by revision - 1. */
  entries: readonly string[];
  object: KeyValue | undefined;
  feed: Feed | undefined;
  alive: boolean;
  readonly links: ReadonlyMap<number, string>;
  /** Key under which the search knows it; undefined after a change. */
  text: string | undefined;
}

/** A read that waits: the highest revision that was committed when it arrived. */
interface Waiting {
  readonly node: string;
  readonly floor: number;
}

/** One state of a chain: real cores, the real registry, messages on channels that can be held. */
export class World {
  now: number;
  registry: RegistryState;
  /** Every view decided, oldest first. */
  readonly views: View[];
  readonly processes: Map<string, Process>;
  readonly packets: Packet[];
  readonly held: Set<string>;
  /** G: what was committed, by revision - 1. */
  committed: readonly string[];
  readonly reads: Map<number, Waiting>;
  /** A report of the tail, and a change that is on its way through the coordinators. */
  report: JoinReport | undefined;
  change: ChangeView | undefined;
  readonly spent: Map<string, number>;
  /** By token: the request that it asked for. */
  readonly #asked: Map<number, number>;
  /** Requests whose newest attempt was refused with certainty. */
  readonly #refused: Set<number>;
  #token: number;
  #link: number;
  #seq: number;

  private constructor(from?: World) {
    this.now = from?.now ?? 1_000;
    this.registry = from?.registry ?? emptyState;
    this.views = [...(from?.views ?? [])];
    this.processes = new Map(from?.processes);
    this.packets = [...(from?.packets ?? [])];
    this.held = new Set(from?.held);
    this.committed = from?.committed ?? [];
    this.reads = new Map(from?.reads);
    this.report = from?.report;
    this.change = from?.change;
    this.spent = new Map(from?.spent);
    this.#asked = new Map(from === undefined ? [] : from.#asked);
    this.#refused = new Set(from === undefined ? [] : from.#refused);
    this.#token = from === undefined ? 1 : from.#token;
    this.#link = from === undefined ? 1 : from.#link;
    this.#seq = from === undefined ? 1 : from.#seq;
  }

  /** Members of the first view, head first, and those that wait to join. */
  static start(members: readonly string[], waiting: readonly string[]): World {
    const world = new World();
    const member = (id: string, state: MemberState): Member => ({
      id,
      incarnation: 1,
      address: id,
      state,
      storeId: new TextEncoder().encode(`store-${id}`),
      since: 0,
      drained: false,
      spare: false,
      note: '',
    });
    const view: View = {
      chainId: 1,
      epoch: 1,
      lineage: 1,
      length: 0,
      clusterId: new Uint8Array(16),
      members: members.map((id) => member(id, MemberState.SERVING)),
      others: waiting.map((id) => member(id, MemberState.WAITING)),
    };
    const incarnations = new Map([...members, ...waiting].map((id) => [id, 1]));
    world.registry = { clusterId: view.clusterId, view, incarnations, forgotten: 0 };
    world.views.push(view);
    for (const id of [...members, ...waiting]) world.#boot(id, 1);
    world.now += 3 * tickMs;
    world.settle();
    return world;
  }

  copy(): World {
    return new World(this);
  }

  get view(): View {
    return this.registry.view;
  }

  #boot(id: string, incarnation: number, disk?: Process): void {
    const self = {
      id,
      incarnation,
      storeId: new TextEncoder().encode(`store-${id}`),
      address: id,
    };
    const ledger = disk === undefined ? emptyLedger() : cloneLedger(disk.state.ledger);
    const synced = ledger.synced;
    if (disk !== undefined && synced.index < ledger.last.index) cutSuffix(ledger, synced);
    const remembered =
      disk === undefined
        ? {}
        : { ledger, seen: disk.state.seen, leaseMaxMs: disk.state.leaseMaxMs };
    const log = (disk?.log ?? []).filter(({ end }) => end.index <= synced.index);
    this.processes.set(id, {
      state: startState(self, 1, timing, this.now, remembered),
      log,
      entries: (disk?.entries ?? []).slice(0, synced.index),
      object: disk?.object,
      feed: undefined,
      alive: true,
      links: new Map(),
      text: undefined,
    });
  }

  process(id: string): Process {
    const process = this.processes.get(id);
    if (process === undefined) throw new Error(`no process ${id}`);
    return process;
  }

  /** The process, copied so that this world may change it. */
  #own(id: string): Process {
    const process = this.process(id);
    const own = { ...process, state: cloneNode(process.state), text: undefined };
    this.processes.set(id, own);
    return own;
  }

  spend(what: string): void {
    this.spent.set(what, (this.spent.get(what) ?? 0) + 1);
  }

  // What an adversary may do.

  hold(channel: string): void {
    this.held.add(channel);
  }

  release(channel: string): void {
    this.held.delete(channel);
    this.settle();
  }

  tick(): void {
    this.now += tickMs;
    this.settle();
  }

  crash(id: string): void {
    const process = this.#own(id);
    process.alive = false;
    for (const [token, { node }] of this.reads) if (node === id) this.reads.delete(token);
    this.settle();
  }

  /** The next incarnation, on what the disk holds; the registry learns of it at once. */
  restart(id: string): void {
    const process = this.process(id);
    const incarnation = process.state.self.incarnation + 1;
    this.#boot(id, incarnation, process);
    const { storeId, address } = process.state.self;
    const keepsPlace = !servingOf(this.view).some((m) => m.id !== id && this.#isHeard(m));
    this.command({
      $case: 'register',
      value: { id, incarnation, storeId, address, keepsPlace, process: incarnation },
    });
    this.settle();
  }

  /** R10: a coordinator may suspect anybody, while another serving member is heard. */
  mayEvict(id: string): boolean {
    const { members } = this.view;
    const isMember = members.some((m) => m.id === id);
    return isMember && servingOf(this.view).some((m) => m.id !== id && this.#isHeard(m));
  }

  #isHeard(member: Member): boolean {
    const { alive, state } = this.process(member.id);
    return alive && state.self.incarnation === member.incarnation;
  }

  evict(id: string): void {
    const member = this.view.members.find((m) => m.id === id);
    if (member === undefined) return;
    const { incarnation } = member;
    this.changeView({
      expectedEpoch: this.view.epoch,
      change: { $case: 'evict', value: { id, incarnation } },
    });
    this.settle();
  }

  /** An operator gives the serving members another order. */
  reorder(ids: readonly string[]): void {
    this.command({ $case: 'reorderChain', value: { ids, expectedEpoch: this.view.epoch } });
    this.settle();
  }

  /** Nobody that serves is heard: one whose store is a serving member's goes on alone (R10). */
  mayReinstate(id: string): boolean {
    const serving = servingOf(this.view);
    return serving.length > 0 && !serving.some((m) => this.#isHeard(m)) && this.process(id).alive;
  }

  reinstate(id: string): void {
    const { incarnation } = this.process(id).state.self;
    this.changeView({
      expectedEpoch: this.view.epoch,
      change: { $case: 'reinstate', value: { id, incarnation } },
    });
    this.settle();
  }

  startSync(id: string): void {
    const { incarnation } = this.process(id).state.self;
    this.changeView({
      expectedEpoch: this.view.epoch,
      change: { $case: 'startSync', value: { id, incarnation } },
    });
    this.settle();
  }

  /** The tail's heartbeat reaches the coordinators; what it leads to is decided later. */
  takeReport(): boolean {
    for (const { state, alive } of this.processes.values()) {
      const report = alive ? joinReport(state) : undefined;
      if (report === undefined || report.epoch !== this.view.epoch) continue;
      this.report = report;
      const name = { id: report.id, incarnation: report.incarnation };
      const change =
        report.next === MemberState.JOINING
          ? ({ $case: 'startJoin', value: name } as const)
          : ({ $case: 'promote', value: name } as const);
      this.change = { expectedEpoch: report.epoch, change };
      return true;
    }
    return false;
  }

  /** The change that was on its way is decided, against whatever the view is now. */
  applyChange(): void {
    const { change } = this;
    this.change = undefined;
    if (change !== undefined) this.changeView(change);
    this.settle();
  }

  changeView(change: ChangeView): void {
    this.command({ $case: 'changeView', value: change });
  }

  command(command: NonNullable<Parameters<typeof decide>[1]['command']>): void {
    for (const event of decide(this.registry, { command }).events) {
      this.registry = evolveRegistry(this.registry, event);
      this.views.push(this.registry.view);
    }
  }

  get hasWritten(): boolean {
    return this.#seq > 1;
  }

  write(id: string, isRetry = false): void {
    if (!isRetry) this.#seq += 1;
    const request = { clientId: new Uint8Array(16), seq: this.#seq, answeredBelow: 1 };
    const token = this.#token++;
    this.#asked.set(token, request.seq);
    this.#refused.delete(request.seq);
    this.give(id, {
      type: 'WritesReceived',
      writes: [
        {
          token,
          operation: { type: 'put', key, value: new TextEncoder().encode(`v${request.seq}`) },
          request,
          trace: new Uint8Array(0),
          deadline: Number.POSITIVE_INFINITY,
          stored: this.process(id).object,
        },
      ],
      now: this.now,
      wall: 1,
    });
    this.settle();
  }

  /** A stale proxy may ask any node at any time. */
  read(id: string): void {
    const token = this.#token++;
    this.reads.set(token, { node: id, floor: this.committed.length });
    const read = {
      token,
      key,
      deadline: Number.POSITIVE_INFINITY,
      stored: this.process(id).object,
    };
    this.give(id, { type: 'ReadsReceived', reads: [read], now: this.now });
    this.settle();
  }

  /**
   * Liveness: the faults end, what was removed stays cut off, and the chain must serve. Throws where it doesn't.
   * Nothing is asked of a view that names the dead: the coordinators would change it.
   */
  mustRestore(): void {
    const { members } = this.view;
    if (members.length === 0 || members.some((m) => !this.#isHeard(m))) return;
    for (const channel of this.held) {
      const isOut = !members.some((m) => channel === `view ${m.id}`);
      if (!channel.startsWith('view') || !isOut) this.held.delete(channel);
    }
    for (let i = 0; i < ticksToRestore; i += 1) this.tick();
    for (const { id, state } of servingOf(this.view)) {
      const process = this.process(id).state;
      check(process.active?.epoch === this.view.epoch, 'liveness', 'a member activates the view', {
        id,
        state,
        active: process.active?.epoch,
        epoch: this.view.epoch,
        given: [...process.given.keys()],
      });
      check(isLeased(process, this.now), 'liveness', 'a member has its leases', { id });
    }
    const tail = servingOf(this.view).at(-1);
    const serves = tail !== undefined && this.process(tail.id).state.authority;
    check(serves, 'liveness', 'the tail takes authority', { tail: tail?.id });
    const waiting = [...this.reads.values()].filter(({ node }) =>
      servingOf(this.view).some((m) => m.id === node),
    );
    check(waiting.length === 0, 'liveness', 'no read waits for ever', { waiting });
  }

  /** Everything that nobody holds arrives; views are shown, time is felt. */
  settle(): void {
    for (let steps = 0; ; steps += 1) {
      if (steps > 10_000) throw new Error('messages without end');
      if (this.#showViews() || this.#deliver() || this.#feel()) continue;
      break;
    }
    this.#check();
  }

  #showViews(): boolean {
    for (const [id, { state, alive }] of this.processes) {
      if (!alive || this.held.has(`view ${id}`) || state.removed) continue;
      if ((state.seen?.epoch ?? 0) >= this.view.epoch) continue;
      this.give(id, { type: 'ViewPersisted', view: this.view, now: this.now });
      return true;
    }
    return false;
  }

  #deliver(): boolean {
    const index = this.packets.findIndex(({ channel }) => !this.held.has(channel));
    if (index < 0) return false;
    const [packet] = this.packets.splice(index, 1);
    if (packet === undefined) return false;
    const { alive, state } = this.process(packet.to);
    if (alive && state.self.incarnation === packet.incarnation) {
      this.give(packet.to, packet.input(this.now));
    }
    return true;
  }

  /** Each process ticks once at each moment. */
  #feel(): boolean {
    for (const [id, { state, alive }] of this.processes) {
      if (!alive || state.removed || state.lastTick?.now === this.now) continue;
      this.give(id, { type: 'Ticked', now: this.now, wall: this.now });
      return true;
    }
    return false;
  }

  give(id: string, input: ChainInput): void {
    const process = this.#own(id);
    if (!process.alive) return;
    const { events, effects } = step(process.state, input, changesOf(process));
    for (const event of events) {
      switch (event.type) {
        case 'BlockAppended':
          process.log = [...process.log, event.block];
          process.entries = [
            ...process.entries,
            ...event.block.entries.map((e) => `${e.generation}:${e.request?.seq ?? 0}`),
          ];
          break;
        case 'SuffixCut':
          process.log = process.log.filter((b) => b.end.index <= event.after.index);
          process.entries = process.entries.slice(0, event.after.index);
          break;
        case 'Activated':
          process.feed = undefined;
          break;
        case 'Committed':
          this.#commit(id, process, event.through);
          break;
        default:
      }
    }
    for (const effect of effects) this.#perform(id, process, effect);
    const { last, synced } = process.state.ledger;
    if (last.index > synced.index && !this.held.has(`disk ${id}`)) {
      this.give(id, { type: 'LogSynced', through: last, blocks: [], now: this.now });
    } else {
      this.#pump(id, process);
    }
  }

  #commit(id: string, { entries }: Process, through: EntryId): void {
    const known = Math.min(through.index, this.committed.length);
    for (let index = 0; index < known; index += 1) {
      check(entries[index] === this.committed[index], 'invariant 1', 'committed entries agree', {
        id,
        index,
        entries,
        committed: this.committed,
      });
    }
    if (through.index > known) {
      this.committed = [...this.committed, ...entries.slice(known, through.index)];
      const unique = new Set(this.committed.map((entry) => entry.replace(/.*:/, '')));
      check(unique.size === this.committed.length, 'invariant 13', 'a request is committed once', {
        committed: this.committed,
      });
      this.#checkRefused();
    }
  }

  /** Who was told that nothing was applied, and asked no more, is right. */
  #checkRefused(): void {
    for (const entry of this.committed) {
      const seq = Number(entry.replace(/.*:/, ''));
      check(!this.#refused.has(seq), 'exactly once', 'what was refused had no effect', { seq });
    }
  }

  #send(channel: string, to: string, incarnation: number, text: string, input: Packet['input']) {
    this.packets.push({ channel, to, incarnation, text, input });
  }

  #perform(id: string, process: Process, effect: ChainEffect): void {
    switch (effect.type) {
      case 'say':
        this.#say(id, effect);
        break;
      case 'dialPredecessor': {
        const link = this.#link++;
        const to = effect.hello.header?.to;
        if (to === undefined || !this.processes.has(to.id)) break;
        const own = this.#own(to.id);
        this.processes.set(to.id, { ...own, links: new Map([...own.links, [link, id]]) });
        this.#send(`ack ${id}>${to.id}`, to.id, to.incarnation, 'hello', (now) => ({
          type: 'SuccessorSaid',
          link,
          message: effect.hello,
          now,
        }));
        break;
      }
      case 'acknowledge': {
        const message = upMessage(process.state);
        const to = process.state.up?.to;
        const link = to && this.processes.get(to.id)?.feed?.link;
        if (message === undefined || to === undefined || link === undefined) break;
        this.#send(`ack ${id}>${to.id}`, to.id, to.incarnation, 'ack', (now) => ({
          type: 'SuccessorSaid',
          link,
          message,
          now,
        }));
        break;
      }
      case 'feed': {
        const follower = process.links.get(effect.link) ?? '';
        const { incarnation } = this.process(follower).state.self;
        process.feed = { follower, incarnation, link: effect.link, after: effect.common };
        const { first } = effect;
        this.#send(`data ${id}>${follower}`, follower, incarnation, 'reconcile', (now) => ({
          type: 'PredecessorSaid',
          message: first,
          blocks: [],
          chunks: [],
          now,
        }));
        break;
      }
      case 'refreshFollower':
        this.#header(id, process, []);
        break;
      case 'answerWrite': {
        const seq = this.#asked.get(effect.token) ?? 0;
        if (effect.answer.type !== 'committed') {
          if (meanings[effect.answer.reason].applied !== 'nothing') break;
          this.#refused.add(seq);
          this.#checkRefused();
          break;
        }
        const { revision } = effect.answer.outcome;
        const entry = this.committed[revision - 1];
        check(
          entry?.endsWith(`:${seq}`) === true,
          'durability',
          'an acknowledged write is committed',
          { id, revision, seq, committed: this.committed },
        );
        break;
      }
      case 'answerRead': {
        const waiting = this.reads.get(effect.token);
        this.reads.delete(effect.token);
        if (waiting === undefined || effect.answer.type === 'refused') break;
        const revision = effect.answer.found?.modRevision ?? 0;
        check(revision >= waiting.floor, 'freshness', 'a strong read is not stale', {
          id,
          revision,
          floor: waiting.floor,
        });
        check(revision <= this.committed.length, 'durability', 'only committed data is read', {
          id,
          revision,
        });
        break;
      }
      case 'readAgain': {
        const { read } = effect;
        this.#send(`self ${id}`, id, process.state.self.incarnation, 'read', (now) => ({
          type: 'ReadsReceived',
          reads: [{ ...read, stored: this.process(id).object }],
          now,
        }));
        break;
      }
      default:
    }
  }

  #say(id: string, { to, message }: Extract<ChainEffect, { readonly type: 'say' }>): void {
    const $case = message.message?.$case;
    // Views come from the coordinators here; a pair that is held can't spread them either.
    if ($case === 'view' || $case === 'viewRequest' || !this.processes.has(to.id)) return;
    const isPromise = $case === 'promiseRequest' || $case === 'promiseGrant';
    const pair = [id, to.id].sort().join('-');
    const channel = isPromise ? `promise ${pair}` : `${$case} ${id}>${to.id}`;
    // A late grant is a shorter lease: what is held of promises is lost.
    if (isPromise && this.held.has(channel)) return;
    this.#send(channel, to.id, to.incarnation, $case ?? '', (now) => ({
      type: 'PeerSaid',
      message,
      now,
    }));
  }

  #pump(id: string, process: Process): void {
    const { feed, state } = process;
    if (feed === undefined || state.down?.link !== feed.link) return;
    const blocks = process.log.filter(
      (b) => b.end.index > feed.after.index && b.end.index <= state.ledger.last.index,
    );
    const end = blocks.at(-1)?.end;
    if (end === undefined) return;
    process.feed = { ...feed, after: end };
    this.#header(id, process, blocks);
  }

  #header(id: string, { feed, state }: Process, blocks: readonly LogBlock[]): void {
    if (feed === undefined || state.down?.link !== feed.link) return;
    const message = downMessage(state);
    const { follower, incarnation } = feed;
    this.#send(`data ${id}>${follower}`, follower, incarnation, 'blocks', (now) => ({
      type: 'PredecessorSaid',
      message,
      blocks,
      chunks: [],
      now,
    }));
  }

  /** The invariants of docs/protocol.md that need no history. */
  #check(): void {
    let authorities = 0;
    const size = this.committed.length;
    for (const [id, { state, entries, alive }] of this.processes) {
      checkNode(state);
      const member = this.view.members.find((m) => nameKey(m) === nameKey(state.self));
      if (member?.state === MemberState.SERVING) {
        check(
          state.ledger.synced.index >= size && isPrefix(this.committed, entries),
          'invariant 2',
          'serving members have synced all that is committed',
          { id, entries, committed: this.committed, epoch: this.view.epoch },
        );
      }
      if (!alive || !isLeased(state, this.now)) continue;
      check(
        isPrefix(this.committed, entries),
        'invariant 3',
        'a serving node with promises has all that is committed',
        { id, entries, committed: this.committed, epoch: state.active?.epoch },
      );
      if (!state.authority) continue;
      authorities += 1;
      check(state.ledger.watermark.index === size, 'invariant 4', 'authority knows all commits', {
        id,
        watermark: state.ledger.watermark,
        size,
        epoch: state.active?.epoch,
      });
    }
    check(authorities <= 1, 'invariant 5', 'one authority', { authorities });
  }

  /** What the future depends on; equal texts are one state. */
  get text(): string {
    const parts: string[] = [];
    for (const [id, process] of this.processes) {
      process.text ??= textOf(process);
      const { state } = process;
      const time = timesOf(state, this.now);
      parts.push(`${id} ${process.text} ${time}`);
    }
    const view = this.view.members.map((m) => `${nameKey(m)}${m.state}`).join();
    const packets = this.packets.map((p) => `${p.channel} ${p.text} ${p.incarnation}`).join();
    const reads = [...this.reads.values()].map((r) => `${r.node}${r.floor}`).join();
    const change = this.change === undefined ? '' : JSON.stringify(this.change);
    const spent = [...this.spent].sort().join(';');
    return [
      ...parts,
      `${this.view.epoch} ${view}`,
      packets,
      [...this.held].sort().join(),
      this.committed.join(),
      [...this.#refused].join(),
      reads,
      change,
      spent,
    ].join('\n');
  }
}

const emptyState: RegistryState = {
  forgotten: 0,
  clusterId: new Uint8Array(16),
  view: {
    chainId: 1,
    epoch: 0,
    lineage: 1,
    length: 0,
    clusterId: new Uint8Array(16),
    members: [],
    others: [],
  },
  incarnations: new Map(),
};

function isPrefix(of: readonly string[], whole: readonly string[]): boolean {
  return of.every((entry, index) => whole[index] === entry);
}

function textOf({ state, entries, feed, alive }: Process): string {
  const { ledger, waiting, up, down } = state;
  const parts = [
    alive,
    state.self.incarnation,
    state.seen?.epoch,
    state.active?.epoch,
    state.removed,
    entries.join(),
    ledger.watermark.index,
    ledger.synced.index,
    state.authority,
    state.authorityAt,
    up && `${up.to.id}${up.to.incarnation}${up.reconciled}${up.syncedThrough.index}`,
    down && `${down.from.id}${down.reconciled}${down.acked?.index}`,
    feed && `${feed.follower}${feed.after.index}`,
    state.hellos.map((h) => `${h.from.id}${h.epoch}`).join(),
    [...state.stopped].join(),
    waiting.unleased.length,
    waiting.parked.length,
    waiting.query?.covers.length,
    waiting.queries.map((q) => `${q.from.id}${q.epoch}`).join(),
    [...waiting.writes.keys()].join(),
  ];
  return parts.join(' ');
}

function timesOf(state: NodeState, now: number): string {
  const left = (until: number): number => Math.max(0, Math.round(until - now));
  const given = [...state.given].map(([name, { until }]) => `${name}:${left(until)}`).sort();
  const held = [...state.held].map(([name, until]) => `${name}:${left(until)}`).sort();
  return `${given.join()} ${held.join()} ${left(state.bootWaitUntil)}`;
}

function changesOf(process: Process): StoreChanges {
  return {
    object(changed, version) {
      if (toMapKey(changed) !== mapKey) return;
      process.object =
        version.value === undefined
          ? undefined
          : {
              value: version.value,
              createRevision: version.createRevision,
              modRevision: version.revision,
              version: version.version,
            };
    },
    outcome: () => undefined,
    session: () => undefined,
  };
}

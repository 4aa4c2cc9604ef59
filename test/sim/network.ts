import {
  type Acceptor,
  type Channel,
  type ChannelHandler,
  channelQueueMax,
  type Dialer,
} from '../../src/wire/channel.js';
import type { ProbeAnswer, Prober } from '../../src/wire/probe.js';
import type { SimProcess } from './process.js';
import type { Schedule, SeededRandom } from './schedule.js';

interface Listener {
  readonly process: SimProcess;
  // The network carries any message; the types meet again at the acceptor.
  readonly accept: Acceptor<never, never>;
}

/** Milliseconds that one message occupies the sender's transport. */
const transportMs = 0.05;

/** Services whose messages mean the same in any order, and twice: no more than a stream dialed anew may bring. */
const unordered = new Set(['peer', 'raft', 'heartbeat']);

/** How often each kind of weather was met. */
export interface NetworkCounters {
  broken: number;
  clogged: number;
  duplicated: number;
  lost: number;
  reordered: number;
}

/**
 * Streams between simulated processes. Messages of one stream arrive in order or the stream breaks, as with
 * TCP; streams among each other reorder freely. Cut links lose what is sent and break after a while; clogged
 * ones hold it and bring it later. Messages that need no order are also lost, doubled and overtaken.
 */
export class Network {
  readonly #schedule: Schedule;
  readonly #random: SeededRandom;
  readonly #listeners = new Map<string, Listener>();
  /** Directed: "from>to" by place, which outlives a process. */
  readonly #cut = new Set<string>();
  readonly #streams = new Set<Stream>();
  /** Places without power. */
  readonly #dark = new Set<string>();
  /** Places where a probe was refused. */
  readonly refused = new Set<string>();
  /** Part of the streams' messages at which the stream breaks. */
  breakChance = 0;
  /** Milliseconds added to every message, at most. */
  slowMs = 0;
  /** Parts of the messages that need no order. */
  lossChance = 0;
  duplicateChance = 0;
  reorderChance = 0;
  readonly counters: NetworkCounters = {
    broken: 0,
    clogged: 0,
    duplicated: 0,
    lost: 0,
    reordered: 0,
  };
  /** Directed: what was sent while clogged, in order of sending. */
  readonly #clogged = new Map<string, (() => void)[]>();

  constructor(schedule: Schedule, random: SeededRandom) {
    this.#schedule = schedule;
    this.#random = random;
  }

  listen<Out, In>(
    process: SimProcess,
    address: string,
    service: string,
    accept: Acceptor<Out, In>,
  ): void {
    this.#listeners.set(`${address}/${service}`, {
      process,
      accept: accept as unknown as Acceptor<never, never>,
    });
  }

  dialer<Out, In>(process: SimProcess, service: string): Dialer<Out, In> {
    return {
      dial: (address, handler) => {
        const stream = new Stream(this, this.#schedule, process, address, service);
        this.#streams.add(stream);
        return stream.open(handler as unknown as ChannelHandler<never>) as Channel<Out>;
      },
    };
  }

  /** A kernel accepts for a process that is paused, refuses for one that is gone; over a cut it says nothing. */
  prober(process: SimProcess): Prober {
    return {
      probe: (address, timeoutMs) =>
        new Promise((resolve) => {
          const answerIn = (milliseconds: number, answer: ProbeAnswer): void => {
            this.#schedule.after(milliseconds, () => process.run(() => resolve(answer)));
          };
          this.#schedule.after(this.delay(), () => {
            const answer = this.#kernelAt(process.name, address);
            answerIn(answer === 'silent' ? timeoutMs : this.delay(), answer);
          });
        }),
    };
  }

  #kernelAt(from: string, address: string): ProbeAnswer {
    const place = address.slice(0, address.lastIndexOf(':'));
    if (!this.isOpen(from, place) || this.#dark.has(place)) return 'silent';
    const isThere = [...this.#listeners].some(
      ([at, listener]) => at.startsWith(`${address}/`) && !listener.process.isDead,
    );
    if (!isThere) this.refused.add(place);
    return isThere ? 'accepted' : 'refused';
  }

  /** Does the link carry what is sent, both ways? */
  isOpen(a: string, b: string): boolean {
    const isOpen = (from: string, to: string): boolean =>
      !this.isCut(from, to) && !this.#clogged.has(`${from}>${to}`);
    return isOpen(a, b) && isOpen(b, a);
  }

  listenerAt(at: string): Listener | undefined {
    return this.#listeners.get(at);
  }

  delay(): number {
    const base = this.#random.between(0.05, 0.6);
    const slow = this.slowMs > 0 ? this.#random.between(0, this.slowMs) : 0;
    return base + slow + (this.#random.chance(0.01) ? this.#random.between(0, 20) : 0);
  }

  breaks(): boolean {
    return this.breakChance > 0 && this.#random.chance(this.breakChance);
  }

  breakDelay(): number {
    return this.#random.between(1, 400);
  }

  isCut(from: string, to: string): boolean {
    return this.#cut.has(`${from}>${to}`);
  }

  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`);
  }

  heal(from: string, to: string): void {
    this.#cut.delete(`${from}>${to}`);
  }

  clog(from: string, to: string): void {
    const link = `${from}>${to}`;
    if (!this.#clogged.has(link)) this.#clogged.set(link, []);
  }

  /** What was held goes on, each stream's messages in their order. */
  unclog(from: string, to: string): void {
    const held = this.#clogged.get(`${from}>${to}`) ?? [];
    this.#clogged.delete(`${from}>${to}`);
    for (const carry of held) carry();
  }

  /** True: the link is clogged, and `carry` runs when it is not any more. */
  holds(from: string, to: string, carry: () => void): boolean {
    const held = this.#clogged.get(`${from}>${to}`);
    if (held === undefined) return false;
    held.push(carry);
    this.counters.clogged += 1;
    return true;
  }

  healAll(): void {
    this.#cut.clear();
    for (const link of [...this.#clogged.keys()]) {
      const [from = '', to = ''] = link.split('>');
      this.unclog(from, to);
    }
    this.calm();
  }

  /** No more weather. */
  calm(): void {
    this.breakChance = 0;
    this.slowMs = 0;
    this.lossChance = 0;
    this.duplicateChance = 0;
    this.reorderChance = 0;
  }

  /** How often a message that needs no order arrives, and whether it may overtake others. */
  fate(): { readonly copies: number; readonly overtakes: boolean } {
    const { counters } = this;
    if (this.lossChance > 0 && this.#random.chance(this.lossChance)) {
      counters.lost += 1;
      return { copies: 0, overtakes: false };
    }
    const copies = this.duplicateChance > 0 && this.#random.chance(this.duplicateChance) ? 2 : 1;
    const overtakes = this.reorderChance > 0 && this.#random.chance(this.reorderChance);
    if (copies > 1) counters.duplicated += 1;
    if (overtakes) counters.reordered += 1;
    return { copies, overtakes };
  }

  /**
   * A process is gone. Its kernel ends its streams at once and refuses its port from then on; without power there is
   * no kernel, and the others notice after a while.
   */
  dropProcess(process: SimProcess, hasPower = true): void {
    for (const stream of [...this.#streams]) stream.lost(process, hasPower);
    for (const [at, listener] of [...this.#listeners]) {
      if (listener.process === process) this.#listeners.delete(at);
    }
    if (!hasPower) this.#dark.add(process.name);
  }

  /** A machine has power again. */
  lit(place: string): void {
    this.#dark.delete(place);
  }

  /** Every stream that is open, for a person who looks for one that hangs. */
  describe(): readonly string[] {
    return [...this.#streams].map((stream) => stream.describe());
  }

  forget(stream: Stream): void {
    this.#streams.delete(stream);
  }
}

/** Both ends of one stream. */
class Stream {
  readonly #network: Network;
  readonly #schedule: Schedule;
  readonly #at: string;
  readonly #isOrdered: boolean;
  readonly #dialer: End;
  readonly #server: End;
  #isBroken = false;

  constructor(
    network: Network,
    schedule: Schedule,
    process: SimProcess,
    address: string,
    service: string,
  ) {
    this.#network = network;
    this.#schedule = schedule;
    this.#at = `${address}/${service}`;
    this.#isOrdered = !unordered.has(service);
    this.#dialer = new End(this, schedule, process);
    this.#server = new End(this, schedule, undefined);
  }

  open(handler: ChannelHandler<never>): End {
    this.#dialer.handler = handler;
    this.#schedule.after(this.#network.delay(), () => this.#connect());
    return this.#dialer;
  }

  #connect(): void {
    const listener = this.#network.listenerAt(this.#at);
    const from = this.#dialer.process?.name ?? '';
    const isReachable =
      listener !== undefined &&
      !listener.process.isDead &&
      !this.#network.isCut(from, listener.process.name) &&
      !this.#network.isCut(listener.process.name, from);
    if (!isReachable || this.#isBroken) {
      this.break(this.#network.breakDelay());
      return;
    }
    // From here on it ends with the process, also with one that is paused and never answers.
    this.#server.process = listener.process;
    listener.process.run(() => {
      if (this.#isBroken) return;
      this.#server.handler = listener.accept(this.#server as never);
      this.#server.connected();
      this.#dialer.connected();
    });
  }

  /** Carries a message to the other end. */
  carry(from: End, message: unknown): void {
    const to = from === this.#dialer ? this.#server : this.#dialer;
    const [sender, receiver] = [from.process?.name ?? '', to.process?.name ?? ''];
    if (this.#network.isCut(sender, receiver) || this.#network.breaks()) {
      this.#network.counters.broken += 1;
      this.break(this.#network.breakDelay());
      return;
    }
    const deliver = (): void => this.#deliver(to, message);
    if (!this.#network.holds(sender, receiver, deliver)) deliver();
  }

  #deliver(to: End, message: unknown): void {
    if (this.#isBroken) return;
    const arrive = (at: number): void => {
      this.#schedule.at(at, () => {
        to.process?.run(() => to.arrived(message));
      });
    };
    const { copies, overtakes } = this.#isOrdered
      ? { copies: 1, overtakes: false }
      : this.#network.fate();
    for (let copy = 0; copy < copies; copy += 1) {
      const soonest = this.#schedule.now + this.#network.delay();
      if (overtakes || copy > 0) {
        arrive(soonest + this.#network.breakDelay() / 4);
        continue;
      }
      to.lastArrival = Math.max(to.lastArrival, soonest);
      arrive(to.lastArrival);
    }
  }

  /** Nothing arrives any more; the ends notice after a while. */
  break(after: number): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    this.#network.forget(this);
    for (const end of [this.#dialer, this.#server]) {
      this.#schedule.after(after, () => end.process?.run(() => end.ended('broken')));
    }
  }

  /** One end closed it: what is on its way to the other still arrives. */
  closedBy(end: End): void {
    if (this.#isBroken) return;
    const other = end === this.#dialer ? this.#server : this.#dialer;
    const at = Math.max(other.lastArrival, this.#schedule.now + this.#network.delay());
    this.#schedule.at(at, () => {
      this.#isBroken = true;
      this.#network.forget(this);
      other.process?.run(() => other.ended('closed by the peer'));
    });
  }

  lost(process: SimProcess, hasPower: boolean): void {
    if (this.#dialer.process !== process && this.#server.process !== process) return;
    const ends = [this.#dialer.process?.name ?? '', this.#server.process?.name ?? ''] as const;
    const isSeen = hasPower && this.#network.isOpen(...ends);
    this.break(isSeen ? this.#network.delay() : this.#network.breakDelay());
  }

  describe(): string {
    const end = (e: End): string =>
      `${e.process?.name ?? '?'}${e.process?.isDead === true ? ' dead' : ''} queued ${e.queued}${e.isClosed ? ' closed' : ''}`;
    return `${this.#at}: ${end(this.#dialer)} > ${end(this.#server)}`;
  }

  get isBroken(): boolean {
    return this.#isBroken;
  }
}

class End implements Channel<unknown> {
  readonly #stream: Stream;
  readonly #schedule: Schedule;
  process: SimProcess | undefined;
  handler: ChannelHandler<never> | undefined;
  lastArrival = 0;
  #isConnected = false;
  readonly #waiting: unknown[] = [];
  #isSending = false;
  #isClosed = false;
  #drained: (() => void)[] = [];

  constructor(stream: Stream, schedule: Schedule, process: SimProcess | undefined) {
    this.#stream = stream;
    this.#schedule = schedule;
    this.process = process;
  }

  get queued(): number {
    return this.#waiting.length + (this.#isSending ? 1 : 0);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  connected(): void {
    this.#isConnected = true;
    this.#pump();
  }

  send(message: unknown): boolean {
    if (this.#isClosed || this.#waiting.length >= channelQueueMax) return false;
    this.#waiting.push(message);
    this.#pump();
    return true;
  }

  drained(): Promise<void> {
    if (this.queued === 0 || this.#isClosed) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  close(reason: string): void {
    if (this.#isClosed) return;
    for (const message of this.#waiting.splice(0)) {
      if (this.#isConnected) this.#stream.carry(this, message);
    }
    this.#stream.closedBy(this);
    this.ended(reason);
  }

  arrived(message: unknown): void {
    if (!this.#isClosed) this.handler?.message(message as never);
  }

  ended(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#waiting.length = 0;
    this.#wake();
    queueMicrotask(() => this.process?.run(() => this.handler?.closed(reason)));
  }

  #pump(): void {
    if (!this.#isConnected || this.#isSending || this.#isClosed) return;
    if (this.#waiting.length === 0) return;
    this.#isSending = true;
    const message = this.#waiting.shift();
    if (!this.#stream.isBroken) this.#stream.carry(this, message);
    this.#schedule.after(transportMs, () =>
      this.process?.run(() => {
        this.#isSending = false;
        if (this.#waiting.length === 0) this.#wake();
        this.#pump();
      }),
    );
  }

  #wake(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}

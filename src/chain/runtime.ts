import { type Observable, observeOn, queueScheduler, Subject, type Subscription } from 'rxjs';
import { noBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { objectCacheBytesDefault } from '../base/limits.js';
import type {
  FollowDown,
  FollowUp,
  InspectResponse,
  PeerMessage,
} from '../gen/keychaindb/v1/chain.js';
import type { CoordinatorPush, NodeHeartbeat, View } from '../gen/keychaindb/v1/coordinator.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import type { EventLog, LogBlock } from '../log/event-log.js';
import { isSampled } from '../telemetry/trace-context.js';
import type { Acceptor } from '../wire/channel.js';
import { validateOperation } from '../wire/validate.js';
import { CommitChanges } from './commit-changes.js';
import { Compaction, compactionDefault } from './compaction.js';
import { comparePaceDefault } from './comparison.js';
import { haveParted, step } from './core.js';
import { DiskWait } from './disk-wait.js';
import type { ChainEvent } from './events.js';
import type { ForwardMeter } from './forwarder.js';
import { Heartbeats } from './heartbeats.js';
import { Hops } from './hops.js';
import type { HotObjects } from './hot-objects.js';
import type { ChainEffect, ChainInput } from './inputs.js';
import { inspect } from './inspect.js';
import { Installer } from './install.js';
import { Links } from './links.js';
import { NodeMeter } from './meter.js';
import type { NodeHandle, NodeOptions, Removal } from './node.js';
import { recordLeaseMax, recordSeen, recordSpans, remember } from './node-store.js';
import { Objects } from './objects.js';
import { Peers } from './peers.js';
import { Pending } from './pending.js';
import { type Queue, queuesOf } from './queues.js';
import { heartbeatOf } from './report.js';
import { Requests, type Taken } from './requests.js';
import { acceptSessions } from './sessions.js';
import { beginsAt } from './spans.js';
import { startState } from './start.js';
import type { NodeState } from './state.js';
import { StateScan } from './state-scan.js';
import { Ticks } from './ticks.js';
import { NodeTracing, placeIn } from './tracing.js';
import { everyoneIn } from './views.js';

/** The shell of one chain node: inputs → step → append the events → release the effects. */
export async function startNode(options: NodeOptions): Promise<NodeHandle> {
  const remembered = await remember(options.log);
  return new NodeRuntime(options, remembered);
}

class NodeRuntime implements NodeHandle {
  readonly state: NodeState;
  readonly #options: NodeOptions;
  readonly #clock: Clock;
  readonly #log: EventLog;
  readonly #inbox = new Subject<ChainInput>();
  readonly #events = new Subject<ChainEvent>();
  readonly #diskWait = new DiskWait();
  readonly #objects: Objects;
  readonly #changes: CommitChanges;
  readonly #pending: Pending;
  readonly #requests: Requests;
  readonly #peers: Peers;
  readonly #links: Links;
  readonly #scan: StateScan;
  readonly #heartbeats: Heartbeats;
  readonly #compaction: Compaction;
  readonly #installer: Installer;
  readonly #hops: Hops;
  readonly tracing: NodeTracing;
  readonly meter: NodeMeter;
  readonly #subscriptions: Subscription[] = [];
  readonly #ticks: Ticks;
  readonly #accepted = new Set<{ close(reason: string): void }>();
  readonly removed: Promise<Removal>;
  #onRemoved: (removal: Removal) => void = () => undefined;
  #persistedEpoch: number;
  /** Resolves when all that the steps so far say may be said, where some of it waits for the disk. */
  #withheld: Promise<void> | undefined;
  #closed = false;
  readonly acceptPeer: Acceptor<PeerMessage, PeerMessage>;
  readonly acceptFollow: Acceptor<FollowDown, FollowUp>;
  readonly acceptSession: Acceptor<SessionResponse, SessionRequest>;

  constructor(options: NodeOptions, remembered: Awaited<ReturnType<typeof remember>>) {
    const { identity, chainId, clock, log, timing } = options;
    const compaction = { ...compactionDefault, ...options.compaction };
    this.#options = options;
    this.#clock = clock;
    this.#log = log;
    const { compare = comparePaceDefault, sessionSilenceMs: silenceMs } = options;
    const now = clock.monotonic();
    this.state = startState(identity, chainId, timing, now, remembered, {
      pace: compare,
      bounds: compaction.bounds,
      ...(silenceMs === undefined ? undefined : { silenceMs }),
    });
    this.#persistedEpoch = remembered.seen?.epoch ?? 0;
    this.removed = new Promise((resolve) => {
      this.#onRemoved = resolve;
    });
    this.#objects = new Objects(log, options.objectCacheBytes ?? objectCacheBytesDefault);
    this.#changes = new CommitChanges(this.#objects);
    const telemetry = options.telemetry ?? { meter: new NodeMeter() };
    this.meter = telemetry.meter;
    this.meter.incarnations += 1;
    this.#hops = new Hops((passage) => this.tracing.passed(passage));
    this.tracing = new NodeTracing(this.state, log, clock, telemetry, this.#hops);
    this.#pending = new Pending(identity.id, chainId, (answered, result) =>
      this.tracing.answered(answered, result),
    );
    const give = (input: ChainInput): void => this.#give(input);
    this.#requests = new Requests(this.state, this.#objects, this.#pending, clock, options, give);
    this.#peers = new Peers(options.peers);
    const { share } = compaction;
    const { notice } = options;
    this.#links = new Links(this.state, log, options.links, clock, give, this.#hops, {
      catchUpShare: share,
      ...(notice === undefined ? undefined : { notice }),
    });
    this.#compaction = new Compaction(this.state, log, clock, compaction, give, (error) => {
      const { reason, message: what } = KeychainError.from(error);
      options.notice?.(`the log can't be made shorter: ${what}`);
      if (reason === 'CORRUPT') give({ type: 'DamageFound', what, now: clock.monotonic() });
    });
    this.#installer = new Installer({
      log,
      forget: () => this.#changes.forgetAll(),
      give,
      now: () => clock.monotonic(),
      raiseFormat: () => compaction.raiseFormat?.(),
      failed: (why) => this.#over({ wipe: true, why, above: 0 }),
    });
    const committed = {
      watermark: () => this.state.ledger.watermark,
      stored: () => this.#changes.stored(),
    };
    this.#scan = new StateScan(log, clock, compare, committed, give);
    this.acceptPeer = this.#whileOpen(() => ({
      message: (message) => this.#peerSaid(message),
      closed: () => undefined,
    }));
    this.acceptFollow = this.#whileOpen((channel) => this.#links.accept(channel));
    this.acceptSession = this.#whileOpen(
      acceptSessions(
        () => this.view,
        (operations, answer) => this.#execute(operations, answer),
      ),
    );
    this.#wire();
    this.#heartbeats = new Heartbeats(
      options.coordinators.addresses,
      options.coordinators.dialer,
      clock,
      timing.heartbeatMs,
      () => this.#heartbeat(),
      (push) => this.#pushed(push),
    );
    this.#ticks = new Ticks(this.state, clock, () => this.#tick());
  }

  /** Streams that others opened end with this incarnation: the next one would not hear what comes on them. */
  #whileOpen<Out, In>(accept: Acceptor<Out, In>): Acceptor<Out, In> {
    return (channel) => {
      if (this.#closed) channel.close('this incarnation is over');
      const handler = accept(channel);
      this.#accepted.add(channel);
      return {
        message: (message) => handler.message(message),
        closed: (reason) => {
          this.#accepted.delete(channel);
          handler.closed(reason);
        },
      };
    };
  }

  /** inbox → step, one input at a time; the write log's durable batches come back as inputs. */
  #wire(): void {
    const inbox$ = this.#inbox.pipe(observeOn(queueScheduler));
    this.#subscriptions.push(
      inbox$.subscribe((input) => this.#guarded(() => this.#step(input))),
      this.#log.durable$.subscribe(({ blocks, synced }) =>
        this.#give({
          type: 'LogSynced',
          through: synced,
          // What was cut while its batch was under way isn't in the log any more.
          blocks: blocks.filter((block) => block.end.index <= this.#log.last.index),
          now: this.#clock.monotonic(),
        }),
      ),
    );
  }

  get view(): View | undefined {
    return this.state.seen;
  }

  get linkMeter(): Readonly<ForwardMeter> {
    return this.#links.meter;
  }

  get objectCache(): HotObjects {
    return this.#objects.hot;
  }

  get queues(): readonly Queue[] {
    return queuesOf(this.state, this.#requests, this.#links.windowBytes);
  }

  get events$(): Observable<ChainEvent> {
    return this.#events;
  }

  #give(input: ChainInput): void {
    if (!this.#closed) this.#inbox.next(input);
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#closed = true;
      // They may be half of a step.
      this.#changes.forgetAll();
      this.#options.fatal(error);
    }
  }

  #step(input: ChainInput): void {
    if (this.#closed) return;
    if (input.type === 'ReadsReceived') this.#lookAtClocks();
    const { events, effects } = step(this.state, this.#requests.refreshed(input), this.#changes);
    let mustSync = false;
    for (const event of events) {
      mustSync = this.#persist(event) || mustSync;
      this.#time(event, input);
    }
    this.#requests.stepped(input);
    this.#ticks.stepped();
    if (mustSync) this.#withhold(this.#log.settled(), effects);
    else if (this.#withheld !== undefined) this.#sayLater(effects);
    else this.#release(effects);
  }

  /** A promise may rest on the lease that an earlier step has raised, and that isn't on the disk yet (R5). */
  #sayLater(effects: readonly ChainEffect[]): void {
    this.#release(effects.filter(({ type }) => type !== 'say'));
    this.#withhold(
      Promise.resolve(),
      effects.filter(({ type }) => type === 'say'),
    );
  }

  #withhold(synced: Promise<void>, effects: readonly ChainEffect[]): void {
    const withheld = Promise.all([this.#withheld, synced]).then(() => {
      if (this.#withheld === withheld) this.#withheld = undefined;
      this.#guarded(() => this.#release(effects));
    });
    this.#withheld = withheld;
  }

  /** The next tick may be a while off: a machine that was suspended learns of it before it answers anything. */
  #lookAtClocks(): void {
    const { lastTick } = this.state;
    // Both at this moment: the input may have waited for its turn.
    const now = this.#clock.monotonic();
    const wall = this.#clock.wall();
    if (lastTick === undefined || !haveParted(lastTick, { now, wall })) return;
    this.#step({ type: 'Ticked', now, wall });
  }

  /** Hands an event to the log. True: the effects of its step wait until it is on the disk. */
  #persist(event: ChainEvent): boolean {
    this.#events.next(event);
    const { ledger } = this.state;
    switch (event.type) {
      case 'BlockAppended': {
        const { block, stored } = event;
        const newSpan = beginsAt(ledger.spans, block.previous.index + 1);
        const ops = newSpan ? recordSpans(ledger) : [];
        if (!stored) this.#log.append([block], ops);
        else if (newSpan) this.#log.record(ops, { sync: true });
        return false;
      }
      case 'SuffixCut':
        this.#log.cut(event.after);
        this.#log.record(recordSpans(ledger), { sync: true });
        return false;
      case 'Committed':
        this.#changes.committed(event.through, this.#clock.monotonic());
        return false;
      case 'LeaseLimitRaised':
        this.#log.record(recordLeaseMax(event.leaseMs), { sync: true });
        return true;
      case 'DownAcked':
        this.#links.acked(event.synced.index);
        return false;
      case 'LogDropped':
        this.#log.drop(event.through.id, 0);
        this.#compaction.dropped();
        return false;
      case 'SnapshotBegun':
        this.#installer.begin(this.state.up?.session ?? 0, event.base);
        return false;
      case 'SnapshotInstalled':
        // What was read of the store meanwhile was a part of it.
        this.#changes.forgetAll();
        return false;
      case 'Activated':
        this.#peers.keepOnly(new Set(everyoneIn(event.view).map((m) => m.address)));
        return false;
      default:
        return false;
    }
  }

  /** When what happens to a block happens to it. */
  #time(event: ChainEvent, input: ChainInput): void {
    switch (event.type) {
      case 'BlockAppended':
        this.#timeBlock(event.block, input);
        return;
      case 'SuffixCut':
        this.#hops.cut(event.after.index);
        return;
      case 'SnapshotBegun':
        this.#hops.cut(0);
        return;
      case 'Synced':
        this.#hops.sync(event.through.index, input.now);
        return;
      case 'DownAcked':
        this.#hops.ack(event.synced.index, input.now);
        return;
      case 'Committed':
        this.#hops.commit(event.through.index, this.#clock.monotonic());
        return;
      case 'Activated':
      case 'AuthorityTaken':
        this.tracing.changed(event, this.#clock.monotonic());
        return;
      case 'ViewSeen':
        this.tracing.changed(event, event.now);
        return;
      default:
        return;
    }
  }

  #timeBlock(block: LogBlock, input: ChainInput): void {
    const { active, self } = this.state;
    if (active === undefined) return;
    // What is sampled is remembered as spans; what only carries a trace is looked for in the log.
    const isTraced = block.entries.some(({ trace }) => trace.byteLength > 0 && !isSampled(trace));
    // What is committed elsewhere already is caught up with: not the way of a write.
    const isLate =
      input.type === 'PredecessorSaid' && (input.message.watermark?.index ?? 0) >= block.end.index;
    const isKept =
      !isLate && this.tracing.isOn && block.entries.some(({ trace }) => isSampled(trace));
    const arrivals = isKept ? this.#requests.arrivals(input, block.entries) : [];
    const now = this.#clock.monotonic();
    const arrived = this.#requests.oldestArrival(input);
    const place = this.tracing.place ?? placeIn(active, self);
    this.#hops.append(block, place, { arrived, now }, isTraced, isKept, arrivals);
  }

  #release(effects: readonly ChainEffect[]): void {
    if (this.#closed) return;
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: ChainEffect): void {
    switch (effect.type) {
      case 'say':
        this.#peers.say(effect.to.address, effect.message);
        break;
      case 'answerRead':
        this.#pending.answerRead(effect.token, effect.answer);
        break;
      case 'answerWrite':
        this.#pending.answerWrite(effect.token, effect.answer);
        break;
      case 'readAgain':
        this.#pending.tailAnswered(effect.read.token, this.#clock.monotonic());
        this.#requests.read([effect.read]);
        break;
      case 'beat':
        this.#heartbeats.now();
        break;
      case 'stop':
        this.#over({ wipe: effect.wipe, why: effect.why, above: 0 });
        break;
      case 'storeChunk':
        this.#installer.store(effect.session, effect.chunk);
        break;
      case 'completeInstall':
        this.#installer.complete(effect.session);
        break;
      case 'readRange':
      case 'hashRange':
      case 'rollRange':
        this.#scan.perform(effect);
        break;
      default:
        this.#links.perform(effect);
    }
  }

  /** A store that holds a part of a snapshot is of no use to the next incarnation (R17). */
  #over(removal: Removal): void {
    this.#onRemoved({ ...removal, wipe: removal.wipe || this.state.incomplete });
  }

  #tick(): void {
    const now = this.#clock.monotonic();
    this.#diskWait.look(this.#log, now);
    this.#changes.look(now);
    this.#give({ type: 'Ticked', now, wall: this.#clock.wall() });
    this.#pending.expire(now);
    this.#compaction.look();
  }

  #peerSaid(message: PeerMessage): void {
    if (this.#closed) return;
    if (message.message?.$case === 'view') this.#showView(message.message.value);
    else this.#give({ type: 'PeerSaid', message, now: this.#clock.monotonic() });
  }

  #pushed(push: CoordinatorPush): void {
    if (push.notice !== '') this.#options.notice?.(push.notice);
    if (push.view !== undefined) this.#showView(push.view);
    if (push.gone) {
      const why = 'the coordinators have given this incarnation up';
      const removal = { wipe: false, why, above: push.newestIncarnation };
      // A view that is on its way to the disk comes first: it may say that the store is to be emptied (R18).
      void this.#log.settled().then(() => this.#over(removal));
    }
  }

  /** A view is on the disk before it has any effect (R1). */
  #showView(view: View): void {
    if (this.#closed || view.chainId !== this.state.chainId) return;
    const { seen } = this.state;
    if (seen !== undefined && Buffer.compare(seen.clusterId, view.clusterId) !== 0) {
      this.#guarded(() => {
        throw new KeychainError(
          'BAD_REQUEST',
          `this node's data folder belongs to cluster ${toHex(seen.clusterId)}; the coordinators are of cluster ${toHex(view.clusterId)}: use another --data-dir or other --coordinators`,
        );
      });
      return;
    }
    if (view.epoch <= this.#persistedEpoch) return;
    this.#persistedEpoch = view.epoch;
    this.#log.record(recordSeen(view), { sync: true });
    void this.#log
      .settled()
      .then(() => this.#give({ type: 'ViewPersisted', view, now: this.#clock.monotonic() }));
  }

  #heartbeat(): NodeHeartbeat {
    const clusterId = this.state.seen?.clusterId ?? noBytes;
    const now = this.#clock.monotonic();
    const { join, version = '' } = this.#options;
    const stuckMs = Math.max(this.#diskWait.waitedMs(this.#log, now), this.#links.faultMs(now));
    return { ...heartbeatOf(this.state, join, clusterId, now, stuckMs), version };
  }

  execute(operation: Operation): Promise<OperationResult> {
    return new Promise((resolve) => this.#execute([operation], resolve));
  }

  /** Operations that came together; each is answered by itself. */
  #execute(operations: readonly Operation[], answer: (result: OperationResult) => void): void {
    const now = this.#clock.monotonic();
    const taken: Taken[] = [];
    for (const operation of operations) {
      const token = this.#pending.add(operation, now, answer);
      const wrong = this.#closed
        ? new KeychainError('SHUTTING_DOWN', `${this.state.self.id} is shutting down`)
        : validateOperation(operation, this.#options.limits);
      if (wrong !== undefined) this.#pending.fail(token, wrong);
      else taken.push({ token, operation });
    }
    this.#requests.take(taken, now);
  }

  async inspect(hash: boolean): Promise<InspectResponse> {
    // The hash is of the store.
    if (hash) await this.#changes.stored();
    const { requests } = this.meter;
    const now = this.#clock.monotonic();
    return inspect(this.state, this.#log, this.#links.meter, requests, hash, now);
  }

  async close(): Promise<void> {
    if (this.#closed && this.#subscriptions.length === 0) return;
    this.#pending.failAll(
      new KeychainError('SHUTTING_DOWN', `${this.state.self.id} is shutting down`),
    );
    this.#hops.close();
    this.tracing.close();
    this.#closed = true;
    this.#ticks.close();
    this.#heartbeats.close();
    this.#links.close();
    this.#peers.close();
    for (const channel of this.#accepted) channel.close('this incarnation is over');
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
    this.#inbox.complete();
    this.#events.complete();
    this.#changes.store();
    await Promise.all([this.#compaction.close(), this.#installer.close()]);
    await this.#log.settled();
  }
}

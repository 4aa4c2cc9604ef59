import { distinctUntilChanged, filter, map, type Observable, type Subscription, skip } from 'rxjs';
import { equalBytes, noBytes, toHex } from '../base/bytes.js';
import { afterArrivals, type Cancel, type Clock, every, pause } from '../base/clock.js';
import { isReason, KeychainError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Timing } from '../base/timing.js';
import {
  type AddMemberRequest,
  type ChainStatusResponse,
  type CoordinatorPush,
  type DrainMemberRequest,
  type Member,
  MemberState,
  type NodeHeartbeat,
  type RecoverChainRequest,
  RegistryCommand,
  RegistryResult,
  type RemoveMemberRequest,
  type ReorderChainRequest,
  type SetChainLengthRequest,
  type View,
  type WatchViewsRequest,
} from '../gen/keychaindb/v1/coordinator.js';
import type { RaftGroup } from '../gen/keychaindb/v1/log.js';
import type { ProposeOutcome, RaftMember } from '../raft/raft.js';
import type { Acceptor, Channel } from '../wire/channel.js';
import type { Prober } from '../wire/probe.js';
import { AwakeClock } from './awake-clock.js';
import {
  type DetectorState,
  detect,
  emptyDetector,
  forgetGone,
  isHeard,
  leads,
  onHeartbeat,
  whyNotFed,
  whyNotRecovered,
} from './detector.js';
import { heldForMs, noteView } from './flapping.js';
import {
  chainLengthMax,
  commandTimeoutMs,
  noLeaderMs,
  noLeaderMsMax,
  servingMin,
  ticksPerHeartbeat,
} from './limits.js';
import { checkMember, checkNamed, whyFull, wrongMember } from './member-name.js';
import { nodesHeard } from './node-status.js';
import { NodeStreams } from './node-streams.js';
import { highestIncarnation } from './registry.js';
import type { RegistryMachine } from './registry-machine.js';

export interface CoordinatorOptions {
  readonly raft: RaftMember;
  /** The machine that `raft` applies to. */
  readonly registry: RegistryMachine;
  readonly clock: Clock;
  readonly random: Random;
  readonly timing: Timing;
  /** Asked for members whose heartbeats' stream has ended. */
  readonly prober: Prober;
  /** Called once; after it the process must end. */
  readonly fatal: (error: unknown) => void;
}

export interface CoordinatorHandle {
  /** The newest view, as it was decided; undefined before the first. */
  readonly view: View | undefined;
  /** Starts with the present view where there is one; epochs only grow. */
  readonly view$: Observable<View>;
  /**
   * The view as people read it: who isn't heard is OFFLINE, or LASTSRV where nobody who serves is; just after a start
   * it says nothing of who is heard.
   */
  shownView(): View;
  /** The same as an answer. Throws NO_LEADER where this coordinator doesn't know yet what its log says. */
  members(): View;
  /** What the nodes say of themselves, as this coordinator hears it. Throws as `members` does. */
  chainStatus(): Pick<ChainStatusResponse, 'view' | 'nodes'>;
  /** These reject with KeychainError. */
  addMember(request: AddMemberRequest, timeoutMs: number): Promise<void>;
  removeMember(request: RemoveMemberRequest, timeoutMs: number): Promise<void>;
  drainMember(request: DrainMemberRequest, timeoutMs: number): Promise<void>;
  reorderChain(request: ReorderChainRequest, timeoutMs: number): Promise<void>;
  recoverChain(request: RecoverChainRequest, timeoutMs: number): Promise<void>;
  setChainLength(request: SetChainLengthRequest, timeoutMs: number): Promise<void>;
  /** Milliseconds since the command that is being decided was proposed here; undefined: none is. */
  readonly proposingForMs: number | undefined;
  readonly acceptHeartbeat: Acceptor<CoordinatorPush, NodeHeartbeat>;
  readonly acceptWatch: Acceptor<View, WatchViewsRequest>;
  close(): void;
}

export function startCoordinator(options: CoordinatorOptions): CoordinatorHandle {
  return new CoordinatorRuntime(options);
}

/** The shell: heartbeats and ticks → detect → propose; the log's events → views, pushed to whoever watches. */
class CoordinatorRuntime implements CoordinatorHandle {
  readonly view$: Observable<View>;
  readonly acceptHeartbeat: Acceptor<CoordinatorPush, NodeHeartbeat>;
  readonly acceptWatch: Acceptor<View, WatchViewsRequest>;
  readonly #options: CoordinatorOptions;
  readonly #clock: Clock;
  /** By which silence is told: the detector's. */
  readonly #awake: AwakeClock;
  readonly #detector: DetectorState;
  /** The coordinators that are decided on, when they change. */
  readonly #group$: Observable<RaftGroup>;
  readonly #subscriptions: Subscription[] = [];
  readonly #stopTicks: Cancel;
  readonly #channels = new Set<Channel<never>>();
  readonly #nodes: NodeStreams;
  /** The entry of the snapshot that it started from; 0: of none. */
  readonly #restored: number;
  /** Of the naps of `#awake`, those after which what came meanwhile has been heard. */
  #naps = 0;
  #proposing = false;
  #proposedAt: number | undefined;
  #isLeader = false;
  #isClosed = false;

  constructor(options: CoordinatorOptions) {
    const { raft, registry, clock, timing } = options;
    this.#options = options;
    this.#clock = clock;
    this.#restored = raft.status.applied;
    // A look that is late by less than a heartbeat, which may be on its way at any time, is in time.
    const lookMs = timing.heartbeatMs / ticksPerHeartbeat;
    this.#awake = new AwakeClock(clock, lookMs + timing.heartbeatMs);
    this.#detector = emptyDetector(this.#awake.monotonic());
    this.#nodes = new NodeStreams(this.#detector.probes, options.prober, this.#awake, timing);
    this.view$ = registry.state$.pipe(
      map(({ view }) => view),
      filter(({ clusterId }) => clusterId.byteLength > 0),
      distinctUntilChanged((a, b) => a.epoch === b.epoch),
    );
    this.#group$ = raft.status$.pipe(
      map(() => raft.appliedEntry.group),
      distinctUntilChanged(),
      skip(1),
    );
    this.acceptHeartbeat = (channel) => this.#acceptNode(channel);
    this.acceptWatch = (channel) => this.#acceptWatcher(channel);
    let before: View | undefined;
    this.#subscriptions.push(
      this.view$.subscribe((view) => {
        const now = this.#awake.monotonic();
        const { flaps, heard } = this.#detector;
        const newest = (id: string): number | undefined => heard.get(id)?.beat.incarnation;
        if (before !== undefined) noteView(flaps, before, view, newest, now);
        forgetGone(this.#detector, view, timing, now);
        before = view;
        this.#detector.viewSince = now;
        this.#look();
      }),
      raft.status$.subscribe(({ isCurrent }) => {
        if (isCurrent && !this.#isLeader) leads(this.#detector, this.#awake.monotonic());
        this.#isLeader = isCurrent;
      }),
    );
    this.#stopTicks = every(clock, lookMs, () => {
      this.#probe();
      this.#look();
    });
  }

  get proposingForMs(): number | undefined {
    return this.#proposedAt === undefined ? undefined : this.#clock.monotonic() - this.#proposedAt;
  }

  get view(): View | undefined {
    const { view } = this.#options.registry.state;
    return view.clusterId.byteLength === 0 ? undefined : view;
  }

  shownView(): View {
    const { view } = this.#options.registry.state;
    const { timing } = this.#options;
    const now = this.#awake.monotonic();
    const hears = (m: Member): boolean => isHeard(this.#detector, m, timing, now);
    const isServed = view.members.some((m) => m.state === MemberState.SERVING && hears(m));
    // Silence is no evidence before those who live had the time to come: LASTSRV would advise to give data up.
    const isEarly = this.#hasJustStarted();
    const shown = (m: Member): Member => {
      if (isEarly && !hears(m)) return m;
      if (m.state === MemberState.SERVING) {
        return isServed ? m : { ...m, state: MemberState.LASTSRV };
      }
      if (!hears(m)) return { ...m, state: MemberState.OFFLINE };
      return m.state === MemberState.WAITING ? { ...m, note: this.#whyWaits(m, now) } : m;
    };
    return { ...view, members: view.members.map(shown), others: view.others.map(shown) };
  }

  #whyWaits(member: Member, now: number): string {
    const { id, drained, spare } = member;
    const { registry, timing } = this.#options;
    const { view } = registry.state;
    const held = heldForMs(this.#detector.flaps, id, now);
    const serving = view.members.filter((m) => m.state === MemberState.SERVING);
    if (drained) return 'drained: it is taken in when it was restarted, or added again';
    if (held > 0 && serving.length >= servingMin) {
      const times = this.#detector.flaps.get(id)?.times ?? 0;
      return `it lost its place ${times} times: held back for ${Math.ceil(held / 1_000)} s`;
    }
    if (spare && view.members.length >= view.length) return 'a spare: the chain is long enough';
    return whyNotFed(registry.state, this.#detector, timing, now, member);
  }

  members(): View {
    if (this.#isUninformed()) {
      const message = `${this.#options.raft.id} has not heard of a leader since it started, and does not know the members: ask again; \`keychaindb cluster members\` shows which coordinators answer`;
      throw new KeychainError('NO_LEADER', message);
    }
    return this.shownView();
  }

  /** Its log says more than it knows: an entry is committed once a leader says so; who joins has no log at all before. */
  #isUninformed(): boolean {
    const { last, applied, group } = this.#options.raft.status;
    const hasNone = this.view === undefined;
    if (hasNone && group.members.length === 0) return true;
    return last.index > applied && (hasNone || applied === this.#restored);
  }

  chainStatus(): Pick<ChainStatusResponse, 'view' | 'nodes'> {
    const view = this.members();
    return { view, nodes: nodesHeard(this.#detector, view, this.#awake.monotonic()) };
  }

  async addMember(request: AddMemberRequest, timeoutMs: number): Promise<void> {
    checkMember(request.id, request.address);
    const why = this.#isMember(request.id) ? '' : whyFull(this.#options.registry.state.view);
    if (why !== '') throw new KeychainError('BAD_REQUEST', why);
    await this.#command({ command: { $case: 'addMember', value: request } }, timeoutMs);
  }

  async removeMember(request: RemoveMemberRequest, timeoutMs: number): Promise<void> {
    await this.#takeOut(request, timeoutMs, (value) => ({
      command: { $case: 'removeMember', value },
    }));
  }

  async drainMember(request: DrainMemberRequest, timeoutMs: number): Promise<void> {
    await this.#takeOut(request, timeoutMs, (value) => ({
      command: { $case: 'drainMember', value },
    }));
  }

  async reorderChain(request: ReorderChainRequest, timeoutMs: number): Promise<void> {
    checkNamed('ids', request.ids, this.#options.registry.state.view);
    await this.#command({ command: { $case: 'reorderChain', value: request } }, timeoutMs);
  }

  /** Decided on what is heard now, of the view that it was decided on. */
  async recoverChain(request: RecoverChainRequest, timeoutMs: number): Promise<void> {
    const { registry, timing } = this.#options;
    await this.#learns(request.expectedEpoch, timeoutMs);
    const { view } = registry.state;
    checkNamed('id', [request.id], view);
    checkNamed('lost_ids', request.lostIds, view);
    const now = this.#awake.monotonic();
    if (this.#hasJustStarted()) throw this.#tooEarly();
    const why = whyNotRecovered(registry.state, this.#detector, timing, now, request.id);
    if (why !== '') throw new KeychainError('LAST_SERVING', why);
    const { expectedEpoch } = request;
    const value = { ...request, expectedEpoch: expectedEpoch === 0 ? view.epoch : expectedEpoch };
    await this.#command({ command: { $case: 'recoverChain', value } }, timeoutMs);
  }

  async setChainLength(request: SetChainLengthRequest, timeoutMs: number): Promise<void> {
    const { length } = request;
    if (length > chainLengthMax) {
      const message = `length: at most ${chainLengthMax}, not ${length}; 0: not set`;
      throw new KeychainError('BAD_REQUEST', message, { field: 'length' });
    }
    await this.#command({ command: { $case: 'setChainLength', value: request } }, timeoutMs);
  }

  /** Decided on who is heard now, and so of exactly this view: who else serves may be going at the same time (R10). */
  async #takeOut(
    request: RemoveMemberRequest,
    timeoutMs: number,
    command: (request: RemoveMemberRequest) => RegistryCommand,
  ): Promise<void> {
    const until = this.#clock.monotonic() + timeoutMs;
    await this.#learns(request.expectedEpoch, timeoutMs);
    checkNamed('id', [request.id], this.#options.registry.state.view);
    for (;;) {
      this.#mustNotBeLast(request.id);
      const { epoch } = this.#options.registry.state.view;
      const expectedEpoch = request.expectedEpoch === 0 ? epoch : request.expectedEpoch;
      const remaining = until - this.#clock.monotonic();
      try {
        await this.#command(command({ ...request, expectedEpoch }), Math.max(1, remaining));
        return;
      } catch (error) {
        const isOverdue = this.#clock.monotonic() + noLeaderMs >= until;
        const isStale = KeychainError.from(error).reason === 'STALE_EPOCH';
        if (!isStale || request.expectedEpoch !== 0 || isOverdue) throw error;
        await pause(this.#clock, noLeaderMs);
      }
    }
  }

  /** Who is heard is judged by the view that is known here: one that knows less than is decided learns it first. */
  async #learns(expectedEpoch: number, timeoutMs: number): Promise<void> {
    const { raft, registry } = this.#options;
    const { epoch } = registry.state.view;
    if (this.view !== undefined && !this.#isUninformed() && epoch >= expectedEpoch) return;
    const outcome = await raft.read({ timeoutMs: Math.min(timeoutMs / 2, noLeaderMsMax) });
    if (outcome.type === 'refused' || this.view === undefined || this.#isUninformed()) {
      const message = `${raft.id} knows of no leader that says who the members are: nothing was done`;
      throw new KeychainError('NO_LEADER', message);
    }
    const newest = registry.state.view.epoch;
    if (newest >= expectedEpoch) return;
    const message = `the view is of epoch ${newest}, not ${expectedEpoch}`;
    throw new KeychainError('STALE_EPOCH', message);
  }

  /** Those who live may not have come yet, to a coordinator that they have to dial anew. */
  #hasJustStarted(): boolean {
    const sinceMs = this.#awake.monotonic() - this.#detector.startedAt;
    return sinceMs < 2 * this.#options.timing.detectionMs;
  }

  #tooEarly(): KeychainError {
    const message = `${this.#options.raft.id} has just started and has not heard who lives: ask again`;
    return new KeychainError('NO_LEADER', message);
  }

  /** R10: no member goes unless another serving one was heard. */
  #mustNotBeLast(id: string): void {
    const { members } = this.#options.registry.state.view;
    const { timing } = this.#options;
    const now = this.#awake.monotonic();
    const serving = members.filter((m) => m.state === MemberState.SERVING);
    const others = serving.filter((m) => m.id !== id);
    const isHeardOther = others.some((m) => isHeard(this.#detector, m, timing, now));
    if (serving.some((m) => m.id === id) && others.length > 0 && !isHeardOther) {
      if (this.#hasJustStarted()) throw this.#tooEarly();
      throw new KeychainError(
        'LAST_SERVING',
        `no other serving member is heard: without ${id} the data may be gone; bring one of ${others.map((m) => m.id).join(', ')} back first`,
      );
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stopTicks();
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    for (const channel of this.#channels) channel.close('the coordinator is shutting down');
  }

  /** Proposes, and returns when this coordinator has applied it: whoever asks here then sees it. */
  async #command(command: RegistryCommand, timeoutMs: number): Promise<void> {
    const { raft } = this.#options;
    const deadline = this.#clock.monotonic() + timeoutMs;
    const payload = RegistryCommand.encode(command).finish();
    this.#proposedAt ??= this.#clock.monotonic();
    let outcome = await raft.propose(payload, { timeoutMs });
    // Nothing was done: while leadership changes hands it is asked for again.
    const patience = this.#clock.monotonic() + Math.min(timeoutMs / 2, noLeaderMsMax) - noLeaderMs;
    while (isLeaderless(outcome) && this.#clock.monotonic() < patience) {
      await pause(this.#clock, noLeaderMs);
      outcome = await raft.propose(payload, { timeoutMs: deadline - this.#clock.monotonic() });
    }
    this.#proposedAt = undefined;
    if (outcome.type === 'unknown') {
      throw new KeychainError(
        'OUTCOME_UNKNOWN',
        'the leader was lost: the change may have been made; look at the members',
      );
    }
    if (outcome.type === 'refused') {
      const message = `no change was made: ${raft.id} knows of no leader that takes it`;
      throw new KeychainError(outcome.reason, message);
    }
    const { reason, message } = RegistryResult.decode(outcome.result);
    await this.#applied(outcome.index, deadline - this.#clock.monotonic());
    if (reason !== '') throw new KeychainError(isReason(reason) ? reason : 'INTERNAL', message);
  }

  #applied(index: number, timeoutMs: number): Promise<void> {
    const { raft } = this.#options;
    return new Promise((resolve) => {
      const done = (): void => {
        cancel();
        subscription?.unsubscribe();
        resolve();
      };
      let subscription: Subscription | undefined;
      const cancel = this.#clock.after(Math.max(0, timeoutMs), done);
      subscription = raft.status$.subscribe((status) => {
        if (status.applied >= index) queueMicrotask(done);
      });
    });
  }

  /** The leader looks for what has to change, one change at a time. */
  #look(): void {
    const now = this.#awake.monotonic();
    if (this.#awake.naps !== this.#naps) {
      this.#naps = this.#awake.naps;
      // Who beat while it slept is heard first.
      afterArrivals(this.#clock, () => this.#look());
      return;
    }
    if (this.#proposing || this.#isClosed || !this.#options.raft.status.isCurrent) return;
    const { registry, raft, random, timing } = this.#options;
    const command =
      registry.state.clusterId.byteLength === 0
        ? createCluster(random.bytes(16))
        : detect(registry.state, this.#detector, timing, now);
    if (command === undefined) return;
    this.#proposing = true;
    this.#proposedAt = this.#clock.monotonic();
    const payload = RegistryCommand.encode(command).finish();
    void raft.propose(payload, { timeoutMs: commandTimeoutMs }).then((outcome) => {
      this.#proposing = false;
      this.#proposedAt = undefined;
      // What was refused is decided anew at the next tick, not at once and for ever.
      const isDone =
        outcome.type === 'applied' && RegistryResult.decode(outcome.result).reason === '';
      if (isDone) this.#look();
    });
  }

  #probe(): void {
    const { registry, raft } = this.#options;
    if (this.#isClosed || !raft.status.isCurrent) return;
    this.#nodes.probe(registry.state.view, () => this.#look());
  }

  #acceptNode(channel: Channel<CoordinatorPush>) {
    this.#channels.add(channel as Channel<never>);
    const push = (view: View | undefined, notice = '', newestIncarnation = 0): void => {
      const clusterId = view?.clusterId ?? noBytes;
      const gone = newestIncarnation > 0;
      const coordinators = this.#addresses(clusterId);
      const push = { view, clusterId, notice, gone, newestIncarnation, coordinators };
      const taken = channel.send(push);
      if (taken) return;
      this.#nodes.forget(channel);
      channel.close('the node does not keep up');
    };
    let noticed = '';
    let shownAt = 0;
    const show = (view: View | undefined): void => {
      shownAt = this.#clock.monotonic();
      push(view);
    };
    const views = this.view$.subscribe(show);
    views.add(this.#group$.subscribe(() => show(this.view)));
    return {
      message: (beat: NodeHeartbeat): void => {
        const wrong = this.#whyUnnamed(beat);
        const notice = wrong === '' ? this.#noticeFor(beat) : wrong;
        if (notice !== noticed) push(undefined, notice);
        noticed = notice;
        if (notice !== '' && !this.#isMember(beat.id) && !beat.join) return;
        if (wrong !== '' || this.#isOfOtherCluster(beat)) return;
        if (this.#isGone(beat)) {
          push(undefined, '', highestIncarnation(this.#options.registry.state, beat.id));
          return;
        }
        // Where the view was lost on its way, and no other member tells it either (R1).
        const isLate = beat.seenEpoch < (this.view?.epoch ?? 0);
        const sinceMs = this.#clock.monotonic() - shownAt;
        if (isLate && sinceMs > 2 * this.#options.timing.heartbeatMs) show(this.view);
        const before = this.#detector.heard.get(beat.id);
        onHeartbeat(this.#detector, beat, this.#awake.monotonic());
        this.#nodes.beat(channel, beat);
        const isNews = before?.beat.incarnation !== beat.incarnation || beat.report !== undefined;
        if (isNews) this.#look();
      },
      closed: (): void => {
        views.unsubscribe();
        this.#channels.delete(channel as Channel<never>);
        this.#nodes.over(channel);
        this.#probe();
      },
    };
  }

  /** Of the group that is committed here; none before this coordinator belongs to a cluster. */
  #addresses(clusterId: Uint8Array): readonly string[] {
    if (clusterId.byteLength === 0) return [];
    return this.#options.raft.appliedEntry.group.members.map(({ address }) => address);
  }

  /** It was registered and has no place any more, a fact for ever; it may not know, having missed the views. */
  #isGone({ id, incarnation, storeId }: NodeHeartbeat): boolean {
    const { view } = this.#options.registry.state;
    if (incarnation > highestIncarnation(this.#options.registry.state, id)) return false;
    // A store that was lost may be followed by one whose clock gave it the same incarnation.
    const isIt = (m: Member): boolean =>
      m.id === id && m.incarnation === incarnation && equalBytes(m.storeId, storeId);
    const waits = view.others.some((m) => isIt(m) && m.state === MemberState.WAITING);
    return !view.members.some(isIt) && !waits;
  }

  #isOfOtherCluster({ clusterId }: NodeHeartbeat): boolean {
    const own = this.#options.registry.state.clusterId;
    return clusterId.byteLength > 0 && own.byteLength > 0 && !equalBytes(clusterId, own);
  }

  #isMember(id: string): boolean {
    const { members, others } = this.#options.registry.state.view;
    return [...members, ...others].some((m) => m.id === id);
  }

  /** Nobody hears of it; but a member that an earlier version let in under its id, and at its address, is one. */
  #whyUnnamed({ id, address }: NodeHeartbeat): string {
    const wrong = wrongMember(id, address);
    if (wrong === undefined) return '';
    const { members, others } = this.#options.registry.state.view;
    const isKnown = [...members, ...others].some((m) => m.id === id && m.address === address);
    return isKnown ? '' : `this node is not taken in: ${wrong.message}`;
  }

  #noticeFor(beat: NodeHeartbeat): string {
    const { id, address, clusterId } = beat;
    const { registry } = this.#options;
    // Just started: what this coordinator has committed it doesn't know yet.
    if (registry.state.clusterId.byteLength === 0 || this.#isUninformed()) return '';
    if (this.#isOfOtherCluster(beat)) {
      return `${id}'s data folder belongs to cluster ${toHex(clusterId)}, these coordinators to ${toHex(registry.state.clusterId)}: use another --data-dir`;
    }
    if (this.#isMember(id)) {
      const { members, others } = registry.state.view;
      const user = [...members, ...others].find((m) => m.address === address && m.id !== id);
      if (user === undefined) return '';
      return `${address} is the address of member ${user.id}: start ${id} with another --listen`;
    }
    const wasRemoved = registry.state.incarnations.has(id);
    const full = whyFull(registry.state.view);
    if (full !== '') return `${id} is not taken in: ${full}`;
    if (beat.join && !wasRemoved) return '';
    return `${id} is not a member of the chain: keychaindb chain add ${id} ${address}`;
  }

  #acceptWatcher(channel: Channel<View>) {
    this.#channels.add(channel as Channel<never>);
    const views = this.view$.subscribe((view) => {
      if (!channel.send(view)) channel.close('the watcher does not keep up');
    });
    return {
      message: (): void => undefined,
      closed: (): void => {
        views.unsubscribe();
        this.#channels.delete(channel as Channel<never>);
      },
    };
  }
}

function isLeaderless(outcome: ProposeOutcome): boolean {
  return outcome.type === 'refused' && outcome.reason === 'NO_LEADER';
}

function createCluster(clusterId: Uint8Array): RegistryCommand {
  return { command: { $case: 'createCluster', value: { clusterId, chainId: 1 } } };
}

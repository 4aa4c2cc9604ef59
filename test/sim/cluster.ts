import { of } from 'rxjs';
import { type Timing, timingDefault } from '../../src/base/timing.js';
import type { CompactionOptions } from '../../src/chain/compaction.js';
import { type ComparePace, comparePaceDefault } from '../../src/chain/comparison.js';
import type { ChainEvent } from '../../src/chain/events.js';
import { logBoundsDefault } from '../../src/chain/limits.js';
import type { NodeHandle } from '../../src/chain/node.js';
import { emptyStore, openStore } from '../../src/chain/open-store.js';
import { startNode } from '../../src/chain/runtime.js';
import { RegistryMachine } from '../../src/coordinator/registry-machine.js';
import { type CoordinatorHandle, startCoordinator } from '../../src/coordinator/runtime.js';
import { MemberState, type View } from '../../src/gen/keychaindb/v1/coordinator.js';
import { DataFolder, type FolderKind, formatOfBases } from '../../src/log/data-folder.js';
import type { EventLog, LogBlock } from '../../src/log/event-log.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { type ProxyHandle, startProxy } from '../../src/proxy/runtime.js';
import { type RaftHandle, startRaft } from '../../src/raft/runtime.js';
import { Answers } from './answers.js';
import { check } from './check.js';
import { Coverage } from './coverage.js';
import { Ghost } from './ghost.js';
import { Network } from './network.js';
import { SimProcess } from './process.js';
import { RaftWatch } from './raft-watch.js';
import { Schedule, type SeededRandom } from './schedule.js';
import { Spans } from './spans.js';

export interface ClusterOptions {
  readonly coordinators: number;
  readonly nodes: number;
  readonly proxies: number;
  readonly random: SeededRandom;
  /** Drawn where it is not given. */
  readonly timing?: Timing;
  /** Disks that say yes and don't sync: a defect that the checks must catch. */
  readonly ignoreSync?: boolean;
  /** Clocks run wrong by up to this part, whatever bound the processes were told. */
  readonly drift?: number;
  readonly trace?: (line: string) => void;
  /** Of nodes; else by chance, small in most runs, so that logs lose their beginnings. */
  readonly compaction?: CompactionOptions;
  /** Milliseconds between two passes of nodes that compare their states. */
  readonly compareMs?: number;
  /** Of a client, before nodes forget what it asked for; absent: longer than a run. */
  readonly sessionSilenceMs?: number | undefined;
  /** Clients have their operations traced. */
  readonly isTraced?: boolean;
}

export type PlaceKind = 'coordinator' | 'node' | 'proxy';

/** A place where a process runs, and runs again: its name, address and disk. */
export interface Place {
  readonly kind: PlaceKind;
  readonly id: string;
  disk: MemoryEngine | undefined;
  process: SimProcess | undefined;
  coordinator?: CoordinatorHandle | undefined;
  raft?: RaftHandle | undefined;
  node?: NodeHandle | undefined;
  /** The write log of the present incarnation. */
  log?: EventLog | undefined;
  proxy?: ProxyHandle | undefined;
  /** Its disk lost or changed what it had synced, under this incarnation. */
  hurt?: number | undefined;
  /** An object record was changed under a running node: it may refuse to read it, and nothing else. */
  rotten?: boolean;
  /** An object that was changed with a right checksum: its record, and what stands there. */
  altered?: { readonly key: Uint8Array; readonly value: Uint8Array } | undefined;
  /** A coordinator whose disk is damaged: it takes part in nothing any more. */
  lost?: boolean;
  /** Simulated milliseconds at which its last process ended. */
  endedAt: number;
  /** Simulated milliseconds until which its disk answers nothing. */
  stalledUntil: number;
}

/** Disks as crashes left them that are looked at when the run is over. */
const remainsMax = 10;

/** The default, a nervous one, and one whose leases outlast its detection. */
const timings: readonly Timing[] = [
  timingDefault,
  timingDefault,
  { ...timingDefault, heartbeatMs: 50, detectionMs: 250 },
  { ...timingDefault, leaseMs: 1_000 },
];

const limits = { keyBytesMax: 64, valueBytesMax: 1_024 };

/** A whole cluster with its real cores and shells; only network, disks, clocks and chance are simulated. */
export class SimCluster {
  readonly schedule = new Schedule();
  readonly network: Network;
  /** Whole disks as crashes left them. */
  readonly remains: { readonly id: string; readonly disk: MemoryEngine }[] = [];
  readonly coverage = new Coverage();
  readonly ghost = new Ghost(this.coverage);
  readonly raftWatch = new RaftWatch();
  /** Small in most runs, so that logs lose their beginnings. */
  readonly #raftLimits: { readonly snapshotEntries: number; readonly keptEntries: number };
  readonly #compaction: CompactionOptions;
  readonly answers = new Answers(this.schedule);
  readonly spans: Spans;
  readonly places: readonly Place[];
  readonly timing: Timing;
  readonly random: SeededRandom;
  readonly #trace: (line: string) => void;
  readonly #compare: ComparePace;
  readonly #sessionSilence: { readonly sessionSilenceMs?: number };
  readonly #ignoreSync: boolean;
  readonly #drift: number;
  readonly #usurped: SimProcess[] = [];
  /** What a process ended with; the first one ends the run. */
  failure: unknown;

  constructor(options: ClusterOptions) {
    this.random = options.random;
    this.timing = options.timing ?? this.random.pick(timings);
    this.#trace = options.trace ?? (() => undefined);
    this.spans = new Spans(options.isTraced ?? false, this.coverage);
    const { sessionSilenceMs } = options;
    this.#sessionSilence = sessionSilenceMs === undefined ? {} : { sessionSilenceMs };
    this.#ignoreSync = options.ignoreSync ?? false;
    const { compareMs = comparePaceDefault.intervalMs } = options;
    const records = compareMs < comparePaceDefault.intervalMs ? 2 : comparePaceDefault.records;
    this.#compare = { ...comparePaceDefault, intervalMs: compareMs, records, share: 0.2 };
    this.#drift = options.drift ?? this.timing.drift * 0.99;
    this.network = new Network(this.schedule, this.random.fork());
    this.#raftLimits = {
      snapshotEntries: this.random.pick([5, 20, 4_096]),
      keptEntries: this.random.int(6),
    };
    this.#compaction = options.compaction ?? {
      bounds: { ...logBoundsDefault, entriesMax: this.random.pick([4, 12, 60, 4_096]) },
      share: this.random.pick([0.05, 0.5, 1]),
      chunkBytes: this.random.pick([1, 200, 100_000]),
    };
    const count = (kind: PlaceKind, n: number): Place[] =>
      Array.from({ length: n }, (_, i) => ({
        kind,
        id: `${kind}-${i + 1}`,
        disk: undefined,
        process: undefined,
        endedAt: 0,
        stalledUntil: 0,
      }));
    this.places = [
      ...count('coordinator', options.coordinators),
      ...count('node', options.nodes),
      ...count('proxy', options.proxies),
    ];
  }

  of(kind: PlaceKind): readonly Place[] {
    return this.places.filter((place) => place.kind === kind);
  }

  /** One transition: time in milliseconds, where, what. */
  trace(where: string, what: string): void {
    this.#trace(`${this.schedule.now.toFixed(3).padStart(11)} ${where.padEnd(14)} ${what}`);
  }

  startAll(): void {
    for (const place of this.places) this.start(place);
  }

  start(place: Place): void {
    if (place.lost === true) return;
    const process = new SimProcess(place.id, this.schedule, this.random.fork(), this.#drift);
    place.process = process;
    this.network.lit(place.id);
    this.trace(place.id, 'starts');
    place.disk ??= this.#newDisk(place);
    const started =
      place.kind === 'coordinator'
        ? this.#startCoordinator(place, process)
        : place.kind === 'node'
          ? this.#runNode(place, process)
          : this.#startProxy(place, process);
    started.catch((error: unknown) => this.#failed(place, process, error));
  }

  #newDisk(place: Place): MemoryEngine {
    const { random, schedule } = this;
    const slow = random.chance(0.1) ? 12 : 1.5;
    const stalled = (): number => Math.max(0, place.stalledUntil - schedule.now);
    // The disk outlives its processes; what it tells a paused one is heard later.
    return new MemoryEngine({
      clock: {
        monotonic: () => 0,
        wall: () => 0,
        after: (ms, then) => schedule.after(ms, () => place.process?.run(then)),
        soon: (then) => schedule.after(0, () => place.process?.run(then)),
      },
      readMs: () => stalled() + (random.chance(0.1) ? random.between(0, 1) : 0),
      writeMs: () => stalled() + random.between(0.01, 0.2),
      syncMs: () => stalled() + random.between(0.2, slow),
      survivors: (batches) => random.int(batches + 1),
      ignoreSync: this.#ignoreSync && place.kind === 'node',
    });
  }

  /** What a process ended itself with: expected where its disk fails, else the run has found something. */
  #failed(place: Place, process: SimProcess, error: unknown): void {
    if (process.isDead || place.process !== process) return;
    if (place.disk?.isFailing === true) {
      this.coverage.count('disk error');
      this.crash(place, false);
      this.schedule.after(300, () => this.isDown(place) && this.start(place));
      return;
    }
    this.failure ??= error;
  }

  /** Ends a process at once. `power`: what was not synced may be lost too, but what a lying disk owes is not. */
  crash(place: Place, power: boolean): void {
    if (place.disk?.isLying === true && !this.#ignoreSync) place.disk.ignoreSyncs(false);
    this.crashAsIs(place, power);
    this.#keepRemains(place);
  }

  #keepRemains({ kind, id, disk, hurt, rotten, lost }: Place): void {
    const isWhole = kind !== 'proxy' && hurt === undefined && rotten !== true && lost !== true;
    if (disk === undefined || !isWhole || this.remains.length >= remainsMax) return;
    this.remains.push({ id, disk: disk.copy() });
  }

  /** A power cut that shows what a disk has lied about. */
  crashAsIs(place: Place, power: boolean): void {
    const { process } = place;
    if (process === undefined || process.isDead) return;
    this.trace(place.id, power ? 'crashes without power' : 'crashes');
    process.isDead = true;
    place.endedAt = this.schedule.now;
    this.network.dropProcess(process, !power);
    place.disk = place.disk?.crash({ power });
    place.coordinator = undefined;
    place.raft = undefined;
    place.node = undefined;
    place.log = undefined;
    place.proxy = undefined;
  }

  /**
   * Another process of the same name starts, on an empty disk elsewhere, while the old one hangs; it wakes later
   * and knows of nothing.
   */
  usurp(place: Place, wakesAfter: number): void {
    const { process } = place;
    if (process === undefined || process.isDead) return;
    process.pause();
    this.ghost.usurp(place.id);
    this.#usurped.push(process);
    this.schedule.after(wakesAfter, () => process.resume());
    place.disk = undefined;
    this.start(place);
  }

  /** Ends what was usurped and still runs. */
  endUsurped(): void {
    for (const process of this.#usurped.splice(0)) {
      process.isDead = true;
      this.network.dropProcess(process);
    }
  }

  isDown(place: Place): boolean {
    return place.process === undefined || place.process.isDead;
  }

  /** Does it run, unpaused, with a disk that has kept what it synced? */
  isWell(place: Place): boolean {
    return !this.isDown(place) && place.process?.isPaused === false && place.lost !== true;
  }

  /** A store that was hurt still counts as a member's: another loss now would be beyond what a chain can bear. */
  get isFragile(): boolean {
    const members = this.ghost.decided?.members ?? [];
    return this.of('node').some(
      ({ id, hurt }) =>
        hurt !== undefined && members.some((m) => m.id === id && m.incarnation === hurt),
    );
  }

  /** May this node lose what it has synced: others serve, are well, and no change of the view is under way. */
  canSpare(place: Place): boolean {
    const view = this.ghost.decided;
    const leader = this.of('coordinator').find(({ raft }) => raft?.status.isCurrent === true);
    if (view === undefined || leader?.raft === undefined || this.isFragile) return false;
    const { state } = leader.raft;
    if (state.durable.log.last.index !== state.applied) return false;
    const serving = view.members.filter((m) => m.state === MemberState.SERVING);
    const well = serving.filter((m) => {
      const at = this.of('node').find(({ id }) => id === m.id);
      return (
        at !== undefined &&
        at !== place &&
        this.isWell(at) &&
        at.rotten !== true &&
        at.node?.state.self.incarnation === m.incarnation &&
        at.node.state.active?.epoch === view.epoch
      );
    });
    return well.length > 0 && well.length >= serving.length - 1;
  }

  /** The incarnation under which a place's store is a member, or was last one. */
  memberIncarnation(place: Place): number {
    const view = this.ghost.decided;
    return view?.members.find(({ id }) => id === place.id)?.incarnation ?? -1;
  }

  async #open(
    place: Place,
    process: SimProcess,
    kind: FolderKind,
  ): Promise<{ readonly folder: DataFolder; readonly engine: MemoryEngine }> {
    const engine = place.disk ?? this.#newDisk(place);
    const folder = await DataFolder.open({
      dir: place.id,
      kind,
      id: place.id,
      random: process.random,
      openEngine: () => Promise.resolve(engine),
    });
    return { folder, engine };
  }

  async #startCoordinator(place: Place, process: SimProcess): Promise<void> {
    const { engine } = await this.#open(place, process, 'coordinator');
    const fatal = (error: unknown): void => this.#failed(place, process, error);
    const { log, damage } = await openLog({ engine, fatal });
    if (damage !== undefined) {
      if (place.lost !== true) throw new Error(`${place.id}: ${damage.message}`);
      this.coverage.count('damaged record');
      this.trace(place.id, `refuses to start: ${damage.kind}`);
      this.crash(place, false);
      return;
    }
    const registry = new RegistryMachine();
    const { clock, random } = process;
    const raft = await startRaft({
      id: place.id,
      address: addressOf(place.id),
      founders: new Map(this.of('coordinator').map(({ id }) => [id, addressOf(id)])),
      clusterId: () => registry.state.clusterId,
      ...this.#raftLimits,
      clock,
      random,
      timing: this.timing,
      log,
      dialer: this.network.dialer(process, 'raft'),
      machine: registry,
      fatal,
    });
    if (process.isDead) return;
    const coordinator = startCoordinator({
      raft,
      registry,
      clock,
      random,
      timing: this.timing,
      prober: this.network.prober(process),
      fatal,
    });
    place.raft = raft;
    place.coordinator = coordinator;
    this.raftWatch.watch(place.id, process, raft.state);
    let wasLeader = false;
    let snapshot = raft.status.snapshot;
    raft.status$.subscribe(({ role, term, first, ...status }) => {
      if (process.isDead) return;
      if (status.snapshot > snapshot) {
        snapshot = status.snapshot;
        const isOthers = first === snapshot + 1 && raft.state.limits.keptEntries > 0;
        this.coverage.count(isOthers ? 'coordinator snapshot sent' : 'coordinator snapshot taken');
      }
      const isLeader = role === 'leader';
      if (isLeader && !wasLeader) this.#elected(place.id, raft, term);
      wasLeader = isLeader;
    });
    coordinator.view$.subscribe((view) => {
      if (process.isDead) return;
      this.#countRefused(view);
      this.ghost.decide(view);
      const members = view.members.map((m) => `${m.id}:${m.state}`).join(' ');
      this.trace(place.id, `view ${view.epoch} {${members}}`);
    });
    this.network.listen(process, addressOf(place.id), 'raft', raft.accept);
    this.network.listen(process, addressOf(place.id), 'heartbeat', coordinator.acceptHeartbeat);
    this.network.listen(process, addressOf(place.id), 'views', coordinator.acceptWatch);
  }

  /** Who died and is out long before silence could be evidence was given away by its kernel. */
  #countRefused(view: View): void {
    const before = this.ghost.decided;
    if (before === undefined || view.epoch <= before.epoch) return;
    for (const { id } of before.members.filter((m) => !view.members.some((n) => n.id === m.id))) {
      const place = this.of('node').find((each) => each.id === id);
      if (place === undefined || !this.isDown(place) || !this.network.refused.has(id)) continue;
      const wasSoon = this.schedule.now - place.endedAt < this.timing.detectionMs / 2;
      const isMember = view.others.some((m) => m.id === id && !m.drained);
      if (wasSoon && isMember) this.coverage.count('removed because it refused');
    }
  }

  #elected(id: string, { state }: RaftHandle, term: number): void {
    this.trace(id, `leads in term ${term}`);
    const { log } = state.durable;
    const inFlight = log
      .between(state.commit + 1, log.last.index)
      .some(({ entries }) => entries.some(({ payload }) => payload.byteLength > 0));
    if (inFlight) this.coverage.count('leader change with a view in flight');
  }

  async #runNode(place: Place, process: SimProcess): Promise<void> {
    const { folder } = await this.#open(place, process, 'node');
    const fatal = (error: unknown): void => this.#failed(place, process, error);
    const { id } = place;
    let log = await openStore({
      folder,
      id,
      fatal,
      notice: (text) => {
        const isPart = text.includes('part of a snapshot');
        this.coverage.count(isPart ? 'snapshot broken off' : 'damaged record');
        this.trace(id, text.replace(/:.*/, ''));
      },
      emptyAtNextOpen: () => Promise.reject(new Error('a store in memory can be emptied')),
    });
    const { clock, random } = process;
    let above = 0;
    let first: number | undefined;
    while (!process.isDead) {
      const incarnation = await folder.nextIncarnation(clock.wall(), above);
      first ??= incarnation;
      const held: LogBlock[] = [];
      for await (const block of log.read(log.start)) held.push(block);
      const handle = await startNode({
        identity: {
          id,
          incarnation,
          storeId: folder.storeId,
          address: addressOf(id),
          process: first,
        },
        chainId: 1,
        clock,
        random,
        timing: this.timing,
        // Some keep nothing in memory, some the newest two or three objects, some all.
        objectCacheBytes: random.pick([0, 16_000, 1 << 20]),
        log,
        join: true,
        peers: this.network.dialer(process, 'peer'),
        links: this.network.dialer(process, 'follow'),
        coordinators: {
          addresses: this.of('coordinator').map((c) => addressOf(c.id)),
          dialer: this.network.dialer(process, 'heartbeat'),
        },
        limits,
        compaction: {
          ...this.#compaction,
          raiseFormat: () => void folder.raiseFormat(formatOfBases).catch(fatal),
        },
        compare: this.#compare,
        ...this.#sessionSilence,
        fatal,
        notice: (text) => this.trace(id, text),
        telemetry: this.spans.telemetry(),
      });
      if (process.isDead) return;
      place.node = handle;
      place.log = log;
      this.ghost.watch(id, process, handle, held);
      this.network.listen(process, addressOf(id), 'peer', handle.acceptPeer);
      this.network.listen(process, addressOf(id), 'follow', handle.acceptFollow);
      const sessions = this.answers.watch(id, handle.acceptSession);
      this.network.listen(process, addressOf(id), 'session', sessions);
      handle.events$.subscribe((event) => {
        if (event.type === 'Activated') this.trace(id, `activates ${event.view.epoch}`);
        if (event.type === 'AuthorityTaken') this.trace(id, 'takes authority');
        if (event.type === 'BaseMade') this.trace(id, `has a base of ${event.base.id.index}`);
        if (event.type === 'LogDropped') {
          this.trace(id, `drops its log through ${event.through.id.index}`);
        }
        if (event.type === 'SnapshotBegun') this.trace(id, `takes a snapshot of ${event.at.index}`);
        if (event.type === 'SnapshotInstalled') this.trace(id, 'has taken the snapshot');
        if (event.type === 'SuffixCut') this.trace(id, `cuts back to ${event.after.index}`);
        this.#compared(place, process, event);
      });
      const removal = await handle.removed;
      if (process.isDead) return;
      if (place.process !== process) {
        // The one that was usurped has learned of it.
        process.isDead = true;
        this.network.dropProcess(process);
        return;
      }
      this.trace(id, `is out: ${removal.why}`);
      this.ghost.forget(handle);
      await handle.close();
      above = removal.above;
      if (removal.wipe) {
        if (place.rotten === true) this.coverage.count('damaged record read, synced anew');
        log = await emptyStore(log, folder, fatal);
        place.rotten = false;
      }
    }
  }

  /** R18: a difference is found only where an object was altered. */
  #compared(place: Place, process: SimProcess, event: ChainEvent): void {
    if (event.type === 'RoundEqual') {
      this.coverage.count('states compared');
      const { ledger } = place.node?.state ?? {};
      if (ledger !== undefined && ledger.last.index > event.at.index) {
        this.coverage.count('states compared amid writes');
      }
    }
    if (event.type !== 'DamageFound') return;
    const { what, outlier } = event.damage;
    this.trace(place.id, `finds damage: ${what}`);
    try {
      if (outlier === '') {
        const isHurt = place.rotten === true || place.hurt !== undefined;
        check(isHurt, 'comparison', 'a whole store is not found damaged', { id: place.id, what });
        return;
      }
      const isAltered = this.of('node').some(({ altered }) => altered !== undefined);
      check(isAltered, 'comparison', 'equal states are not found different', { what });
      this.coverage.count('difference found');
    } catch (error) {
      this.#failed(place, process, error);
    }
  }

  async #startProxy(place: Place, process: SimProcess): Promise<void> {
    place.proxy = startProxy({
      id: place.id,
      clock: process.clock,
      random: process.random,
      timing: this.timing,
      views: {
        addresses$: of(this.of('coordinator').map(({ id }) => addressOf(id))),
        dialer: this.network.dialer(process, 'views'),
      },
      nodes: this.network.dialer(process, 'session'),
      limits,
      fatal: (error) => this.#failed(place, process, error),
    });
  }
}

/** Where the process of a place is reached. */
export function addressOf(id: string): string {
  return `${id}:1`;
}

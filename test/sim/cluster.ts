import { type Timing, timingDefault } from '../../src/base/timing.js';
import { type NodeHandle, startNode } from '../../src/chain/runtime.js';
import { RegistryMachine } from '../../src/coordinator/registry-machine.js';
import { type CoordinatorHandle, startCoordinator } from '../../src/coordinator/runtime.js';
import { DataFolder, type FolderKind } from '../../src/log/data-folder.js';
import { type EventLog, type LogBlock, origin } from '../../src/log/event-log.js';
import { metaKey } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { type ProxyHandle, startProxy } from '../../src/proxy/runtime.js';
import { type RaftHandle, startRaft } from '../../src/raft/runtime.js';
import { Ghost } from './ghost.js';
import { Network } from './network.js';
import { SimProcess } from './process.js';
import { Schedule, type SeededRandom } from './schedule.js';

export interface ClusterOptions {
  readonly coordinators: number;
  readonly nodes: number;
  readonly proxies: number;
  readonly random: SeededRandom;
  /** Disks that say yes and don't sync: a mutant that the checks must catch. */
  readonly ignoreSync?: boolean;
  readonly trace?: (line: string) => void;
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
}

const limits = { keyBytesMax: 64, valueBytesMax: 1_024 };

/** A whole cluster with its real cores and shells; only network, disks, clocks and chance are simulated. */
export class SimCluster {
  readonly schedule = new Schedule();
  readonly network: Network;
  readonly ghost = new Ghost();
  readonly places: readonly Place[];
  readonly timing: Timing = timingDefault;
  readonly random: SeededRandom;
  readonly #trace: (line: string) => void;
  readonly #ignoreSync: boolean;
  /** What a process ended with; the first one ends the run. */
  failure: unknown;

  constructor(options: ClusterOptions) {
    this.random = options.random;
    this.#trace = options.trace ?? (() => undefined);
    this.#ignoreSync = options.ignoreSync ?? false;
    this.network = new Network(this.schedule, this.random.fork());
    const count = (kind: PlaceKind, n: number): Place[] =>
      Array.from({ length: n }, (_, i) => ({
        kind,
        id: `${kind}-${i + 1}`,
        disk: undefined,
        process: undefined,
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

  trace(line: string): void {
    this.#trace(`${this.schedule.now.toFixed(3).padStart(11)} ${line}`);
  }

  startAll(): void {
    for (const place of this.places) this.start(place);
  }

  start(place: Place): void {
    const process = new SimProcess(
      place.id,
      this.schedule,
      this.random.fork(),
      this.timing.drift * 0.99,
    );
    place.process = process;
    this.trace(`${place.id} starts`);
    place.disk ??= this.#newDisk(place);
    const started =
      place.kind === 'coordinator'
        ? this.#startCoordinator(place, process)
        : place.kind === 'node'
          ? this.#runNode(place, process)
          : this.#startProxy(place, process);
    started.catch((error: unknown) => this.#failed(process, error));
  }

  #newDisk(place: Place): MemoryEngine {
    const { random } = this;
    const slow = random.chance(0.1) ? 12 : 1.5;
    // The disk outlives its processes; what it tells a paused one is heard later.
    return new MemoryEngine({
      clock: {
        monotonic: () => 0,
        wall: () => 0,
        after: (ms, then) => this.schedule.after(ms, () => place.process?.run(then)),
      },
      writeMs: () => random.between(0.01, 0.2),
      syncMs: () => random.between(0.2, slow),
      ignoreSync: this.#ignoreSync && place.kind === 'node',
    });
  }

  #failed(process: SimProcess, error: unknown): void {
    if (process.isDead) return;
    this.failure ??= error;
  }

  /** Ends a process at once. `power`: what was not synced is lost too. */
  crash(place: Place, power: boolean): void {
    const { process } = place;
    if (process === undefined || process.isDead) return;
    this.trace(`${place.id} crashes${power ? ' without power' : ''}`);
    process.isDead = true;
    this.network.dropProcess(process);
    place.disk = place.disk?.crash({ power });
    place.coordinator = undefined;
    place.raft = undefined;
    place.node = undefined;
    place.proxy = undefined;
  }

  isDown(place: Place): boolean {
    return place.process === undefined || place.process.isDead;
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
    const fatal = (error: unknown): void => this.#failed(process, error);
    const { log, damage } = await openLog({ engine, fatal });
    if (damage !== undefined) throw new Error(`${place.id}: ${damage.message}`);
    const registry = new RegistryMachine();
    const { clock, random } = process;
    const raft = await startRaft({
      id: place.id,
      peers: new Map(this.of('coordinator').map(({ id }) => [id, addressOf(id)])),
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
      fatal,
    });
    place.raft = raft;
    place.coordinator = coordinator;
    coordinator.view$.subscribe((view) => {
      if (process.isDead) return;
      this.ghost.decide(view);
      const members = view.members.map((m) => `${m.id}:${m.state}`).join(' ');
      this.trace(`${place.id} view ${view.epoch} {${members}}`);
    });
    this.network.listen(process, addressOf(place.id), 'raft', raft.accept);
    this.network.listen(process, addressOf(place.id), 'heartbeat', coordinator.acceptHeartbeat);
    this.network.listen(process, addressOf(place.id), 'views', coordinator.acceptWatch);
  }

  async #runNode(place: Place, process: SimProcess): Promise<void> {
    const { folder, engine } = await this.#open(place, process, 'node');
    const fatal = (error: unknown): void => this.#failed(process, error);
    let opened = await openLog({ engine, fatal });
    if (opened.damage !== undefined) throw new Error(`${place.id}: ${opened.damage.message}`);
    const { clock, random } = process;
    while (!process.isDead) {
      const { log } = opened;
      const held: LogBlock[] = [];
      for await (const block of log.read(origin)) held.push(block);
      const handle = await startNode({
        identity: {
          id: place.id,
          incarnation: await folder.nextIncarnation(clock.wall()),
          storeId: folder.storeId,
          address: addressOf(place.id),
        },
        chainId: 1,
        clock,
        random,
        timing: this.timing,
        log,
        join: true,
        peers: this.network.dialer(process, 'peer'),
        links: this.network.dialer(process, 'follow'),
        coordinators: {
          addresses: this.of('coordinator').map(({ id }) => addressOf(id)),
          dialer: this.network.dialer(process, 'heartbeat'),
        },
        limits,
        fatal,
      });
      if (process.isDead) return;
      place.node = handle;
      place.log = log;
      this.ghost.watch(place.id, process, handle, held);
      this.network.listen(process, addressOf(place.id), 'peer', handle.acceptPeer);
      this.network.listen(process, addressOf(place.id), 'follow', handle.acceptFollow);
      this.network.listen(process, addressOf(place.id), 'session', handle.acceptSession);
      handle.events$.subscribe((event) => {
        if (event.type === 'Activated') this.trace(`${place.id} activates ${event.view.epoch}`);
        if (event.type === 'AuthorityTaken') this.trace(`${place.id} takes authority`);
      });
      const removal = await handle.removed;
      if (process.isDead) return;
      this.trace(`${place.id} is out: ${removal.why}`);
      this.ghost.nodes.delete(place.id);
      await handle.close();
      if (removal.wipe) {
        await opened.log.release();
        await folder.wipe([metaKey('lease-max')]);
        opened = await openLog({ engine, fatal });
      }
    }
  }

  async #startProxy(place: Place, process: SimProcess): Promise<void> {
    place.proxy = startProxy({
      id: place.id,
      clock: process.clock,
      random: process.random,
      timing: this.timing,
      views: {
        addresses: this.of('coordinator').map(({ id }) => addressOf(id)),
        dialer: this.network.dialer(process, 'views'),
      },
      nodes: this.network.dialer(process, 'session'),
      limits,
      fatal: (error) => this.#failed(process, error),
    });
  }
}

/** Where the process of a place is reached. */
export function addressOf(id: string): string {
  return `${id}:1`;
}

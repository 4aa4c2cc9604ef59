import { crc32 } from 'node:zlib';
import { comparePaceDefault } from '../../src/chain/comparison.js';
import { servingOf } from '../../src/chain/views.js';
import { heldMsMax } from '../../src/coordinator/limits.js';
import { checkHistory } from '../history/linearizability.js';
import type { HistoryOperation } from '../history/operation.js';
import { CheckFailure, check } from './check.js';
import { SimCluster } from './cluster.js';
import { Core } from './core.js';
import { alterObject, Weather } from './faults.js';
import { type Plan, planOf } from './plan.js';
import { compareWithReplay } from './replicas.js';
import { SeededRandom } from './schedule.js';
import { Workload } from './workload.js';

export interface SimResult {
  readonly seed: number;
  readonly plan: Plan;
  readonly events: number;
  readonly operations: number;
  readonly simulatedMs: number;
  /** Of every transition that was traced. */
  readonly hash: number;
  readonly met: ReadonlyMap<string, number>;
  /** What broke, which checker found it, and the transitions before it. */
  readonly failure?: {
    readonly error: unknown;
    readonly checker: string;
    readonly trace: readonly string[];
    readonly history: readonly HistoryOperation[];
  };
}

export interface SimOptions {
  readonly faultsMs?: number;
  readonly ignoreSync?: boolean;
  /** Only these of the planned faults. */
  readonly faults?: readonly number[];
  /** Clocks run wrong by up to this part: what rests on their bound isn't checked then. */
  readonly drift?: number;
}

/** Milliseconds of simulated time within which a healed core must serve with every node: the last may be held back. */
const healMs = 60_000 + heldMsMax;
const chunkMs = 50;
const lonelyWrites = 6;
const shortSilenceMs = 1_000;
/** Milliseconds for which it must stay so: longer than detection and a lease together. */
const wholeMs = 2_500;

/** One seed: a cluster, clients, faults; then a core heals, and must serve and converge. */
export async function runSeed(seed: number, options: SimOptions = {}): Promise<SimResult> {
  const plan = planOf(seed, options.faultsMs ?? 8_000);
  const trace: string[] = [];
  let hash = 0;
  const cluster = new SimCluster({
    ...plan,
    random: new SeededRandom(plan.clusterSeed),
    ignoreSync: options.ignoreSync ?? false,
    ...(options.drift === undefined ? undefined : { drift: options.drift }),
    // One run in four: tracing writes to the disk as well.
    isTraced: seed % 4 === 3,
    // One run in four forgets clients that may still try again: they must be refused, not run twice.
    sessionSilenceMs: seed % 4 === 1 ? shortSilenceMs : undefined,
    compareMs: plan.compareMs,
    trace: (line) => {
      trace.push(line);
      hash = crc32(line, hash);
    },
  });
  cluster.ghost.isTimely = options.drift === undefined;
  cluster.answers.isTimely = options.drift === undefined;
  const workload = new Workload(cluster, new SeededRandom(plan.workloadSeed), plan.keys);
  const run = new Run(cluster, workload, plan, options);
  let failure: SimResult['failure'];
  try {
    await run.all();
  } catch (error) {
    const checker = error instanceof CheckFailure ? error.checker : 'assertion';
    cluster.trace('end', JSON.stringify(situation(cluster)));
    failure = { error, checker, trace, history: workload.answered };
  }
  const { counters } = cluster.network;
  for (const [what, times] of Object.entries(counters)) {
    if (times > 0) cluster.coverage.count(`fault: message ${what}`, times);
  }
  return {
    seed,
    plan,
    events: cluster.schedule.events,
    operations: workload.operations,
    simulatedMs: cluster.schedule.now,
    hash,
    met: cluster.coverage.met,
    ...(failure === undefined ? undefined : { failure }),
  };
}

class Run {
  readonly #cluster: SimCluster;
  readonly #workload: Workload;
  readonly #plan: Plan;
  readonly #options: SimOptions;

  constructor(cluster: SimCluster, workload: Workload, plan: Plan, options: SimOptions) {
    this.#cluster = cluster;
    this.#workload = workload;
    this.#plan = plan;
    this.#options = options;
  }

  async all(): Promise<void> {
    const { schedule } = this.#cluster;
    const plan = this.#plan;
    const workload = this.#workload;
    this.#cluster.startAll();
    await this.#until(plan.warmUpMs);
    workload.start(plan.clients, plan.pauseMs);
    await this.#faults();
    const core = await this.#end(new SeededRandom(plan.coreSeed));
    this.#cluster.trace('core', core.describe());
    await this.#heal(core);
    workload.stop();
    await this.#while(() => !workload.isIdle, 'clients end');
    await this.#writeAlone(new SeededRandom(plan.coreSeed));
    // A stream that broke then may cost a member its place a while later: of two that differ it is known who is the later one.
    await this.#heal(core);
    await this.#alter(core, new SeededRandom(plan.coreSeed));
    await this.#done(workload.readAll(core.nodes), 'every key is read at every node');
    await this.#until(schedule.now + 500);
    await this.#done(compareWithReplay(this.#cluster), 'every log is replayed');
    this.#checkHistory();
  }

  async #faults(): Promise<void> {
    const { schedule } = this.#cluster;
    const { faults, faultsMs } = this.#plan;
    const weather = new Weather(this.#cluster);
    const from = schedule.now;
    for (const fault of faults) {
      if (this.#options.faults?.includes(fault.index) === false) continue;
      schedule.at(from + fault.at, () => weather.inject(fault));
    }
    await this.#until(from + faultsMs);
    weather.end();
  }

  /** The faults are over; who is left? */
  async #end(random: SeededRandom): Promise<Core> {
    const cluster = this.#cluster;
    if (this.#plan.ending === 'all heal') return Core.all(cluster);
    if (this.#plan.ending === 'a core heals') return Core.some(cluster, random);
    await this.#heal(Core.all(cluster));
    const core = Core.someServing(cluster, random);
    cluster.trace('nodes', 'lose power together');
    for (const place of cluster.of('node')) cluster.crash(place, true);
    // Longer than detection: nobody may be removed while nobody who serves is heard.
    await this.#until(cluster.schedule.now + random.between(0, 3 * cluster.timing.detectionMs));
    // They come back one by one.
    for (const place of cluster.of('node')) {
      if (!core.has(place)) continue;
      const after = random.between(0, 3_000);
      cluster.schedule.after(after, () => cluster.isDown(place) && cluster.start(place));
    }
    await this.#until(cluster.schedule.now + 3_000);
    return core;
  }

  /** The core must come back by itself, and stay: a process that was paused is told late of what happened. */
  async #heal(core: Core): Promise<void> {
    const { schedule } = this.#cluster;
    const deadline = schedule.now + healMs;
    let wholeSince = schedule.now;
    while (schedule.now - wholeSince < wholeMs) {
      if (!core.isWhole) wholeSince = schedule.now;
      core.heal();
      const isLate = schedule.now >= deadline;
      check(!isLate, 'liveness', 'a healed core serves with every node', {});
      await this.#until(schedule.now + chunkMs);
    }
  }

  /** Writes that nothing follows, while streams break for a moment: none waits for a later one to bring it on. */
  async #writeAlone(random: SeededRandom): Promise<void> {
    const { schedule, network, coverage } = this.#cluster;
    for (let round = 0; round < lonelyWrites; round += 1) {
      const broken = network.counters.broken;
      network.breakChance = random.between(0.02, 0.3);
      const written = this.#workload.writeAlone();
      await this.#until(schedule.now + random.between(1, 20));
      network.calm();
      const isKnown = written.then((known) => {
        check(known, 'liveness', 'a write that nothing follows is answered');
      });
      await this.#done(isKnown, 'a write that nothing follows ends');
      if (network.counters.broken > broken) coverage.count('written alone while streams broke');
    }
  }

  /** A quiet chain, and one object that is another at one member: it is found, and that member mended (R18). */
  async #alter(core: Core, random: SeededRandom): Promise<void> {
    const cluster = this.#cluster;
    const serving = servingOf(cluster.ghost.decided ?? { members: [] }).flatMap((m) => {
      const place = cluster.of('node').find(({ id }) => id === m.id);
      return place === undefined ? [] : [place];
    });
    const isOften = this.#plan.compareMs < comparePaceDefault.intervalMs;
    if (!isOften || serving.length < 2 || serving.some(({ rotten }) => rotten === true)) return;
    // Of two it is the later one that is synced anew.
    const place = random.pick(serving.length > 2 ? serving : serving.slice(1));
    alterObject(cluster, place, random);
    const isMended = (): boolean => {
      const { altered, disk } = place;
      return altered === undefined || disk?.peek(altered.key) !== altered.value;
    };
    await this.#while(() => !isMended() || !core.isWhole, 'an altered object is found and mended');
    if (place.altered !== undefined) cluster.coverage.count('altered object mended');
    place.altered = undefined;
  }

  #checkHistory(): void {
    if (this.#options.drift !== undefined) return;
    const verdict = checkHistory(this.#workload.history());
    if (verdict.ok) return;
    throw new CheckFailure(
      'linearizability',
      `${verdict.kind}: ${verdict.message} ${JSON.stringify(verdict.operations)}`,
    );
  }

  async #until(time: number): Promise<void> {
    const { schedule, ghost, raftWatch } = this.#cluster;
    await schedule.runUntil(time, () => {
      ghost.check();
      raftWatch.check();
      const { failure: found, answers, spans } = this.#cluster;
      const failure = found ?? answers.failure ?? this.#workload.failure ?? spans.failure;
      if (failure !== undefined) throw failure;
    });
  }

  async #while(isSo: () => boolean, what: string): Promise<void> {
    const { schedule } = this.#cluster;
    const deadline = schedule.now + healMs;
    while (isSo()) {
      check(schedule.now < deadline, 'liveness', what);
      await this.#until(schedule.now + chunkMs);
    }
  }

  /** Runs the schedule until the work is done. */
  async #done(work: Promise<void>, what: string): Promise<void> {
    let ended = false;
    let failure: unknown;
    work
      .catch((error: unknown) => {
        failure = error;
      })
      .finally(() => {
        ended = true;
      });
    await this.#while(() => !ended, what);
    if (failure !== undefined) throw failure;
  }
}

function situation(cluster: SimCluster): Readonly<Record<string, unknown>> {
  const view = cluster.ghost.decided;
  return {
    view: view && {
      epoch: view.epoch,
      members: view.members.map((m) => `${m.id}:${m.state}`),
      others: view.others.map((m) => `${m.id}:${m.state}`),
    },
    nodes: cluster.of('node').map(({ id, node, process, hurt }) => ({
      id,
      hurt,
      dead: process?.isDead,
      seen: node?.state.seen?.epoch,
      active: node?.state.active?.epoch,
      last: node?.state.ledger.last.index,
      watermark: node?.state.ledger.watermark.index,
      authority: node?.state.authority,
      bootWait: node && Math.round(node.state.bootWaitUntil),
      now: process && Math.round(process.clock.monotonic()),
      held: node && [...node.state.held],
      given: node && [...node.state.given.keys()],
      up: node?.state.up,
      down: node?.state.down,
      parked: node?.state.hellos.length,
    })),
    streams: cluster.network.describe(),
    coordinators: cluster.of('coordinator').map(({ id, raft, lost }) => ({
      id,
      lost,
      ...raft?.status,
    })),
  };
}

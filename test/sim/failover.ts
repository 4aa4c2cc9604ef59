import { type Timing, timingDefault } from '../../src/base/timing.js';
import { isLeased } from '../../src/chain/promise.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { check } from './check.js';
import { type Place, SimCluster } from './cluster.js';
import { SeededRandom } from './schedule.js';
import { Workload } from './workload.js';

export type Position = 'head' | 'middle' | 'tail';

/** What one death, or one stall, in a cluster without other faults came to. Simulated milliseconds. */
export interface Failover {
  /** Until a view without the dead one was decided. */
  readonly outMs: number;
  /** Longest time between two answers to writes. */
  readonly writeGapMs: number;
  /** Longest time for which a node that lives had no lease: reads of clean keys wait there. */
  readonly unleasedMs: number;
  /** Views that were decided after it. */
  readonly changes: number;
}

const clients = 12;
const warmUpMs = 3_000;
const watchedMs = 2_500;

/** Three coordinators, nodes and a proxy, under load, on slow and quick disks alike. */
class Scenario {
  readonly cluster: SimCluster;
  readonly #workload: Workload;

  constructor(seed: number, nodes: number, timing: Timing = timingDefault) {
    const random = new SeededRandom(seed);
    this.cluster = new SimCluster({ coordinators: 3, nodes, proxies: 1, random, timing });
    this.#workload = new Workload(this.cluster, random.fork(), 2 * clients);
  }

  async begin(): Promise<readonly Place[]> {
    const { cluster } = this;
    cluster.startAll();
    await this.until(warmUpMs);
    for (let tries = 0; this.serving().length < cluster.of('node').length; tries += 1) {
      check(tries < 200, 'liveness', 'every node serves');
      await this.until(cluster.schedule.now + 100);
    }
    this.#workload.start(clients, 5);
    await this.until(cluster.schedule.now + 1_000);
    return this.serving();
  }

  /** In the order of the chain. */
  serving(): readonly Place[] {
    const members = this.cluster.ghost.decided?.members ?? [];
    return members
      .filter((m) => m.state === MemberState.SERVING)
      .flatMap(({ id }) => this.cluster.of('node').filter((place) => place.id === id));
  }

  async until(time: number, stepped: () => void = () => undefined): Promise<void> {
    const { schedule, ghost } = this.cluster;
    await schedule.runUntil(time, () => {
      ghost.check();
      const failure = this.cluster.failure ?? this.#workload.failure;
      if (failure !== undefined) throw failure;
      stepped();
    });
  }

  /** Looks at what follows `event`, which happens to `victim`. */
  async watch(victim: Place, event: () => void): Promise<Failover> {
    const { schedule, ghost } = this.cluster;
    const from = schedule.now;
    const epoch = ghost.decided?.epoch ?? 0;
    const leasedAt = new Map(this.serving().map((place) => [place, from]));
    leasedAt.delete(victim);
    let outAt = Number.POSITIVE_INFINITY;
    let unleasedMs = 0;
    event();
    await this.until(from + watchedMs, () => {
      const isOut = ghost.decided?.members.every(({ id }) => id !== victim.id) === true;
      if (isOut) outAt = Math.min(outAt, schedule.now);
      for (const [place, last] of leasedAt) {
        const { node, process } = place;
        const now = process?.clock.monotonic() ?? 0;
        if (node !== undefined && isLeased(node.state, now)) leasedAt.set(place, schedule.now);
        else unleasedMs = Math.max(unleasedMs, schedule.now - last);
      }
    });
    const ends = this.#workload.answered
      .filter((o) => o.operation !== 'get' && o.end !== undefined && o.end >= from)
      .map((o) => o.end ?? 0);
    const times = [from, ...ends.sort((a, b) => a - b), schedule.now];
    const gaps = times.map((at, i) => at - (times[i - 1] ?? at));
    return {
      outMs: outAt - from,
      writeGapMs: Math.max(...gaps),
      unleasedMs,
      changes: (ghost.decided?.epoch ?? 0) - epoch,
    };
  }
}

/** The process at this place of the chain is killed. */
export async function killAt(seed: number, nodes: number, position: Position): Promise<Failover> {
  const scenario = new Scenario(seed, nodes);
  const chain = await scenario.begin();
  const at = { head: 0, middle: Math.floor(chain.length / 2), tail: chain.length - 1 }[position];
  const victim = chain[at];
  check(victim !== undefined, 'liveness', 'a chain serves');
  return scenario.watch(victim, () => scenario.cluster.crash(victim, false));
}

/** The process at this place of the chain stands still for so long, its kernel does not. */
export async function stallAt(
  seed: number,
  nodes: number,
  position: Position,
  stallMs: number,
): Promise<Failover> {
  const scenario = new Scenario(seed, nodes);
  const chain = await scenario.begin();
  const at = { head: 0, middle: Math.floor(chain.length / 2), tail: chain.length - 1 }[position];
  const victim = chain[at];
  check(victim !== undefined, 'liveness', 'a chain serves');
  return scenario.watch(victim, () => {
    victim.process?.pause();
    scenario.cluster.schedule.after(stallMs, () => victim.process?.resume());
  });
}

/** The tail is cut off from all coordinators for a second; silence would be evidence after two. Nothing refuses. */
export async function cutOff(seed: number): Promise<Failover> {
  const scenario = new Scenario(seed, 3, { ...timingDefault, detectionMs: 2_000 });
  const victim = (await scenario.begin()).at(-1);
  check(victim !== undefined, 'liveness', 'a chain serves');
  const { network, schedule } = scenario.cluster;
  const both = (change: (from: string, to: string) => void): void => {
    for (const { id } of scenario.cluster.of('coordinator')) {
      change(id, victim.id);
      change(victim.id, id);
    }
  };
  return scenario.watch(victim, () => {
    both((from, to) => network.cut(from, to));
    schedule.after(1_000, () => both((from, to) => network.heal(from, to)));
  });
}

/** All nodes are killed together, and their kernels say so: any of them may have to go on alone (R10). */
export async function killAll(seed: number): Promise<Failover> {
  const scenario = new Scenario(seed, 3);
  const chain = await scenario.begin();
  const [first] = chain;
  check(first !== undefined, 'liveness', 'a chain serves');
  return scenario.watch(first, () => {
    for (const place of chain) scenario.cluster.crash(place, false);
  });
}

/** Where a view is decided in these something is taken for evidence that is none. */
export async function keepsPlaces(seed: number): Promise<void> {
  for (const run of [cutOff, killAll]) {
    const { changes } = await run(seed);
    check(changes === 0, 'availability', `nobody loses its place: ${run.name}`, { changes });
  }
}

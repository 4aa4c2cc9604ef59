import { timingDefault } from '../../src/base/timing.js';
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

/** Three coordinators, nodes and a proxy with default times, under load, on slow and quick disks alike. */
class Scenario {
  readonly cluster: SimCluster;
  readonly #workload: Workload;

  constructor(seed: number, nodes: number) {
    const random = new SeededRandom(seed);
    const timing = timingDefault;
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

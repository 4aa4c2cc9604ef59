import { type PlannedFault, planFaults } from './faults.js';
import { SeededRandom } from './schedule.js';

export type Ending = 'all heal' | 'a core heals' | 'blackout';

/** All that a seed decides beforehand; the rest is chance along the way. */
export interface Plan {
  readonly seed: number;
  readonly coordinators: number;
  readonly nodes: number;
  readonly proxies: number;
  readonly clients: number;
  readonly keys: number;
  /** Mean milliseconds between a client's operations. */
  readonly pauseMs: number;
  readonly warmUpMs: number;
  readonly faultsMs: number;
  readonly faults: readonly PlannedFault[];
  /**
   * After the faults everything is healed; or a random core and nothing else; or a whole chain loses power at
   * once, and any of its members come back.
   */
  readonly ending: Ending;
  /** Seeds of the cluster, of the clients, and of the choice of the core. */
  readonly clusterSeed: number;
  readonly workloadSeed: number;
  readonly coreSeed: number;
  /** How often nodes compare their states; milliseconds. */
  readonly compareMs: number;
}

export function planOf(seed: number, faultsMs: number): Plan {
  const random = new SeededRandom(seed);
  return {
    seed,
    coordinators: random.pick([1, 2, 3, 3, 3, 3, 4, 5]),
    nodes: random.pick([1, 2, 3, 3, 4, 5, 6, 7]),
    proxies: 1 + random.int(3),
    clients: 1 + random.int(6),
    keys: 1 + random.int(6),
    pauseMs: random.between(2, 150),
    warmUpMs: random.between(0, 3_500),
    faultsMs,
    faults: planFaults(random.fork(), faultsMs),
    ending: random.pick(['all heal', 'all heal', 'a core heals', 'a core heals', 'blackout']),
    clusterSeed: random.uint32(),
    workloadSeed: random.uint32(),
    coreSeed: random.uint32(),
    compareMs: random.pick([60_000, 400, 100]),
  };
}

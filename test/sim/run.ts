import { crc32 } from 'node:zlib';
import { assert } from '../../src/base/assert.js';
import { replay } from '../../src/chain/replay.js';
import { emptyRegistry } from '../../src/coordinator/registry.js';
import { applyCommand } from '../../src/coordinator/registry-machine.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { openLog } from '../../src/log/open-log.js';
import { readDurable } from '../../src/raft/vote-record.js';
import { addressOf, type Place, SimCluster } from './cluster.js';
import { injectFaults } from './faults.js';
import { SeededRandom } from './schedule.js';
import { Workload } from './workload.js';

export interface SimResult {
  readonly seed: number;
  readonly events: number;
  readonly operations: number;
  readonly acknowledged: number;
  readonly simulatedMs: number;
  /** Of every transition that was traced. */
  readonly hash: number;
  /** What broke, with the transitions before it. */
  readonly failure?: { readonly error: unknown; readonly trace: readonly string[] };
}

export interface SimOptions {
  readonly faultsMs?: number;
  readonly ignoreSync?: boolean;
}

/** Milliseconds of simulated time within which a healed cluster must serve with every node. */
const healMs = 60_000;
const chunkMs = 50;
/** Milliseconds for which it must stay so: longer than detection and a lease together. */
const wholeMs = 2_500;

/** One seed: a cluster, a workload, faults; then everything heals, and the cluster must converge. */
export async function runSeed(seed: number, options: SimOptions = {}): Promise<SimResult> {
  const random = new SeededRandom(seed);
  const trace: string[] = [];
  let hash = 0;
  const cluster = new SimCluster({
    coordinators: random.pick([1, 3, 3, 3, 5]),
    nodes: 1 + random.int(5),
    proxies: 1 + random.int(2),
    random: random.fork(),
    ignoreSync: options.ignoreSync ?? false,
    trace: (line) => {
      trace.push(line);
      hash = crc32(line, hash);
    },
  });
  const workload = new Workload(cluster, random.fork(), 1 + random.int(6));
  let failure: SimResult['failure'];
  try {
    await simulate(cluster, workload, random, options.faultsMs ?? 10_000);
  } catch (error) {
    cluster.trace(JSON.stringify(situation(cluster)));
    failure = { error, trace };
  }
  return {
    seed,
    events: cluster.schedule.events,
    operations: workload.operations,
    acknowledged: workload.acknowledged,
    simulatedMs: cluster.schedule.now,
    hash,
    ...(failure === undefined ? undefined : { failure }),
  };
}

async function simulate(
  cluster: SimCluster,
  workload: Workload,
  random: SeededRandom,
  faultsMs: number,
): Promise<void> {
  const { schedule } = cluster;
  const run = async (until: number): Promise<void> => {
    await schedule.runUntil(until, () => {
      cluster.ghost.check();
      const failure = cluster.failure ?? workload.failure;
      if (failure !== undefined) throw failure;
    });
  };
  cluster.startAll();
  await run(random.between(0, 2_500));
  workload.start(1 + random.int(5), random.between(2, 150));
  injectFaults(cluster, random.fork(), schedule.now + faultsMs);
  await run(schedule.now + faultsMs);
  // Everything heals: the cluster must come back by itself.
  cluster.network.healAll();
  const wanted = cluster.of('node').map(({ id }) => id);
  const deadline = schedule.now + healMs;
  // Whole for a while: a process that was paused is told late of what happened.
  let wholeSince = schedule.now;
  while (schedule.now - wholeSince < wholeMs) {
    if (!isWhole(cluster, wanted)) wholeSince = schedule.now;
    cluster.network.healAll();
    for (const place of cluster.places) {
      if (cluster.isDown(place)) cluster.start(place);
      if (place.process?.isPaused === true) place.process.resume();
    }
    addMissing(cluster, wanted);
    assert(schedule.now < deadline, 'a healed cluster serves with every node', situation(cluster));
    await run(schedule.now + chunkMs);
  }
  workload.stop();
  while (!workload.isIdle) await run(schedule.now + chunkMs);
  await finished(workload.readAll(wanted), run, schedule.now, cluster);
  await run(schedule.now + 500);
  await finished(compareWithReplay(cluster), run, schedule.now, cluster);
}

/** Runs the schedule until the work is done. */
async function finished(
  work: Promise<void>,
  run: (until: number) => Promise<void>,
  _from: number,
  cluster: SimCluster,
): Promise<void> {
  let done = false;
  let failure: unknown;
  work.then(
    () => {
      done = true;
    },
    (error: unknown) => {
      done = true;
      failure = error;
    },
  );
  const deadline = cluster.schedule.now + healMs;
  while (!done) {
    assert(cluster.schedule.now < deadline, 'the final reads are answered', situation(cluster));
    await run(cluster.schedule.now + chunkMs);
  }
  if (failure !== undefined) throw failure;
}

function isWhole(cluster: SimCluster, wanted: readonly string[]): boolean {
  const view = cluster.ghost.decided;
  if (view === undefined || view.members.length !== wanted.length) return false;
  if (view.members.some((m) => m.state !== MemberState.SERVING)) return false;
  return cluster.of('node').every(({ node }) => node?.state.active?.epoch === view.epoch);
}

/** What an operator removed and didn't add again. */
function addMissing(cluster: SimCluster, wanted: readonly string[]): void {
  const leader = cluster.of('coordinator').find(({ raft }) => raft?.status.isCurrent === true);
  const view = leader?.coordinator?.view;
  if (view === undefined || leader?.coordinator === undefined) return;
  const all = [...view.members, ...view.others];
  for (const id of wanted) {
    if (all.some((m) => m.id === id)) continue;
    leader.coordinator.addMember(id, addressOf(id), 1_000).catch(() => undefined);
  }
}

/** The state of every node, coordinator and Raft member is the fold of its log. */
async function compareWithReplay(cluster: SimCluster): Promise<void> {
  const hashes = new Set<string>();
  for (const place of cluster.of('node')) {
    const { node } = place;
    if (node === undefined) continue;
    const { stateHash, watermark } = await node.inspect(true);
    const log = await copyOfLog(place);
    if (log === undefined || watermark === undefined) continue;
    const replayed = await replay(log, watermark);
    assert(replayed.hash === stateHash, "a node's state is the replay of its log", {
      id: place.id,
      watermark,
    });
    hashes.add(`${watermark.index} ${stateHash}`);
  }
  assert(hashes.size <= 1, 'nodes at the same watermark are equal', { hashes: [...hashes] });
  for (const place of cluster.of('coordinator')) {
    const log = await copyOfLog(place);
    if (log === undefined || place.raft === undefined) continue;
    const durable = await readDurable(log);
    const { state } = place.raft;
    assert(
      durable.term === state.durable.term && durable.vote === state.durable.vote,
      "a member's term and vote are those of its disk",
      { id: place.id },
    );
    let registry = emptyRegistry;
    for (const { entries } of durable.log.between(1, state.applied)) {
      const payload = entries[0]?.payload;
      if (payload !== undefined && payload.byteLength > 0) {
        registry = applyCommand(registry, payload).state;
      }
    }
    assert(
      registry.view.epoch === (place.coordinator?.view?.epoch ?? 0),
      "a coordinator's view is the replay of its log",
      { id: place.id },
    );
  }
}

/** What a process would find if it started now on a copy of the disk. */
async function copyOfLog(place: Place) {
  const copy = place.disk?.copy();
  if (copy === undefined) return undefined;
  const { log, damage } = await openLog({
    engine: copy,
    fatal: (error) => {
      throw error;
    },
  });
  assert(damage === undefined, 'a healthy disk is whole', { id: place.id, damage });
  return log;
}

function situation(cluster: SimCluster): Readonly<Record<string, unknown>> {
  const view = cluster.ghost.decided;
  return {
    view: view && {
      epoch: view.epoch,
      members: view.members.map((m) => `${m.id}:${m.state}`),
      others: view.others.map((m) => `${m.id}:${m.state}`),
    },
    nodes: cluster.of('node').map(({ id, node, process }) => ({
      id,
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
    leaders: cluster.of('coordinator').map(({ raft }) => raft?.status.role),
  };
}

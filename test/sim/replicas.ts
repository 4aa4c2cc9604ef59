import { replay } from '../../src/chain/replay.js';
import { servingOf } from '../../src/chain/views.js';
import { replayEntries } from '../../src/coordinator/replay.js';
import { decodeRegistry } from '../../src/coordinator/snapshot.js';
import { readIdentity } from '../../src/log/data-folder.js';
import type { EventLog } from '../../src/log/event-log.js';
import { HighWater } from '../../src/log/high-water.js';
import { openLog } from '../../src/log/open-log.js';
import { readDurable } from '../../src/raft/durable-record.js';
import { snapshotId } from '../../src/raft/state.js';
import { KeptOutput } from '../../tools/lab/log-io.js';
import { LogFolder } from '../../tools/log/folder.js';
import { verifyFolder } from '../../tools/log/verify.js';
import { check } from './check.js';
import type { Place, SimCluster } from './cluster.js';

/** The state of every live node, coordinator and Raft member is the fold of its log; those that serve are equal. */
export async function compareWithReplay(cluster: SimCluster): Promise<void> {
  const hashes = new Set<string>();
  // Who lost its place a moment ago, with a stream that broke, has what was committed until then.
  const serving = servingOf(cluster.ghost.decided ?? { members: [] }).map(({ id }) => id);
  for (const place of cluster.of('node')) {
    const { node } = place;
    // A rotten object is refused, which is all that may be asked of it.
    if (node === undefined || place.rotten === true) continue;
    const { stateHash, hashedAt: watermark } = await node.inspect(true);
    const log = await copyOfLog(place);
    if (log === undefined || watermark === undefined) continue;
    const replayed = await replay(log, watermark);
    check(replayed.hash === stateHash, 'replay', "a node's state is the replay of its log", {
      id: place.id,
      watermark,
    });
    if (serving.includes(place.id)) hashes.add(`${watermark.index} ${stateHash}`);
  }
  check(hashes.size <= 1, 'replicas', 'nodes that serve are equal', {
    hashes: [...hashes],
  });
  for (const place of cluster.of('coordinator')) await compareCoordinator(place);
  await verifyDisks(cluster);
}

/** `keychaindb log verify` finds nothing in what a process left, however it ended. */
async function verifyDisks(cluster: SimCluster): Promise<void> {
  const places = [...cluster.of('node'), ...cluster.of('coordinator')];
  const left = places.flatMap(({ id, disk, hurt, rotten, lost }) => {
    const isWhole = hurt === undefined && rotten !== true && lost !== true;
    return disk === undefined || !isWhole ? [] : [{ id, disk: disk.copy() }];
  });
  for (const { id, disk } of [...left, ...cluster.remains]) {
    // One that ended before it had said whose it is.
    if ((await readIdentity(disk)) === undefined) continue;
    const folder = await LogFolder.over(id, disk, await HighWater.read(disk));
    const kept = new KeptOutput();
    const flags = { output: 'table', skipDamaged: true } as const;
    const code = await kept.run((io) => verifyFolder(folder, flags, io));
    check(code === 0, 'verify', 'what a process leaves is whole', { id, said: kept.stdout });
  }
}

async function compareCoordinator(place: Place): Promise<void> {
  if (place.raft === undefined) return;
  const log = await copyOfLog(place);
  if (log === undefined) return;
  const durable = await readDurable(log);
  const { state } = place.raft;
  check(
    durable.term === state.durable.term && durable.vote === state.durable.vote,
    'replay',
    "a member's term and vote are those of its disk",
    { id: place.id },
  );
  const { snapshot } = durable;
  const registry = replayEntries(
    durable.log
      .between(snapshotId(snapshot).index + 1, state.applied)
      .flatMap(({ entries }) => entries),
    snapshot === undefined ? undefined : decodeRegistry(snapshot.state),
  );
  check(
    registry.view.epoch === (place.coordinator?.view?.epoch ?? 0),
    'replay',
    "a coordinator's view is the replay of its log",
    { id: place.id },
  );
}

/** What a process would find if it started now on a copy of the disk. */
async function copyOfLog(place: Place): Promise<EventLog | undefined> {
  const copy = place.disk?.copy();
  if (copy === undefined) return undefined;
  const { log, damage } = await openLog({
    engine: copy,
    fatal: (error) => {
      throw error;
    },
  });
  check(damage === undefined, 'replay', 'a healthy disk is whole', { id: place.id, damage });
  return log;
}

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { toHex } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { systemRandom } from '../base/random.js';
import { checkMember } from '../coordinator/member-name.js';
import { replayEntries } from '../coordinator/replay.js';
import { decodeRegistry, encodeRegistry } from '../coordinator/snapshot.js';
import type { SnapshotClusterResponse } from '../gen/keychaindb/v1/coordinator.js';
import { DataFolder, makeFolder, readIdentity, refuseNewer } from '../log/data-folder.js';
import { origin } from '../log/event-log.js';
import { openLog } from '../log/open-log.js';
import { RocksEngine } from '../log/rocks-engine.js';
import { persist, readDurable } from '../raft/durable-record.js';
import { currentGroup, emptyDurable, evolve, snapshotId } from '../raft/state.js';

export interface RestoreFlags {
  readonly from: string;
  readonly dataDir: string;
  readonly id: string;
  readonly listen: string;
  readonly lossy: boolean;
}

/** So that no node has seen a newer view than the restored one, whatever was decided and lost. */
const epochsAhead = 1_000_000;
/** So that no term of the old group comes again. */
const termsAhead = 1_000;

/**
 * Makes the data folder of a coordinator that is a group of its own and knows what a lost group knew. What was
 * decided and isn't in `from` is lost. Returns what to do next.
 */
export async function restoreCluster(
  flags: RestoreFlags,
  readFile: (file: string) => Promise<SnapshotClusterResponse>,
): Promise<string> {
  const { from, dataDir, id, listen } = flags;
  checkMember(id, listen);
  if (!flags.lossy) {
    throw new KeychainError(
      'BAD_REQUEST',
      'what the lost coordinators decided after --from was saved is lost: say --lossy, and only when no old coordinator runs any more',
    );
  }
  const isFolder = (await stat(from).catch(() => undefined))?.isDirectory() === true;
  const { snapshot, clusterId } = isFolder ? await ofFolder(from) : await readFile(from);
  const registry = decodeRegistry(snapshot?.state ?? new Uint8Array());
  const group = snapshot?.group ?? { members: [], removed: [] };
  if (snapshot === undefined || clusterId.byteLength === 0) {
    throw new KeychainError('BAD_REQUEST', `${from} knows of no cluster`);
  }
  const old = group.members.map((m) => m.id);
  if (old.includes(id) || group.removed.includes(id)) {
    throw new KeychainError(
      'MEMBER_REMOVED',
      `${id} was a coordinator before: choose another --id`,
    );
  }
  await refuseFull(dataDir);
  const { view } = registry;
  const epoch = view.epoch + epochsAhead;
  const restored = {
    at: { generation: snapshotId(snapshot).generation, index: snapshotId(snapshot).index },
    time: snapshot.time,
    group: {
      members: [{ id, address: listen, learner: false, seen: true }],
      removed: [...group.removed, ...old],
    },
    state: encodeRegistry({ ...registry, view: { ...view, epoch } }),
  };
  await makeFolder(dataDir);
  const folder = await DataFolder.open({
    dir: dataDir,
    kind: 'coordinator',
    id,
    random: systemRandom,
    openEngine: (dir) => RocksEngine.open(dir),
  });
  await folder.bindCluster(clusterId);
  const { log } = await openLog({ engine: folder.engine, fatal: rethrow });
  const durable = emptyDurable();
  const term = restored.at.generation + termsAhead;
  for (const event of [
    { type: 'TermVoted', term, vote: '' },
    { type: 'SnapshotInstalled', snapshot: restored },
  ] as const) {
    evolve(durable, event);
    persist(log, event, durable);
  }
  await log.close();
  return `${id} knows cluster ${toHex(clusterId)} as of entry ${restored.at.index}, at epoch ${epoch}. Start it: keychaindb coordinator --id ${id} --listen ${listen} --initial-cluster ${id}=${listen} --data-dir ${dataDir} …; then point nodes and proxies at it, and add more coordinators with --join`;
}

function rethrow(error: unknown): never {
  throw error;
}

/** What a coordinator that is left knows, committed or not: it may have been. */
async function ofFolder(dir: string): Promise<SnapshotClusterResponse> {
  const hasStore = await stat(join(dir, 'store', 'CURRENT')).catch(() => undefined);
  if (hasStore === undefined) throw foreign(dir, 'it has no store');
  const engine = await RocksEngine.open(dir, { readOnly: true });
  try {
    const identity = await readIdentity(engine);
    if (identity === undefined) throw foreign(dir, 'its store holds no identity');
    refuseNewer(identity, dir);
    if (identity.kind !== 'coordinator') {
      throw foreign(dir, `it was written by ${identity.kind} ${identity.id}`);
    }
    const { log, damage } = await openLog({ engine, fatal: rethrow });
    if (damage !== undefined) {
      throw new KeychainError('CORRUPT', `the log in ${dir} is damaged: ${damage.message}`);
    }
    const durable = await readDurable(log);
    const { snapshot } = durable;
    const from = snapshot === undefined ? undefined : decodeRegistry(snapshot.state);
    const blocks = durable.log.between(snapshotId(snapshot).index + 1, durable.log.last.index);
    const registry = replayEntries(
      blocks.flatMap(({ entries }) => entries),
      from,
    );
    const { group } = currentGroup(durable);
    const at = durable.log.last.index === 0 ? origin : durable.log.last;
    const state = encodeRegistry(registry);
    return { snapshot: { at, time: 0, group, state }, clusterId: registry.clusterId };
  } finally {
    await engine.close();
  }
}

function foreign(dir: string, why: string): KeychainError {
  const message = `--from: ${dir} is not the data folder of a coordinator: ${why}`;
  return new KeychainError('BAD_REQUEST', message, { dir });
}

async function refuseFull(dir: string): Promise<void> {
  const files = await readdir(dir).catch(() => []);
  if (files.length === 0) return;
  throw new KeychainError('BAD_REQUEST', `${dir} is not empty: nothing in it was changed`);
}

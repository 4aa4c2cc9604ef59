import { ChannelCredentials } from '@grpc/grpc-js';
import { replay } from '../../src/chain/replay.js';
import { emptyRegistry } from '../../src/coordinator/registry.js';
import { applyCommand } from '../../src/coordinator/registry-machine.js';
import { ChainClient, type InspectResponse } from '../../src/gen/keychaindb/v1/chain.js';
import type { EventLog } from '../../src/log/event-log.js';
import { openLog } from '../../src/log/open-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { readDurable } from '../../src/raft/vote-record.js';
import type { Lab } from './cluster.js';

/** Where a node is, asked at its own address. */
export function inspectNode(address: string, hash: boolean): Promise<InspectResponse> {
  const client = new ChainClient(address, ChannelCredentials.createInsecure());
  return new Promise<InspectResponse>((resolve, reject) => {
    client.inspect({ hash }, (error, response) => {
      if (error === null) resolve(response);
      else reject(error);
    });
  }).finally(() => client.close());
}

/**
 * Differences between what the live processes say of their state and the fold of their logs, read from the
 * folders beside them; none where all is well. The cluster must be quiet.
 */
export async function differencesFromReplay(lab: Lab): Promise<readonly string[]> {
  const wrong: string[] = [];
  const view = await lab.until('a view', () => true);
  await coordinatorsAgree(lab);
  for (const member of view.members) {
    const { grpc, dataDir } = lab.named(member.id);
    const { stateHash, watermark } = await inspectNode(grpc, true);
    if (watermark === undefined) continue;
    const { hash } = await onLog(dataDir, (log) => replay(log, watermark));
    if (hash !== stateHash) wrong.push(`${member.id}: state ${stateHash}, replay ${hash}`);
  }
  for (const { id, grpc, dataDir } of lab.of('coordinator')) {
    const client = lab.client({ endpoints: [grpc], timeoutMs: 2_000 });
    const [shown, status] = await Promise.all([client.members(), client.status()]);
    const replayed = await onLog(dataDir, async (log) => {
      const durable = await readDurable(log);
      let registry = emptyRegistry;
      for (const { entries } of durable.log.between(1, durable.log.last.index)) {
        const payload = entries[0]?.payload;
        if (payload !== undefined && payload.byteLength > 0) {
          registry = applyCommand(registry, payload).state;
        }
      }
      return { epoch: registry.view.epoch, term: durable.term };
    });
    if (replayed.epoch !== shown.epoch) {
      wrong.push(`${id}: epoch ${shown.epoch}, replay ${replayed.epoch}`);
    }
    if (replayed.term !== status.term) {
      wrong.push(`${id}: term ${status.term}, replay ${replayed.term}`);
    }
  }
  return wrong;
}

/** One that has just started knows its log before it knows what of it is committed. */
async function coordinatorsAgree(lab: Lab): Promise<void> {
  const clients = lab
    .of('coordinator')
    .map(({ grpc }) => lab.client({ endpoints: [grpc], timeoutMs: 2_000 }));
  await lab.until('every coordinator shows the same', async () => {
    const shown = await Promise.all(
      clients.map(async (client) => {
        const [{ epoch }, { term, leader }] = await Promise.all([
          client.members(),
          client.status(),
        ]);
        return `${epoch} ${term} ${leader}`;
      }),
    );
    return new Set(shown).size === 1;
  });
}

/** Reads a log beside the process that writes it. */
async function onLog<T>(dataDir: string, work: (log: EventLog) => Promise<T>): Promise<T> {
  const engine = await RocksEngine.open(dataDir, { readOnly: true });
  try {
    const { log, damage } = await openLog({
      engine,
      fatal: (error) => {
        throw error;
      },
    });
    if (damage !== undefined) throw new Error(`${dataDir}: ${damage.message}`);
    return await work(log);
  } finally {
    await engine.close();
  }
}

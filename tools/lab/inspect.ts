import { ChannelCredentials } from '@grpc/grpc-js';
import { replayEntries } from '../../src/coordinator/replay.js';
import { ChainClient, type InspectResponse } from '../../src/gen/keychaindb/v1/chain.js';
import type { Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { readVote } from '../../src/raft/durable-record.js';
import { diff } from '../log/diff.js';
import { LogFolder } from '../log/folder.js';
import { replay } from '../log/replay.js';
import type { LogIo } from '../log/verb.js';
import { verify } from '../log/verify.js';
import type { Lab } from './cluster.js';
import { KeptOutput } from './log-io.js';

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
 * Differences between what the live processes say of their state and what their folders say, as the log tools
 * find them beside the running processes; none where all is well. The coordinators must be quiet.
 */
export async function differencesFromReplay(lab: Lab): Promise<readonly string[]> {
  const wrong: string[] = [];
  const look = async (what: string, verb: (io: LogIo) => Promise<number>): Promise<void> => {
    const kept = new KeptOutput();
    const code = await kept.run(verb);
    if (code !== 0) wrong.push(`${what}: ${[kept.stdout, ...kept.stderr].join('\n')}`);
  };
  const output = 'table';
  const view = await lab.until('a view', () => true);
  await coordinatorsAgree(lab);
  const folders = view.members.map(({ id }) => lab.named(id));
  for (const { id, grpc, dataDir } of folders) {
    await look(`log verify ${id}`, (io) => verify(dataDir, { output, skipDamaged: true }, io));
    const flags = { step: false, state: false, live: grpc, output } as const;
    await look(`log replay ${id}`, (io) => replay(dataDir, flags, io));
  }
  for (const [i, { id, dataDir }] of folders.slice(1).entries()) {
    const before = folders[i]?.dataDir ?? '';
    await look(`log diff ${id}`, (io) => diff([before, dataDir], { output }, io));
  }
  for (const { id, grpc, dataDir } of lab.of('coordinator')) {
    await look(`log verify ${id}`, (io) => verify(dataDir, { output, skipDamaged: true }, io));
    const client = lab.client({ endpoints: [grpc], timeoutMs: 2_000 });
    const [shown, status] = await Promise.all([client.members(), client.status()]);
    const replayed = await coordinatorFolder(dataDir);
    if (replayed.epoch !== shown.epoch) {
      wrong.push(`${id}: epoch ${shown.epoch}, replay ${replayed.epoch}`);
    }
    if (replayed.term !== status.term) {
      wrong.push(`${id}: term ${status.term}, replay ${replayed.term}`);
    }
  }
  return wrong;
}

/** Epoch and term by a coordinator's folder. */
async function coordinatorFolder(
  dataDir: string,
): Promise<{ readonly epoch: number; readonly term: number }> {
  const folder = await LogFolder.open(dataDir);
  try {
    const entries: Envelope[] = [];
    for await (const block of folder.blocks()) entries.push(...block.entries);
    const { term } = await readVote((key) => folder.get(key));
    return { epoch: replayEntries(entries).view.epoch, term };
  } finally {
    await folder.close();
  }
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

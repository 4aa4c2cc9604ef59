import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { systemClock } from '../base/clock.js';
import type { CoordinatorStatus } from '../gen/keychaindb/v1/coordinator.js';
import { statusJson } from '../proxy/json.js';
import { type ClusterVerbs, clusterVerbs as connectTo } from '../retry/cluster-verbs.js';
import { client, verb } from './client-command.js';
import { decodeSnapshot, encodeSnapshot, saveNew } from './cluster-snapshot.js';
import { exitCodes } from './exit-codes.js';
import { flag, hostPort, processId } from './options.js';
import { failed, say } from './process.js';
import type { RestoreFlags } from './restore.js';
import { table } from './table.js';
import type { ClientFlags } from './verbs.js';

/* `keychaindb cluster …`: the coordinators themselves. */

export function cluster(): Command {
  const command = new Command('cluster').description('the coordinators');
  command.addCommand(client('members', 'print them, and how far each is').action(verb(members)));
  command.addCommand(
    client('add', 'take in a coordinator that was started with --join, or will be')
      .argument('<id>')
      .argument('<address>')
      .action(verb(add)),
  );
  command.addCommand(
    client('remove', 'remove a coordinator; its id is never used again')
      .argument('<id>')
      .action(verb(remove)),
  );
  command.addCommand(
    client('transfer', 'hand leadership over')
      .argument('[id]', 'to this coordinator; without it to the one with the longest log')
      .action(verb(transfer)),
  );
  command.addCommand(
    client('snapshot', 'save what the coordinators know of the chain')
      .argument('<file>', 'must not exist')
      .action(verb(snapshot)),
  );
  command.addCommand(restore());
  return command;
}

async function withVerbs(
  { endpoints }: ClientFlags,
  work: (verbs: ClusterVerbs) => Promise<number>,
): Promise<number> {
  const verbs = connectTo({ addresses: endpoints, clock: systemClock });
  try {
    return await work(verbs);
  } catch (error) {
    return failed(error);
  } finally {
    verbs.close();
  }
}

function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

function members(flags: ClientFlags): Promise<number> {
  return withVerbs(flags, async (verbs) => {
    const status = await verbs.status(flags.timeout);
    print(flags.output === 'json' ? statusJson(status) : coordinatorsTable(status.coordinators));
    return exitCodes.ok;
  });
}

export function coordinatorsTable(coordinators: readonly CoordinatorStatus[]): string {
  const rows = coordinators.map((c) => {
    const state = c.answered ? (c.learner ? 'learner' : c.role) : 'does not answer';
    const figures = [c.term, c.commit, c.applied, c.lag, c.first, c.snapshot].map(String);
    return [c.id, c.address, state, ...(c.answered ? [...figures, c.version] : [])];
  });
  const header = ['COORDINATOR', 'ADDRESS', 'STATE', 'TERM', 'COMMIT', 'APPLIED', 'LAG'];
  return table([...header, 'FIRST', 'SNAPSHOT', 'VERSION'], rows);
}

function add(id: string, address: string, flags: ClientFlags): Promise<number> {
  return withVerbs(flags, async (verbs) => {
    await verbs.joinCluster(id, address, flags.timeout);
    if (flags.output === 'json') print('{}');
    else say(`${id} was added: it gets its vote when it has caught up`);
    return exitCodes.ok;
  });
}

function remove(id: string, flags: ClientFlags): Promise<number> {
  return withVerbs(flags, async (verbs) => {
    await verbs.removeFromCluster(id, flags.timeout);
    if (flags.output === 'json') print('{}');
    else say(`${id} was removed`);
    return exitCodes.ok;
  });
}

function transfer(id: string | undefined, flags: ClientFlags): Promise<number> {
  return withVerbs(flags, async (verbs) => {
    const leader = await verbs.transferLeadership(id ?? '', flags.timeout);
    print(flags.output === 'json' ? JSON.stringify({ leader }) : `${leader} leads`);
    return exitCodes.ok;
  });
}

function snapshot(file: string, flags: ClientFlags): Promise<number> {
  return withVerbs(flags, async (verbs) => {
    const bytes = encodeSnapshot(await verbs.snapshotCluster(flags.timeout));
    await saveNew(file, bytes);
    if (flags.output === 'json') print(JSON.stringify({ file, bytes: bytes.byteLength }));
    else say(`${file}: ${bytes.byteLength} bytes`);
    return exitCodes.ok;
  });
}

function restore(): Command {
  return new Command('restore')
    .description(
      'begin a new group of coordinators when a majority of the old one is lost for ever',
    )
    .addOption(
      flag(
        '--from <file|dir>',
        'a saved file, or the data folder of a coordinator that is left',
      ).makeOptionMandatory(),
    )
    .addOption(
      flag(
        '--data-dir <dir>',
        'folder of the first new coordinator; must be empty',
      ).makeOptionMandatory(),
    )
    .addOption(
      flag('--id <id>', 'its id: one that no coordinator ever had')
        .argParser(processId)
        .makeOptionMandatory(),
    )
    .addOption(
      flag('--listen <host:port>', 'where it will listen')
        .argParser(hostPort)
        .makeOptionMandatory(),
    )
    .addOption(
      flag(
        '--lossy',
        'changes of the chain that are not in --from are lost, and no old coordinator runs',
      ).default(false),
    )
    .action(async (flags: RestoreFlags) => {
      try {
        const { restoreCluster } = await import('./restore.js');
        say(
          await restoreCluster(flags, async (file) => decodeSnapshot(await readFile(file), file)),
        );
      } catch (error) {
        process.exitCode = failed(error);
      }
    });
}

import { Argument, Command, CommanderError } from 'commander';
import { keptEntriesDefault, snapshotEntriesDefault } from '../raft/limits.js';
import { logLevels } from '../telemetry/log-levels.js';
import { check } from './check-perf.js';
import { client, verb } from './client-command.js';
import { cluster } from './cluster-verbs.js';
import { completion, type ShellName, shellNames } from './completion.js';
import { applyConfigFile } from './config-file.js';
import type { CoordinatorFlags } from './coordinator.js';
import type { DemoFlags } from './demo.js';
import { exitCodes } from './exit-codes.js';
import { log } from './log-verbs.js';
import type { NodeFlags } from './node.js';
import {
  addCacheFlags,
  addCompactionFlags,
  addCompareFlags,
  addLimitFlags,
  addTimingFlags,
  addWorkersFlag,
  flag,
  hostPort,
  hostPorts,
  initialCluster,
  processId,
  wholeNumber,
} from './options.js';
import { failed } from './process.js';
import type { ProxyFlags } from './proxy.js';
import { status, wait, waits } from './status.js';
import { addTelemetryFlags } from './telemetry-flags.js';
import * as verbs from './verbs.js';
import { version } from './version.js';

/** Parses the arguments and runs a verb; sets the exit code (docs/names.md). */
export async function run(argv: readonly string[]): Promise<void> {
  try {
    const root = program();
    applyConfigFile(root, argv.slice(2));
    await root.parseAsync([...argv]);
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    } else {
      // A role that failed half-way has timers and stores open: nothing is waited for.
      process.exit(failed(error));
    }
  }
}

/** Every verb there is. */
export function program(): Command {
  const root = new Command('keychaindb')
    .description('A strongly consistent, fault-tolerant key-value store: chain replication (CRAQ).')
    .showSuggestionAfterError()
    .showHelpAfterError('(--help shows what there is)')
    .exitOverride();
  for (const command of [coordinator(), node(), proxy(), demo()]) root.addCommand(command);
  root.addCommand(get());
  root.addCommand(put());
  root.addCommand(del());
  root.addCommand(
    client('status', 'the chain, the coordinators, what is wrong and what mends it')
      .addOption(flag('--watch', 'look again every second').default(false))
      .action(verb(status)),
  );
  root.addCommand(
    client('wait', 'until the cluster is as wanted, or --timeout is over')
      .addOption(
        flag('--for <state>', 'leader, serving (a node), or healthy')
          .choices(waits)
          .default('healthy'),
      )
      .action(verb(wait)),
  );
  root.addCommand(chain());
  root.addCommand(cluster());
  root.addCommand(trace());
  root.addCommand(logLevel());
  root.addCommand(log());
  root.addCommand(check());
  root
    .command('version')
    .description('print the version')
    .action(() => {
      process.stdout.write(`${version()}\n`);
    });
  root
    .command('completion')
    .description('print what teaches a shell the verbs and flags')
    .addArgument(new Argument('<shell>').choices(shellNames))
    .action((shell: ShellName) => {
      process.stdout.write(completion(root, shell));
    });
  inherit(root);
  return root;
}

/** Subcommands made apart don't inherit how errors are handled. */
function inherit(parent: Command): void {
  for (const command of parent.commands) {
    command.copyInheritedSettings(parent);
    const isRun = command.commands.length === 0 && command.options.length > 0;
    if (isRun) command.addOption(flag('--config <file>', 'JSON that gives flags their values'));
    inherit(command);
  }
}

function role(name: string, description: string, http: string): Command {
  return new Command(name)
    .description(description)
    .addOption(
      flag('--id <id>', 'name of this process, unique in the cluster')
        .argParser(processId)
        .makeOptionMandatory(),
    )
    .addOption(
      flag('--listen <host:port>', 'where it serves gRPC')
        .argParser(hostPort)
        .makeOptionMandatory(),
    )
    .addOption(flag('--http <host:port>', http).argParser(hostPort).makeOptionMandatory());
}

function coordinator(): Command {
  const command = role('coordinator', 'run a coordinator', 'where it answers /livez and /readyz')
    .addOption(flag('--data-dir <dir>', 'its folder').makeOptionMandatory())
    .addOption(
      flag(
        '--initial-cluster <id=host:port,…>',
        'the first coordinators, this one included',
      ).argParser(initialCluster),
    )
    .addOption(
      flag(
        '--join <host:port,…>',
        'coordinators or proxies of a cluster that takes it in',
      ).argParser(hostPorts),
    )
    .addOption(
      flag('--advertise <host:port>', 'where others reach it, if not at --listen').argParser(
        hostPort,
      ),
    )
    .addOption(
      flag(
        '--snapshot-entries <count>',
        'entries of its log after which a snapshot stands for them',
      )
        .argParser(wholeNumber(1, 1_000_000))
        .default(snapshotEntriesDefault),
    )
    .addOption(
      flag('--kept-entries <count>', 'entries that stay in the log behind a snapshot')
        .argParser(wholeNumber(0, 1_000_000))
        .default(keptEntriesDefault),
    );
  return addTelemetryFlags(addTimingFlags(command)).action(async (flags: CoordinatorFlags) => {
    const { runCoordinator } = await import('./coordinator.js');
    await runCoordinator(flags);
    process.exit(exitCodes.ok);
  });
}

function coordinatorsFlag(command: Command): Command {
  return command.addOption(
    flag('--coordinators <host:port,…>', 'every coordinator')
      .argParser(hostPorts)
      .makeOptionMandatory(),
  );
}

function node(): Command {
  const command = role('node', 'run a chain node', 'where it answers /livez and /readyz')
    .addOption(flag('--data-dir <dir>', 'its folder').makeOptionMandatory())
    .addOption(
      flag('--advertise <host:port>', 'where others reach it, if not at --listen').argParser(
        hostPort,
      ),
    )
    .addOption(
      flag('--join', 'ask to be a member; else it waits until `chain add` names it').default(false),
    );
  addCompareFlags(addTimingFlags(coordinatorsFlag(command)));
  const withLimits = addCacheFlags(addLimitFlags(command));
  return addTelemetryFlags(addCompactionFlags(withLimits)).action(async (flags: NodeFlags) => {
    const { runNode } = await import('./node.js');
    await runNode(flags);
    process.exit(exitCodes.ok);
  });
}

function proxy(): Command {
  const command = role('proxy', 'run a proxy', 'where it serves HTTP JSON');
  coordinatorsFlag(addWorkersFlag(command));
  return addTelemetryFlags(addLimitFlags(addTimingFlags(command))).action(
    async (flags: ProxyFlags) => {
      if (flags.workers > 1) {
        const { runWorkers } = await import('./workers.js');
        process.exit(await runWorkers(flags));
      }
      const { runProxy } = await import('./proxy.js');
      await runProxy(flags);
      process.exit(exitCodes.ok);
    },
  );
}

function demo(): Command {
  const port = wholeNumber(0, 65_535);
  const command = new Command('demo')
    .description('run a whole cluster on this machine')
    .addOption(
      flag('--coordinators <count>', 'coordinators').argParser(wholeNumber(1, 7)).default(3),
    )
    .addOption(flag('--nodes <count>', 'chain nodes').argParser(wholeNumber(1, 16)).default(3))
    .addOption(flag('--proxies <count>', 'proxies').argParser(wholeNumber(1, 8)).default(1))
    .addOption(flag('--data-dir <dir>', 'where the folders stand').default('keychaindb-data'))
    .addOption(
      flag('--http-port <port>', 'HTTP of the first proxy; 0: any free one')
        .argParser(port)
        .default(7480),
    )
    .addOption(
      flag('--grpc-port <port>', 'gRPC of the first proxy; 0: any free one')
        .argParser(port)
        .default(7400),
    )
    .addOption(
      flag('--base-port <port>', 'first port of the others; 0: any free ones')
        .argParser(port)
        .default(7100),
    )
    .addOption(
      flag(
        '--jaeger',
        'run the jaeger of JAEGER_BIN or the PATH, and show the way of a write',
      ).default(false),
    )
    .addOption(flag('--json', 'print cluster.json as one line when ready').default(false));
  const withLimits = addCacheFlags(addLimitFlags(addTimingFlags(addWorkersFlag(command))));
  return addTelemetryFlags(addCompactionFlags(withLimits)).action(async (flags: DemoFlags) => {
    const { runDemo } = await import('./demo.js');
    await runDemo(flags);
    process.exit(exitCodes.ok);
  });
}

function get(): Command {
  return client('get', 'print the value of a key')
    .argument('<key>')
    .addOption(flag('--node <id>', 'ask this node'))
    .action(verb(verbs.get));
}

function put(): Command {
  return client('put', 'store a value; - reads it from stdin')
    .argument('<key>')
    .argument('<value>')
    .addOption(flag('--trace', 'draw the way of this write through the cluster').default(false))
    .action(verb(verbs.put));
}

function del(): Command {
  return client('del', 'delete a key').argument('<key>').action(verb(verbs.del));
}

function trace(): Command {
  return client('trace', 'draw a trace that the processes still remember')
    .argument('<id>', 'of a trace: 32 hexadecimal digits; or the revision of a write')
    .addOption(flag('--attributes', 'show what the spans say').default(false))
    .action(verb(verbs.trace));
}

function logLevel(): Command {
  return client('log-level', 'change what a process logs, while it runs')
    .argument('<level>', logLevels.join(', '))
    .addOption(flag('--process <id>', 'of this process; without it the proxy that answers'))
    .action(verb(verbs.logLevel));
}

function chain(): Command {
  const command = new Command('chain').description('the members of the chain');
  command.addCommand(client('members', 'print them, head to tail').action(verb(verbs.members)));
  command.addCommand(
    change('add', 'add a node')
      .argument('<id>')
      .argument('<address>')
      .addOption(flag('--spare', 'it waits until the chain is too short').default(false))
      .action(verb(verbs.add)),
  );
  command.addCommand(change('remove', 'remove a node').argument('<id>').action(verb(verbs.remove)));
  command.addCommand(
    change('drain', 'take a node out until it is restarted, or added again')
      .argument('<id>')
      .action(verb(verbs.drain)),
  );
  command.addCommand(
    change('recover', 'lossy: go on with what one waiting node has, as no serving one comes back')
      .argument('<id>')
      .addOption(
        flag('--lose <id,…>', 'every serving node that is given up').argParser((text: string) =>
          text.split(',').filter((id) => id !== ''),
        ),
      )
      .action(verb(verbs.recover)),
  );
  command.addCommand(
    change('length', 'fill the chain up to so many nodes with spares; 0: spares wait')
      .argument('<count>', 'of nodes', wholeNumber(0, 64))
      .action(verb(verbs.length)),
  );
  command.addCommand(
    change('reorder', 'give the serving nodes another order, head to tail')
      .argument('<ids...>')
      .action(verb(verbs.reorder)),
  );
  return command;
}

/** A change of the chain. */
function change(name: string, description: string): Command {
  return client(name, description).addOption(
    flag('--expected-epoch <epoch>', 'only where the chain is in this epoch').argParser(
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    ),
  );
}

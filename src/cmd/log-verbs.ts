import { Command, InvalidArgumentError } from 'commander';
import type { BisectFlags } from '../../tools/log/bisect.js';
import type { DiffFlags } from '../../tools/log/diff.js';
import type { DumpFlags } from '../../tools/log/dump.js';
import type { ExportFlags } from '../../tools/log/export.js';
import type { FilterFlags } from '../../tools/log/filter.js';
import type { HistoryFlags } from '../../tools/log/history.js';
import type { ReplayFlags } from '../../tools/log/replay.js';
import type { VerifyFlags } from '../../tools/log/verify.js';
import { fromHex } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { fromBase64 } from '../proxy/json.js';
import { parseTraceId } from '../telemetry/trace-context.js';
import { duration, flag, hostPort, wholeNumber } from './options.js';

/* `keychaindb log …`: what it does stands in tools/log/, and is loaded when it is asked for. */

const entryNumber = wholeNumber(0, Number.MAX_SAFE_INTEGER);

/** Keys are bytes; on a command line they are text, or base64 where `--base64` says so. */
interface KeyFlags {
  readonly key?: string;
  readonly prefix?: string;
  readonly base64: boolean;
}

type Keyed<Flags> = Omit<Flags, 'key' | 'prefix'> & KeyFlags;

export function log(): Command {
  const command = new Command('log').description(
    'read, check and replay the log in a data folder, also beside the process that runs on it',
  );
  for (const verb of [dump(), verify(), replay(), diff(), bisect(), history(), exportVerb()]) {
    command.addCommand(verb);
  }
  return command;
}

function verb(name: string, description: string): Command {
  return new Command(name).description(description);
}

function onFolder(name: string, description: string): Command {
  return verb(name, description).argument('<dir>', 'data folder of a node or a coordinator');
}

function outputFlag(command: Command): Command {
  return command.addOption(
    flag('-o, --output <format>', 'table or json').choices(['table', 'json']).default('table'),
  );
}

function skipFlag(command: Command, description: string): Command {
  return command.addOption(flag('--skip-damaged', description).default(false));
}

function keyFlags(command: Command): Command {
  return command
    .addOption(flag('--key <key>', "of this key; in a coordinator's log: member"))
    .addOption(flag('--prefix <prefix>', 'of keys that begin so'))
    .addOption(flag('--base64', 'keys are given in base64').default(false));
}

function filterFlags(command: Command): Command {
  return command
    .addOption(
      flag('--from <entry>', 'from this revision, or log index, on').argParser(entryNumber),
    )
    .addOption(flag('--until <entry>', 'through this one').argParser(entryNumber))
    .addOption(flag('--epoch <epoch>', 'of this epoch').argParser(entryNumber))
    .addOption(flag('--term <term>', 'of this term').argParser(entryNumber))
    .addOption(
      flag('--request <client[:seq]>', 'of this client, or request of it').argParser(request),
    )
    .addOption(flag('--trace <id>', 'of this trace').argParser(traceId))
    .addOption(
      flag('--since <time>', 'at or after: 2026-11-23T10:00:00Z, or 10m ago').argParser(time),
    )
    .addOption(flag('--before <time>', 'before').argParser(time));
}

/** Commander's flags, with the keys as bytes. */
function withKeys<Flags extends object>(flags: Keyed<Flags>): Flags {
  const { key, prefix, base64, ...rest } = flags;
  const bytes = (text: string): Uint8Array => {
    const decoded = base64 ? fromBase64(text) : new TextEncoder().encode(text);
    if (decoded === undefined) {
      throw new KeychainError('BAD_REQUEST', `"${text}" is not base64`, { field: '--base64' });
    }
    return decoded;
  };
  return {
    ...rest,
    ...(key === undefined ? {} : { key: bytes(key) }),
    ...(prefix === undefined ? {} : { prefix: bytes(prefix) }),
  } as unknown as Flags;
}

function dump(): Command {
  const command = onFolder('dump', 'print the entries of a log')
    .addOption(
      flag('--type <type,…>', 'of these types: put, delete, …').argParser((text) =>
        text.split(','),
      ),
    )
    .addOption(flag('--follow', 'go on with what is added').default(false));
  skipFlag(outputFlag(filterFlags(keyFlags(command))), 'go on after damaged records');
  return command.action(async (dir: string, flags: Keyed<DumpFlags>) => {
    const wanted = withKeys<DumpFlags>(flags);
    const { runVerb } = await import('../../tools/log/verb.js');
    const tool = await import('../../tools/log/dump.js');
    await runVerb((io) => tool.dump(dir, wanted, io));
  });
}

function verify(): Command {
  const command = onFolder('verify', 'check a whole folder against itself');
  skipFlag(outputFlag(command), 'show every fault, not only the first');
  return command.action(async (dir: string, flags: VerifyFlags) => {
    const { runVerb } = await import('../../tools/log/verb.js');
    const tool = await import('../../tools/log/verify.js');
    await runVerb((io) => tool.verify(dir, flags, io));
  });
}

function replay(): Command {
  const command = onFolder('replay', 'rebuild the state at an entry, and show its hash')
    .addOption(
      flag(
        '--until <entry>',
        'through this revision, or log index; else all that is committed',
      ).argParser(entryNumber),
    )
    .addOption(flag('--step', 'show the state before and after each entry').default(false))
    .addOption(flag('--state', 'print the whole state as JSON').default(false))
    .addOption(
      flag(
        '--live <host:port>',
        'at the revision of this running node; compare the hashes',
      ).argParser(hostPort),
    );
  outputFlag(keyFlags(command));
  return command.action(async (dir: string, flags: Keyed<ReplayFlags>) => {
    const wanted = withKeys<ReplayFlags>(flags);
    const { runVerb } = await import('../../tools/log/verb.js');
    const tool = await import('../../tools/log/replay.js');
    await runVerb((io) => tool.replay(dir, wanted, io));
  });
}

function diff(): Command {
  const command = onFolder('diff', "compare two nodes', or two coordinators', logs and states");
  outputFlag(command.argument('<other-dir>', 'data folder of the other one'));
  return command.action(async (dir: string, other: string, flags: DiffFlags) => {
    const { runVerb } = await import('../../tools/log/verb.js');
    const tool = await import('../../tools/log/diff.js');
    await runVerb((io) => tool.diff([dir, other], flags, io));
  });
}

function bisect(): Command {
  const command = onFolder('bisect', 'find the first entry after which a command fails')
    .addOption(
      flag(
        '--check <command>',
        'for the shell; the state comes as JSON on stdin',
      ).makeOptionMandatory(),
    )
    .addOption(flag('--from <entry>', 'after which it passes').argParser(entryNumber).default(0))
    .addOption(
      flag('--until <entry>', 'after which it fails; else all that is committed').argParser(
        entryNumber,
      ),
    )
    .addOption(
      flag('--check-timeout <time>', 'how long one check may take')
        .argParser(duration)
        .default(30_000, '30s'),
    );
  outputFlag(keyFlags(command));
  return command.action(async (dir: string, flags: Keyed<BisectFlags>) => {
    const wanted = withKeys<BisectFlags>(flags);
    const { runVerb } = await import('../../tools/log/verb.js');
    const tool = await import('../../tools/log/bisect.js');
    await runVerb((io) => tool.bisect(dir, wanted, io));
  });
}

function history(): Command {
  const command = onFolder('history', 'every write to a key, or change of a member')
    .argument('<key>')
    .addOption(flag('--base64', 'the key is given in base64').default(false));
  skipFlag(outputFlag(filterFlags(command)), 'go on after damaged records');
  return command.action(
    async (dir: string, key: string, flags: FilterFlags & { readonly base64: boolean }) => {
      const wanted = withKeys<HistoryFlags>({ ...flags, key } as unknown as Keyed<HistoryFlags>);
      const { runVerb } = await import('../../tools/log/verb.js');
      const tool = await import('../../tools/log/history.js');
      await runVerb((io) => tool.history(dir, wanted, io));
    },
  );
}

function exportVerb(): Command {
  const command = verb('export', 'the trace of a past write, of the folders of nodes')
    .argument('<dir...>', 'data folders of nodes that it passed')
    .addOption(flag('--trace <id>', '32 hexadecimal digits').argParser(traceId))
    .addOption(flag('--revision <revision>', 'of the write').argParser(entryNumber))
    .addOption(
      flag('--format <format>', "OTLP's JSON, or a file for Jaeger's page")
        .choices(['otlp', 'jaeger'])
        .default('otlp'),
    )
    .addOption(
      flag('--trace-content <bytes>', 'bytes of keys and values that are shown; 0: neither')
        .argParser(wholeNumber(0, 4_096))
        .default(0),
    );
  return command.action(async (dirs: readonly string[], flags: ExportFlags) => {
    const { runVerb } = await import('../../tools/log/verb.js');
    const tool = await import('../../tools/log/export.js');
    await runVerb((io) => tool.exportTrace(dirs, flags, io));
  });
}

function traceId(text: string): string {
  const id = parseTraceId(text);
  if (id === undefined) throw new InvalidArgumentError('32 hexadecimal digits are wanted.');
  return id;
}

/** `<client id in hex>[:<seq>]` */
function request(text: string): FilterFlags['request'] {
  const [clientId = '', seq] = text.split(':');
  const number = seq === undefined ? undefined : Number(seq);
  const isClient = clientId.length === 32 && fromHex(clientId) !== undefined;
  if (!isClient || (number !== undefined && !Number.isSafeInteger(number))) {
    throw new InvalidArgumentError('CLIENT[:SEQ] is wanted, a client has 32 hexadecimal digits.');
  }
  return { clientId: clientId.toLowerCase(), seq: number };
}

/** A moment, or how long ago. */
function time(text: string): number {
  const ago = /^(\d+)(s|m|h|d)$/.exec(text);
  if (ago !== null) {
    const unit = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[ago[2] ?? 's'] ?? 1_000;
    return Date.now() - Number(ago[1]) * unit;
  }
  const moment = Date.parse(text);
  if (Number.isNaN(moment)) {
    throw new InvalidArgumentError('2026-11-23T10:00:00Z, or 30s, 10m, 2h, 1d (ago) is wanted.');
  }
  return moment;
}

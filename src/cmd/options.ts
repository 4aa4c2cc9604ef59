import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  keyBytesMaxDefault,
  objectCacheBytesDefault,
  valueBytesMaxDefault,
} from '../base/limits.js';
import { type Timing, timingDefault } from '../base/timing.js';
import type { CompactionOptions } from '../chain/compaction.js';
import { type ComparePace, comparePaceDefault } from '../chain/comparison.js';
import { compactionShareDefault, logBoundsDefault } from '../chain/limits.js';
import { wrongId } from '../coordinator/member-name.js';
import type { OperationLimits } from '../wire/validate.js';

/** An option with its environment variable: KEYCHAINDB_<FLAG>. */
export function flag(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.env(`KEYCHAINDB_${option.name().toUpperCase().replaceAll('-', '_')}`);
}

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new InvalidArgumentError(`a whole number from ${least} to ${most} is wanted.`);
    }
    return value;
  };
}

function part(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`${least} to ${most} is wanted.`);
  };
}

/** Of a coordinator, node or proxy. */
export function processId(text: string): string {
  const wrong = wrongId(text);
  if (wrong !== '') throw new InvalidArgumentError(`wanted: ${wrong}.`);
  return text;
}

export function hostPort(text: string): string {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  const host = text.slice(0, colon);
  if (
    colon < 1 ||
    !/^\d{1,5}$/.test(text.slice(colon + 1)) ||
    port > 65_535 ||
    /[\s/]/.test(host)
  ) {
    throw new InvalidArgumentError('HOST:PORT is wanted.');
  }
  return text;
}

export function hostPorts(text: string): readonly string[] {
  return text.split(',').map(hostPort);
}

/** ID=HOST:PORT,… */
export function initialCluster(text: string): ReadonlyMap<string, string> {
  const members = new Map<string, string>();
  for (const part of text.split(',')) {
    const mark = part.indexOf('=');
    const id = part.slice(0, mark);
    if (mark < 1) throw new InvalidArgumentError('ID=HOST:PORT,… is wanted.');
    if (members.has(id)) throw new InvalidArgumentError(`${id} is named twice.`);
    members.set(processId(id), hostPort(part.slice(mark + 1)));
  }
  return members;
}

/** "2s", "500ms" or a number of milliseconds; a minute at most. */
export function duration(text: string): number {
  const milliseconds = millisecondsOf(text);
  if (milliseconds < 1 || milliseconds > 60_000) {
    throw new InvalidArgumentError('1ms to 60s is wanted.');
  }
  return milliseconds;
}

function millisecondsOf(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('2s, 500ms or 1m is wanted.');
  const unit = { ms: 1, s: 1_000, m: 60_000 }[match[2] ?? 'ms'] ?? 1;
  return Number(match[1]) * unit;
}

export interface TimingFlags {
  readonly heartbeatMs: number;
  readonly detectionMs: number;
  readonly leaseMs: number;
  readonly drift: number;
  readonly electionMs: number;
}

/** The same on every process of a cluster. */
export function addTimingFlags(command: Command): Command {
  const ms = wholeNumber(5, 60_000);
  return command
    .addOption(
      flag('--heartbeat-ms <ms>', 'interval of heartbeats and promise renewals')
        .argParser(ms)
        .default(timingDefault.heartbeatMs),
    )
    .addOption(
      flag(
        '--detection-ms <ms>',
        'silence after which a member that may live is taken out of the chain',
      )
        .argParser(ms)
        .default(timingDefault.detectionMs),
    )
    .addOption(
      flag('--lease-ms <ms>', 'how long a promise between nodes is relied on')
        .argParser(ms)
        .default(timingDefault.leaseMs),
    )
    .addOption(
      flag('--drift <part>', 'bound on the drift between two clocks')
        .argParser(part(0, 0.2))
        .default(timingDefault.drift),
    )
    .addOption(
      flag('--election-ms <ms>', 'least time without a leader before an election')
        .argParser(ms)
        .default(timingDefault.electionMs),
    );
}

export function timingOf(flags: TimingFlags): Timing {
  const { heartbeatMs, detectionMs, leaseMs, drift, electionMs } = flags;
  return { heartbeatMs, detectionMs, leaseMs, drift, electionMs };
}

export interface CompareFlags {
  readonly compareInterval: number;
  readonly compareShare: number;
}

/** Of nodes. */
export function addCompareFlags(command: Command): Command {
  return command
    .addOption(
      flag(
        '--compare-interval <time>',
        'pause before the state is compared with the predecessor’s once more',
      )
        .argParser((text) => {
          const milliseconds = millisecondsOf(text);
          if (milliseconds < 1 || milliseconds > 86_400_000) {
            throw new InvalidArgumentError('1ms to 1440m is wanted.');
          }
          return milliseconds;
        })
        .default(comparePaceDefault.intervalMs),
    )
    .addOption(
      flag('--compare-share <part>', 'part of the time that comparing states takes; 0: never')
        .argParser(part(0, 1))
        .default(comparePaceDefault.share),
    );
}

export function comparePaceOf({ compareInterval, compareShare }: CompareFlags): ComparePace {
  return { ...comparePaceDefault, intervalMs: compareInterval, share: compareShare };
}

/** Processes that are one proxy. */
export function addWorkersFlag(command: Command): Command {
  return command.addOption(
    flag('--workers <count>', 'processes that share the addresses of a proxy')
      .argParser(wholeNumber(1, 64))
      .default(1),
  );
}

export interface LimitFlags {
  readonly keyBytesMax: number;
  readonly valueBytesMax: number;
}

export interface CacheFlags {
  readonly objectCacheBytes: number;
}

export function addCacheFlags(command: Command): Command {
  return command.addOption(
    flag('--object-cache-bytes <bytes>', 'objects that a node keeps in memory; 0: none')
      .argParser(wholeNumber(0, 16 * 2 ** 30))
      .default(objectCacheBytesDefault),
  );
}

/** The same on every node and proxy of a cluster. */
export function addLimitFlags(command: Command): Command {
  return command
    .addOption(
      flag('--key-bytes-max <bytes>', 'longest key')
        .argParser(wholeNumber(1, 64 << 10))
        .default(keyBytesMaxDefault),
    )
    .addOption(
      flag('--value-bytes-max <bytes>', 'largest value')
        .argParser(wholeNumber(1, 4 << 20))
        .default(valueBytesMaxDefault),
    );
}

export interface CompactionFlags {
  readonly logBytesMax: number;
  readonly logEntriesMax?: number;
  readonly compactionShare: number;
}

/** How far a node's log may grow. */
export function addCompactionFlags(command: Command): Command {
  return command
    .addOption(
      flag('--log-bytes-max <bytes>', 'of its log that a node keeps, about')
        .argParser(wholeNumber(1 << 20, Number.MAX_SAFE_INTEGER))
        .default(logBoundsDefault.bytesMax),
    )
    .addOption(
      flag('--log-entries-max <count>', 'entries of it that a node keeps, about').argParser(
        wholeNumber(2, Number.MAX_SAFE_INTEGER),
      ),
    )
    .addOption(
      flag(
        '--compaction-share <part>',
        'of the time for bases, deleting and feeding who catches up, beside the writes',
      )
        .argParser(part(0.01, 1))
        .default(compactionShareDefault),
    );
}

export function compactionOf(flags: CompactionFlags): Pick<CompactionOptions, 'bounds' | 'share'> {
  const { logBytesMax, logEntriesMax = logBoundsDefault.entriesMax, compactionShare } = flags;
  return {
    bounds: { bytesMax: logBytesMax, entriesMax: logEntriesMax },
    share: compactionShare,
  };
}

export function limitsOf({ keyBytesMax, valueBytesMax }: LimitFlags): OperationLimits {
  return { keyBytesMax, valueBytesMax };
}

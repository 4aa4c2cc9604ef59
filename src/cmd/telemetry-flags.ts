import { type Command, InvalidArgumentError } from 'commander';
import { type LogLevel, logLevels } from '../telemetry/log-levels.js';
import { duration, flag, wholeNumber } from './options.js';

/** The same on every process of a cluster, unless a process is to tell more. */
export interface TelemetryFlags {
  readonly otlp?: string;
  readonly otlpProtocol: 'http' | 'grpc';
  readonly traceRatio?: number;
  readonly traceContent: number;
  readonly slow: number;
  readonly logLevel: LogLevel;
}

/** Milliseconds from which on a write counts as slow where nothing else is said. */
const slowMsDefault = 500;

export function addTelemetryFlags(command: Command): Command {
  return command
    .addOption(
      flag('--otlp <url>', 'collector that takes traces: http://host:4318').argParser(collector),
    )
    .addOption(
      flag('--otlp-protocol <protocol>', 'how the collector is spoken to')
        .choices(['http', 'grpc'])
        .default('http'),
    )
    .addOption(
      flag(
        '--trace-ratio <part>',
        'part of the operations that are traced, 0 to 1; with --otlp all of them',
      ).argParser(ratio),
    )
    .addOption(
      flag('--trace-content <bytes>', 'bytes of keys and values that traces show; 0: neither')
        .argParser(wholeNumber(0, 4_096))
        .default(0),
    )
    .addOption(
      flag('--slow <time>', 'a write that takes this long is traced and logged all the same')
        .argParser(duration)
        .default(slowMsDefault, '500ms'),
    )
    .addOption(
      flag('--log-level <level>', 'what is logged; `keychaindb log-level` changes it')
        .choices(logLevels)
        .default('info'),
    );
}

function collector(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw new InvalidArgumentError('http://HOST:PORT is wanted.');
  }
  return text;
}

function ratio(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError('0 to 1 is wanted.');
  }
  return value;
}

/** As arguments of another process. */
export function telemetryArgs(flags: TelemetryFlags): readonly string[] {
  const { otlp, otlpProtocol, traceRatio, traceContent, slow, logLevel } = flags;
  return [
    ...(otlp === undefined ? [] : ['--otlp', otlp, '--otlp-protocol', otlpProtocol]),
    ...(traceRatio === undefined ? [] : ['--trace-ratio', `${traceRatio}`]),
    ...(traceContent === 0 ? [] : ['--trace-content', `${traceContent}`]),
    ...(slow === slowMsDefault ? [] : ['--slow', `${slow}`]),
    ...(logLevel === 'info' ? [] : ['--log-level', logLevel]),
  ];
}

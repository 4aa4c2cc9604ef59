import pino, { type Logger } from 'pino';
import type { LogLevel } from './log-levels.js';
import type { Instance } from './span.js';

export type { Logger } from 'pino';

/** One JSON object a line on stderr. Written at once: a process that dies has said its last word. */
export function startLog({ service, instance }: Instance, level: LogLevel): Logger {
  return pino(
    {
      level,
      base: { service, instance },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}

import { KeychainError } from '../base/errors.js';
import type { Logger } from '../telemetry/log.js';
import { exitCodeOf, exitCodes } from './exit-codes.js';

/** What a role tells whoever started it, over IPC where there is any. */
export interface ReadyNotice {
  readonly ready: true;
  readonly grpc: string;
  readonly http: string;
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Ends the process at once: nothing after a broken invariant or a failed sync is ever acknowledged. */
export function fatal(log: Logger): (error: unknown) => void {
  return (error) => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const reason = error instanceof KeychainError ? error.reason : 'INTERNAL';
    log.fatal({ reason }, error instanceof KeychainError ? error.message : text);
    process.exit(exitCodes.failed);
  };
}

/** Prints why a verb failed and names the exit code; to be returned from it. */
export function failed(thrown: unknown): number {
  const error = KeychainError.from(thrown);
  say(`${error.reason}: ${error.message}`);
  return exitCodeOf(error);
}

export function announce(log: Logger, grpc: string, http: string): void {
  log.info({ grpc, http }, `gRPC on ${grpc}, HTTP on ${http}`);
  const notice: ReadyNotice = { ready: true, grpc, http };
  process.send?.(notice);
}

/** Resolves at SIGINT or SIGTERM, or when the process that started this one over IPC is gone. A second SIGTERM ends it at once. */
export function untilStopped(): Promise<'SIGINT' | 'SIGTERM' | 'disconnect'> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve('SIGINT'));
    process.once('SIGTERM', () => resolve('SIGTERM'));
    if (process.channel) process.once('disconnect', () => resolve('disconnect'));
  });
}

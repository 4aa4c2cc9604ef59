import { KeychainError } from '../../src/base/errors.js';
import { exitCodeOf, exitCodes } from '../../src/cmd/exit-codes.js';
import { say } from '../../src/cmd/process.js';
import type { LogDamage } from './folder.js';
import { Output, PipeClosed } from './output.js';
import { Progress } from './progress.js';

/** What every verb of `keychaindb log` gets. */
export interface LogIo {
  readonly out: Output;
  /** For messages: stderr. */
  readonly say: (text: string) => void;
  /** Says, while it runs, how far a long run is. */
  readonly progress: (total: number, from?: number) => Progress;
  /** Counts and names what is passed over, so that the verb ends with 6. */
  readonly damaged: (describe: (damage: LogDamage) => string) => (damage: LogDamage) => void;
}

/**
 * Runs a verb and ends the process: a store whose iterator has met damage can't be closed. Exit codes:
 * docs/names.md; 6 where the log is damaged or a check found a fault, 0 where the reader of a pipe has gone.
 */
export async function runVerb(verb: (io: LogIo) => Promise<number>): Promise<never> {
  const out = new Output(process.stdout);
  let skipped = 0;
  const io: LogIo = {
    out,
    say,
    progress: (total, from) => new Progress(say, total, from),
    damaged: (describe) => (damage) => {
      skipped += 1;
      say(`skipped: ${describe(damage)}`);
    },
  };
  try {
    const code = await verb(io);
    await out.flush();
    process.exit(code === exitCodes.ok && skipped > 0 ? exitCodes.unhealthy : code);
  } catch (thrown) {
    if (thrown instanceof PipeClosed) process.exit(exitCodes.ok);
    const error = KeychainError.from(thrown);
    // What was found before it is shown first.
    await out.flush().catch(() => undefined);
    say(`${error.reason}: ${error.message}`);
    process.exit(error.reason === 'CORRUPT' ? exitCodes.unhealthy : exitCodeOf(error));
  }
}

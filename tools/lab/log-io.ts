import { Writable } from 'node:stream';
import { Output } from '../log/output.js';
import { Progress } from '../log/progress.js';
import type { LogIo } from '../log/verb.js';

/** What a verb of `keychaindb log` says, kept. */
export class KeptOutput {
  stdout = '';
  readonly stderr: string[] = [];
  /** Damage that was passed over. */
  skipped = 0;
  readonly io: LogIo;

  constructor() {
    const stream = new Writable({
      decodeStrings: false,
      write: (chunk, _encoding, done) => {
        this.stdout += String(chunk);
        done();
      },
    });
    const say = (text: string): void => {
      this.stderr.push(text);
    };
    this.io = {
      out: new Output(stream),
      say,
      progress: (total, from) => new Progress(() => undefined, total, from),
      damaged: (describe) => (damage) => {
        this.skipped += 1;
        say(`skipped: ${describe(damage)}`);
      },
    };
  }

  /** Runs a verb in this process: its exit code, or the error that it ended with. */
  async run(verb: (io: LogIo) => Promise<number>): Promise<number> {
    const code = await verb(this.io);
    await this.io.out.flush();
    return code;
  }
}

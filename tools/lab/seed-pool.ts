import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { runSeed, type SimOptions, type SimResult } from '../../test/sim/run.js';

/** What became of a seed, in short: a failing one is run again by who wants to see it. */
export interface SeedOutcome
  extends Pick<SimResult, 'seed' | 'events' | 'operations' | 'simulatedMs' | 'hash' | 'met'> {
  /** Which checker found a failure; undefined where all is well. */
  readonly checker: string | undefined;
}

const worker = fileURLToPath(new URL('./seed-worker.js', import.meta.url));

/** Runs seeds, in so many processes, and yields their outcomes in the order of the seeds. */
export async function* outcomes(
  seeds: Iterable<number>,
  options: SimOptions,
  jobs: number,
): AsyncIterable<SeedOutcome> {
  if (jobs <= 1) {
    for (const seed of seeds) {
      const result = await runSeed(seed, options);
      yield { ...result, checker: result.failure?.checker };
    }
    return;
  }
  const running: Promise<SeedOutcome>[] = [];
  const next = seeds[Symbol.iterator]();
  const workers = Array.from({ length: jobs }, () => fork(worker, { serialization: 'advanced' }));
  const start = (child: Child): void => {
    const { done, value: seed } = next.next();
    if (done === true) return;
    const outcome = child.run(seed, options);
    running.push(outcome);
    // Before whoever waits for this outcome goes on: the next one runs already.
    outcome.then(
      () => start(child),
      () => undefined,
    );
  };
  try {
    for (const process_ of workers) start(new Child(process_));
    for (let oldest = running.shift(); oldest !== undefined; oldest = running.shift()) {
      yield await oldest;
    }
  } finally {
    for (const process_ of workers) process_.kill();
  }
}

/** One process, one seed at a time. */
class Child {
  readonly #process: ChildProcess;
  readonly #ended: Promise<never>;

  constructor(process_: ChildProcess) {
    this.#process = process_;
    this.#ended = once(process_, 'exit').then(([code]) => {
      throw new Error(`a process that ran seeds ended with ${String(code)}`);
    });
    this.#ended.catch(() => undefined);
  }

  async run(seed: number, options: SimOptions): Promise<SeedOutcome> {
    const answered = new Promise<SeedOutcome>((resolve) => {
      this.#process.once('message', (outcome) => resolve(outcome as SeedOutcome));
    });
    this.#process.send({ seed, options });
    return Promise.race([answered, this.#ended]);
  }
}

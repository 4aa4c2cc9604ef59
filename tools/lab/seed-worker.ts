/* Runs simulated seeds in a process of its own: a seed comes, its outcome goes. */
import { runSeed, type SimOptions } from '../../test/sim/run.js';
import type { SeedOutcome } from './seed-pool.js';

process.on('message', async ({ seed, options }: { seed: number; options: SimOptions }) => {
  const { events, operations, simulatedMs, hash, met, failure } = await runSeed(seed, options);
  const checker = failure?.checker;
  const outcome: SeedOutcome = { seed, events, operations, simulatedMs, hash, met, checker };
  // Who asked may be gone: another seed has failed.
  if (process.connected) process.send?.(outcome, () => undefined);
});

/*
 * Runs simulated clusters: npm run sim -- [--seed N] [--seeds K] [--minutes M]. A failing seed prints its
 * transitions and ends the run with exit code 1; --seed N replays it.
 */
import { parseArgs } from 'node:util';
import { runSeed } from '../test/sim/run.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    minutes: { type: 'string' },
    trace: { type: 'boolean' },
  },
});
const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
const seeds =
  values.seeds === undefined ? (minutes === undefined ? 1 : Infinity) : Number(values.seeds);
const until = minutes === undefined ? Infinity : performance.now() + minutes * 60_000;

let done = 0;
let events = 0;
let operations = 0;
let simulatedMs = 0;
process.stdout.write(`seeds from ${first}\n`);
for (let seed = first; done < seeds && performance.now() < until; seed += 1) {
  const result = await runSeed(seed);
  done += 1;
  events += result.events;
  operations += result.operations;
  simulatedMs += result.simulatedMs;
  if (result.failure !== undefined) {
    const { error, trace } = result.failure;
    for (const line of trace.slice(-200)) process.stdout.write(`${line}\n`);
    process.stdout.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.stdout.write(
      `seed ${seed} failed after ${done} seeds; replay: npm run sim -- --seed ${seed}\n`,
    );
    process.exit(1);
  }
  if (values.trace === true) process.stdout.write(`seed ${seed} hash ${result.hash}\n`);
}
const hours = (simulatedMs / 3_600_000).toFixed(2);
process.stdout.write(
  `${done} seeds from ${first}: 0 failed, ${hours} simulated hours, ${events} events, ${operations} operations checked\n`,
);
process.exit(0);

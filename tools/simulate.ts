/*
 * Runs simulated clusters: npm run sim -- [--seed N] [--seeds K] [--minutes M]. A failing seed prints its
 * transitions and ends the run with exit code 1; --seed N replays it, with --shrink it is cut to the faults that
 * it needs, with --faults I,J only those are injected. --hash prints the hash of each run, --cover fails where the
 * seeds together did not meet what they should, --drift P lets clocks run wrong by that part, beyond the bound,
 * --jobs J runs in so many processes.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { formatOperation } from '../test/history/file.js';
import { Coverage } from '../test/sim/coverage.js';
import { runSeed, type SimOptions, type SimResult } from '../test/sim/run.js';
import { shrink } from '../test/sim/shrink.js';
import { outcomes } from './lab/seed-pool.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    minutes: { type: 'string' },
    faults: { type: 'string' },
    drift: { type: 'string' },
    history: { type: 'string' },
    shrink: { type: 'boolean' },
    trace: { type: 'boolean' },
    hash: { type: 'boolean' },
    cover: { type: 'boolean' },
    jobs: { type: 'string', default: '1' },
  },
});
const first = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const minutes = values.minutes === undefined ? undefined : Number(values.minutes);
const seeds =
  values.seeds === undefined ? (minutes === undefined ? 1 : Infinity) : Number(values.seeds);
const jobs = Number(values.jobs);
const begun = performance.now();
const until = minutes === undefined ? Infinity : begun + minutes * 60_000;
const options: SimOptions = {
  ...(values.faults === undefined ? undefined : { faults: values.faults.split(',').map(Number) }),
  ...(values.drift === undefined ? undefined : { drift: Number(values.drift) }),
};
/** Transitions of a failing run that are printed. */
const shownLines = 200;

const print = (line: string): boolean => process.stdout.write(`${line}\n`);

function commit(): string {
  try {
    const found = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' });
    return found.trim();
  } catch {
    return 'unknown';
  }
}

async function report(result: SimResult): Promise<void> {
  const { failure, seed, plan } = result;
  if (failure === undefined) return;
  const { error, checker, trace, history } = failure;
  for (const line of values.trace === true ? trace : trace.slice(-shownLines)) print(line);
  print(error instanceof Error ? (error.stack ?? error.message) : String(error));
  print(`found by: ${checker}; ${plan.faults.length} faults, ${history.length} operations`);
  if (values.history !== undefined) {
    writeFileSync(values.history, history.map((op) => `${formatOperation(op)}\n`).join(''));
  }
  if (values.shrink === true) {
    const needed = await shrink(seed, options, print);
    for (const fault of plan.faults.filter(({ index }) => needed.includes(index))) {
      print(`fault ${fault.index}: ${fault.kind} at ${fault.at.toFixed(0)} ms`);
    }
    print(`replay: npm run sim -- --seed ${seed} --faults ${needed.join()}`);
  }
}

function* wanted(): Iterable<number> {
  for (let seed = first; seed < first + seeds && performance.now() < until; seed += 1) yield seed;
}

const coverage = new Coverage();
let done = 0;
let failed = 0;
let events = 0;
let operations = 0;
let simulatedMs = 0;
print(`seeds from ${first}, commit ${commit()}`);
for await (const outcome of outcomes(wanted(), options, jobs)) {
  const { seed, checker } = outcome;
  done += 1;
  events += outcome.events;
  operations += outcome.operations;
  simulatedMs += outcome.simulatedMs;
  coverage.add(outcome.met);
  if (values.hash === true)
    print(`seed ${seed} hash ${outcome.hash.toString(16).padStart(8, '0')}`);
  if (checker === undefined) continue;
  failed += 1;
  if (options.drift !== undefined) {
    print(`seed ${seed}: ${checker}`);
    continue;
  }
  await report(await runSeed(seed, options));
  print(`seed ${seed} failed after ${done} seeds; replay: npm run sim -- --seed ${seed}`);
  process.exit(1);
}
for (const [what, times] of [...coverage.met].sort()) print(`${what.padEnd(40)} ${times}`);
const hours = (simulatedMs / 3_600_000).toFixed(2);
const rate = Math.round(events / ((performance.now() - begun) / 1_000));
print(`${rate} events per second`);
print(
  `${done} seeds from ${first}: ${failed} failed, ${hours} simulated hours, ${events} events, ${operations} operations checked`,
);
if (values.cover === true && coverage.missing.length > 0) {
  print(`never met: ${coverage.missing.join(', ')}`);
  process.exit(1);
}
process.exit(0);

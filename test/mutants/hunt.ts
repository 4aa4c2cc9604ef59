/*
 * Runs in a build that has a defect: scripts, walks and the search where they touch its room, then seeds of the
 * simulator until one fails. Prints what is known so far after each, as one JSON object a line.
 * node dist/test/mutants/hunt.js ROOM SEEDS SECONDS STATES
 */
import { bugs } from '../raft/bugs.js';
import { scripts } from '../raft/scenarios.js';
import { walk } from '../raft/walk.js';
import { scenarios } from '../search/scenarios.js';
import { search } from '../search/search.js';
import { CheckFailure } from '../sim/check.js';
import { keepsPlaces } from '../sim/failover.js';
import { runSeed } from '../sim/run.js';

/** What one hunt came to. */
export interface Catch {
  /** Seeds of the simulator until one failed, and the checker that noticed. */
  readonly seeds?: number;
  readonly checker?: string;
  /** Walks of a Raft group. */
  readonly walks?: number;
  readonly walkChecker?: string;
  /** The script that failed. */
  readonly script?: string;
  readonly scriptChecker?: string;
  /** Actions on the shortest way that the search found. */
  readonly actions?: number;
  readonly searchChecker?: string;
}

const walksMax = 2_000;
const room = process.argv[2] ?? '';
const [seedsMax = 200, secondsMax = 60, states = 20_000] = process.argv.slice(3).map(Number);

/** With the rooms' assertions off what ends a run may also be a crash of the defect's own. */
const checkerOf = (error: unknown): string => {
  if (error instanceof CheckFailure) return error.checker;
  return error instanceof Error && error.name === 'AssertionError' ? 'assertion' : 'crash';
};

function byScripts(): Catch {
  for (const { name, run } of [...scripts, ...bugs]) {
    try {
      run();
    } catch (error) {
      return { script: name, scriptChecker: checkerOf(error) };
    }
  }
  return {};
}

function byWalks(): Catch {
  for (let seed = 1; seed <= walksMax; seed += 1) {
    try {
      walk(seed);
    } catch (error) {
      return { walks: seed, walkChecker: checkerOf(error) };
    }
  }
  return {};
}

function bySearch(): Catch {
  for (const scenario of scenarios) {
    try {
      const { failure } = search(scenario, { states });
      if (failure === undefined) continue;
      return { actions: failure.path.length, searchChecker: checkerOf(failure.error) };
    } catch (error) {
      return { actions: 0, searchChecker: checkerOf(error) };
    }
  }
  return {};
}

async function bySeeds(): Promise<Catch> {
  // Where another way has found it, this is only for the figure.
  const seconds = Object.keys(found).length > 0 ? secondsMax / 4 : secondsMax;
  const until = performance.now() + seconds * 1_000;
  for (let seed = 1; seed <= seedsMax && performance.now() < until; seed += 1) {
    const { failure } = await runSeed(seed);
    if (failure !== undefined) return { seeds: seed, checker: checkerOf(failure.error) };
  }
  return {};
}

/** Situations in which nobody may lose its place. */
async function byPlaces(): Promise<Catch> {
  try {
    for (let seed = 1; seed <= 3; seed += 1) await keepsPlaces(seed);
    return {};
  } catch (error) {
    return { script: 'a cut, a death of all', scriptChecker: checkerOf(error) };
  }
}

let found: Catch = {};
// The process is killed where a defect hangs it: what is known by then has been said.
const say = (more: Catch): void => {
  found = { ...found, ...more };
  process.stdout.write(`${JSON.stringify(found)}\n`);
};
say({});
if (room === 'raft') {
  say(byScripts());
  say(byWalks());
} else if (room === 'chain' || room === 'coordinator') {
  // It runs the cores of these rooms alone.
  say(bySearch());
}
if (room === 'coordinator') say(await byPlaces());
// With the assertions off it is enough that something sees it.
if (process.env['HUNT_ONCE'] === undefined || Object.keys(found).length === 0) {
  say(await bySeeds());
}
process.exit(0);

import { planOf } from './plan.js';
import { runSeed, type SimOptions } from './run.js';

/** Runs that a shrink may take. */
const runsMax = 300;

/**
 * The faults that a failing seed needs to fail: delta debugging (Zeller & Hildebrandt 2002) over its schedule.
 * Any failure counts: what is left is a shorter way to something that is wrong.
 */
export async function shrink(
  seed: number,
  options: SimOptions,
  print: (line: string) => void = () => undefined,
): Promise<readonly number[]> {
  let runs = 0;
  const fails = async (faults: readonly number[]): Promise<boolean> => {
    runs += 1;
    const { failure } = await runSeed(seed, { ...options, faults });
    return failure !== undefined;
  };
  const planned = planOf(seed, options.faultsMs ?? 8_000).faults.map(({ index }) => index);
  let needed: readonly number[] = options.faults ?? planned;
  let parts = 2;
  while (needed.length > 0 && runs < runsMax) {
    const size = Math.ceil(needed.length / parts);
    let smaller: readonly number[] | undefined;
    for (let from = 0; from < needed.length && smaller === undefined; from += size) {
      const rest = needed.filter((_, place) => place < from || place >= from + size);
      if (await fails(rest)) smaller = rest;
    }
    if (smaller !== undefined) {
      needed = smaller;
      parts = Math.max(2, parts - 1);
      print(`${needed.length} faults are enough`);
    } else if (size === 1) break;
    else parts = Math.min(needed.length, parts * 2);
  }
  return needed;
}

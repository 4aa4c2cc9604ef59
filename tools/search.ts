/*
 * Searches every way through the scenarios of test/search, on the real chain and registry cores, within bounds:
 * node dist/tools/search.js [--states N] [--depth D] [--only TEXT]. Prints the shortest way to what breaks.
 */
import { parseArgs } from 'node:util';
import { scenarios } from '../test/search/scenarios.js';
import { search } from '../test/search/search.js';

const { values } = parseArgs({
  options: {
    states: { type: 'string' },
    depth: { type: 'string' },
    only: { type: 'string' },
  },
});
const states = Number(values.states ?? 20_000);
const print = (line: string): boolean => process.stdout.write(`${line}\n`);
let isClean = true;
for (const scenario of scenarios) {
  if (values.only !== undefined && !scenario.name.includes(values.only)) continue;
  const begun = performance.now();
  const depth = Number(values.depth ?? scenario.depth);
  const result = search({ ...scenario, depth }, { states });
  const seconds = ((performance.now() - begun) / 1_000).toFixed(1);
  const how = result.isComplete ? 'all of it' : `cut off, complete to depth ${result.depth}`;
  print(
    `${scenario.name}: ${result.states} states, ${result.transitions} transitions, depth ${result.depth}, ${how} (${seconds} s)`,
  );
  if (result.failure === undefined) continue;
  isClean = false;
  for (const action of result.failure.path) print(`  ${action}`);
  const { error } = result.failure;
  print(error instanceof Error ? (error.stack ?? error.message) : String(error));
}
print(isClean ? 'nothing broke' : 'something broke');
process.exit(isClean ? 0 : 1);

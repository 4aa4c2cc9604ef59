import t from 'tap';
import { scenarios } from './scenarios.js';
import { search } from './search.js';

/** States of each scenario; `node dist/tools/search.js --states N` goes on. */
const states = Number(process.env['KEYCHAINDB_STATES'] ?? 12_000);

for (const scenario of scenarios) {
  t.test(`${scenario.name}: no way through it breaks an invariant`, async (t) => {
    const result = search(scenario, { states });
    t.comment(`${result.states} states, ${result.transitions} transitions, depth ${result.depth}`);
    if (result.failure !== undefined) {
      t.fail(result.failure.path.join(', '), { found: String(result.failure.error) });
    }
    t.ok(result.isComplete || result.states >= states, 'as far as it was allowed to go');
  });
}

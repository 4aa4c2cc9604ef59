import t from 'tap';
import { planOf } from './plan.js';
import { runSeed, type SimOptions, type SimResult } from './run.js';
import { shrink } from './shrink.js';

/*
 * KEYCHAINDB_SEED replays from a seed, KEYCHAINDB_SEEDS runs more of them; `npm run sim` prints the transitions.
 * CI runs many more by `npm run sim -- --seeds 400 --cover`.
 */
const first = Number(process.env['KEYCHAINDB_SEED'] ?? 1_000);
const seeds = Number(process.env['KEYCHAINDB_SEEDS'] ?? 40);

async function firstFailure(from: number, count: number, options: SimOptions = {}) {
  const results: SimResult[] = [];
  for (let seed = from; seed < from + count; seed += 1) {
    const result = await runSeed(seed, options);
    results.push(result);
    if (result.failure !== undefined) return { results, failed: result };
  }
  return { results, failed: undefined };
}

t.test('whole clusters lose no acknowledged write and serve no stale read', async (t) => {
  const { results, failed } = await firstFailure(first, seeds);
  const operations = results.reduce((sum, result) => sum + result.operations, 0);
  t.comment(`${results.length} seeds from ${first}: ${operations} operations checked`);
  if (failed?.failure !== undefined) {
    t.comment(failed.failure.trace.slice(-100).join('\n'));
    t.fail(`seed ${failed.seed}: npm run sim -- --seed ${failed.seed}`, {
      found: String(failed.failure.error),
    });
  }
  t.ok(operations > seeds * 20, 'the clusters served');
});

t.test('the same seed gives the same run', async (t) => {
  const [a, b] = [await runSeed(first), await runSeed(first)];
  t.equal(a.hash, b.hash);
  t.equal(a.events, b.events);
});

t.test(
  'disks that say yes and do not sync are noticed, and the failing run is shortened',
  async (t) => {
    const { failed } = await firstFailure(1, 200, { ignoreSync: true });
    t.ok(failed, 'some seed fails without syncs');
    if (failed === undefined) return;
    t.comment(`seed ${failed.seed}: ${String(failed.failure?.error).slice(0, 200)}`);
    const needed = await shrink(failed.seed, { ignoreSync: true });
    t.ok(
      needed.length <= planOf(failed.seed, 8_000).faults.length,
      `needs faults ${needed.join()}`,
    );
    const again = await runSeed(failed.seed, { ignoreSync: true, faults: needed });
    t.ok(again.failure, 'what is left of it fails too');
  },
);

import t from 'tap';
import { walk } from './walk.js';

// CI walks the same ways every time; `KEYCHAINDB_SEED=$RANDOM` walks others.
const first = Number(process.env['KEYCHAINDB_SEED'] ?? 1);
const seeds = 1_000;

t.test('random walks keep every invariant and end in a group that commits', async (t) => {
  let committed = 0;
  for (let seed = first; seed < first + seeds; seed += 1) {
    try {
      committed += walk(seed).committed;
    } catch (error) {
      t.fail(`KEYCHAINDB_SEED=${seed}`, { found: String(error) });
      return;
    }
  }
  t.comment(`${seeds} seeds from ${first}: ${committed} entries committed`);
  t.ok(committed > seeds);
});

import t from 'tap';
import { timingDefault } from '../../src/base/timing.js';
import { type Failover, keepsPlaces, killAt, stallAt } from './failover.js';

/* Times are the simulator's: the same on every machine. KEYCHAINDB_SEEDS runs more of them. */
const seeds = Number(process.env['KEYCHAINDB_SEEDS'] ?? 3);
const positions = ['head', 'middle', 'tail'] as const;

const worst = (all: readonly Failover[], what: keyof Failover): number =>
  Math.round(Math.max(...all.map((each) => each[what])));

for (const position of positions) {
  t.test(
    `the ${position} is killed: writes stop for half a second at most, no lease ends`,
    async (t) => {
      const all: Failover[] = [];
      for (let seed = 1; seed <= seeds; seed += 1)
        all.push(await killAt(seed, 3 + (seed % 2) * 2, position));
      t.comment(
        `${all.length} kills: out after ${worst(all, 'outMs')} ms, writes stopped for ${worst(all, 'writeGapMs')} ms at most`,
      );
      t.ok(
        worst(all, 'outMs') < timingDefault.detectionMs / 2,
        'long before silence would be evidence',
      );
      t.ok(worst(all, 'writeGapMs') <= 500, `${worst(all, 'writeGapMs')} ms`);
      t.equal(worst(all, 'unleasedMs'), 0, 'invariant 16: no survivor is without a lease');
    },
  );

  t.test(`the ${position} stands still for 600 ms and keeps its place`, async (t) => {
    const all: Failover[] = [];
    for (let seed = 1; seed <= seeds; seed += 1) all.push(await stallAt(seed, 3, position, 600));
    t.comment(
      `${all.length} stalls: writes stopped for ${worst(all, 'writeGapMs')} ms at most, reads elsewhere for ${worst(all, 'unleasedMs')} ms`,
    );
    t.equal(worst(all, 'changes'), 0);
  });
}

t.test('nobody loses its place for a cut, nor where all were killed together', async (t) => {
  for (let seed = 1; seed <= seeds; seed += 1) await t.resolves(keepsPlaces(seed));
});

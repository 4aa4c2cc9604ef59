import t from 'tap';
import { SeededRandom } from '../sim/schedule.js';
import { Group } from './group.js';

const first = Number(process.env['KEYCHAINDB_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const seeds = 300;
const steps = 400;

/** Loss, duplicates, reordering, crashes and cuts; every invariant after every step. */
function walk(seed: number): { readonly committed: number } {
  const random = new SeededRandom(seed);
  const group = new Group(random.pick([1, 3, 3, 5]), () => random.float());
  let token = 0;
  for (let i = 0; i < steps; i += 1) {
    const member = random.pick(group.members);
    const dice = random.float();
    if (dice < 0.35) {
      group.now += random.int(30);
      for (const each of group.members) each.tick();
    } else if (dice < 0.75 && group.messages.length > 0) {
      const at = random.int(group.messages.length);
      const message = group.messages[at];
      if (!random.chance(0.1)) group.messages.splice(at, 1);
      if (message !== undefined && !random.chance(0.1)) group.deliver(message);
    } else if (dice < 0.88) member.sync();
    else if (dice < 0.93) member.propose(token++, `${token}`);
    else if (dice < 0.96) {
      if (member.isUp) member.crash();
      else member.restart();
    } else if (dice < 0.98) {
      group.cut.add(`${member.id}>${random.pick(group.members).id}`);
    } else group.cut.clear();
    group.check();
  }
  // Everything heals: the group must commit again.
  group.cut.clear();
  for (const member of group.members) if (!member.isUp) member.restart();
  group.messages = [];
  group.pass(1_500);
  const before = group.committed.length;
  group.leader?.propose(-1, 'healed');
  group.pass(100);
  if (group.committed.length <= before) throw new Error('a healed group commits nothing');
  return { committed: group.committed.length };
}

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

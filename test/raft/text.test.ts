import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { runText } from './text.js';

const folder = new URL('../../../test/raft/texts/', import.meta.url);

// UPDATE=1 writes the present answers; a person reads the difference.
for (const name of readdirSync(fileURLToPath(folder)).sort()) {
  t.test(name.replace(/\.txt$/, '').replaceAll('-', ' '), async (t) => {
    const file = new URL(name, folder);
    const wanted = readFileSync(file, 'utf8');
    const found = runText(wanted);
    if (process.env['UPDATE'] === '1') writeFileSync(file, found);
    else t.equal(found, wanted);
  });
}

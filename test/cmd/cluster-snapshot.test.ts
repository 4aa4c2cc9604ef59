import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { saveNew } from '../../src/cmd/cluster-snapshot.js';
import { refusal } from '../refusal.js';

const module_ = new URL('../../src/cmd/cluster-snapshot.js', import.meta.url).href;

t.test('a file that the disk has no room for is an error, and is not left behind', async (t) => {
  const file = join(t.testdir(), 'saved');
  const save = `
    const { saveNew } = await import(process.argv[1]);
    const [, , file] = process.argv;
    process.exitCode = await saveNew(file, Buffer.alloc(1 << 20)).then(() => 0, ({ reason }) => (reason === 'BAD_REQUEST' ? 9 : 1));
  `;
  // Past the limit on the size of files a write is short, as it is where the disk is full.
  const limited = 'trap "" XFSZ; ulimit -f 64; exec "$@"';
  const node = [process.execPath, '--input-type=module', '-e', save, module_, file];
  const { status, stderr } = spawnSync('sh', ['-c', limited, 'sh', ...node], { encoding: 'utf8' });
  t.equal(status, 9, stderr);
  t.notOk(existsSync(file));
});

t.test('a file that is there already is not written over', async (t) => {
  const file = join(t.testdir({ saved: 'of yesterday' }), 'saved');
  await t.rejects(saveNew(file, Buffer.from('of today')), refusal('BAD_REQUEST'));
  t.equal(readFileSync(file, 'utf8'), 'of yesterday');
});

/*
 * The main job in one minute on the Node that runs this: a demo, a write, a read at every node, the head killed,
 * a read and a write again, the data there after a restart. Ends on "smoke on Node X: ok".
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Lab } from './lab/cluster.js';

function expect(what: string, isSo: boolean): void {
  if (!isSo) throw new Error(`smoke on Node ${process.version}: ${what}`);
}

const dataDir = await mkdtemp(join(tmpdir(), 'keychaindb-smoke-'));
const text = (value: Uint8Array | undefined): string => Buffer.from(value ?? []).toString();
try {
  const lab = await Lab.start({ dataDir });
  try {
    const client = lab.client();
    await client.put('smoke', 'one');
    for (const { id } of lab.of('node')) {
      const read = await client.get('smoke', { node: id });
      expect(`${id} answers the value`, text(read?.value) === 'one' && read?.served?.node === id);
    }
    await lab.kill('node-1');
    expect('a read after the kill', text((await client.get('smoke'))?.value) === 'one');
    await client.put('smoke', 'two');
    lab.start('node-1');
    await lab.serving(['node-1', 'node-2', 'node-3']);
    const back = await client.get('smoke', { node: 'node-1' });
    expect('the killed node has the new value', text(back?.value) === 'two');
  } finally {
    await lab.stop();
  }
  const again = await Lab.start({ dataDir });
  try {
    const read = await again.client().get('smoke');
    expect('the data is there after a restart', text(read?.value) === 'two');
    process.stdout.write(
      `smoke on Node ${process.version}: ok, ready in ${Math.round(again.readyMs)} ms\n`,
    );
  } finally {
    await again.stop();
  }
} finally {
  await rm(dataDir, { recursive: true, force: true });
}

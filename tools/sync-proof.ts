/*
 * Shows that an acknowledged write is on the disk: one real node under `strace -f -e trace=fdatasync,fsync`, one write
 * at a time, and for each of them a sync that began after the write arrived and ended before it was acknowledged.
 * node dist/tools/sync-proof.js [--writes 20]. Needs strace (Debian's package).
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Lab } from './lab/cluster.js';

const { values } = parseArgs({ options: { writes: { type: 'string', default: '20' } } });
const writes = Number(values.writes);
const dir = await mkdtemp(join(tmpdir(), 'keychaindb-sync-'));
const lab = await Lab.start({ nodes: 1, coordinators: 1 });
try {
  const client = lab.client();
  await client.put('warm', 'up');
  const { pid, id } = lab.named('node-1');
  const output = join(dir, 'strace');
  const args = ['-f', '-ttt', '-T', '-e', 'trace=fdatasync,fsync', '-o', output, '-p', `${pid}`];
  const strace = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    strace.once('error', reject);
    strace.stderr.once('data', () => resolve());
  });
  const times: { readonly sent: number; readonly answered: number }[] = [];
  for (let i = 0; i < writes; i += 1) {
    const sent = Date.now() / 1_000;
    await client.put(`synced/${i}`, 'value');
    times.push({ sent, answered: Date.now() / 1_000 });
  }
  const ended = new Promise((resolve) => strace.once('exit', resolve));
  strace.kill('SIGINT');
  await ended;
  const syncs = syncsOf(await readFile(output, 'utf8'));
  let proven = 0;
  for (const [index, { sent, answered }] of times.entries()) {
    // Clocks are read in whole milliseconds here, in microseconds there.
    const sync = syncs.find((s) => s.began >= sent - 0.001 && s.ended <= answered + 0.001);
    if (sync === undefined) process.stdout.write(`write ${index}: no sync between\n`);
    else proven += 1;
  }
  process.stdout.write(
    `${proven} of ${writes} writes at ${id}: a completed sync between the write's arrival and its acknowledgment (${syncs.length} syncs seen)\n`,
  );
  process.exitCode = proven === writes ? 0 : 1;
} finally {
  await lab.stop();
  await rm(dir, { recursive: true, force: true });
}

interface Sync {
  readonly began: number;
  readonly ended: number;
}

/** "PID SECONDS fdatasync(5) = 0 <0.000123>", or in two parts, unfinished and resumed. */
function syncsOf(text: string): readonly Sync[] {
  const open = new Map<string, number>();
  const syncs: Sync[] = [];
  for (const line of text.split('\n')) {
    const [, thread = '', at = '', rest = ''] = /^(\d+)\s+([\d.]+)\s+(.*)$/.exec(line) ?? [];
    const took = Number(/<([\d.]+)>$/.exec(rest)?.[1] ?? 'NaN');
    if (rest.includes('unfinished')) open.set(thread, Number(at));
    else if (rest.includes('resumed') && / = 0 /.test(rest)) {
      const began = open.get(thread);
      if (began !== undefined) syncs.push({ began, ended: Number(at) });
    } else if (/ = 0 /.test(rest)) syncs.push({ began: Number(at), ended: Number(at) + took });
  }
  return syncs;
}

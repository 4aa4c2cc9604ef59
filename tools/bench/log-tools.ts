/*
 * What the log tools cost. First how many entries a second each verb takes, on a folder of so many; then what
 * `dump --follow` costs a node under full load: windows with and without it in turn, on one cluster.
 * node dist/tools/bench/log-tools.js [--entries 1000000] [--rounds 8] [--seconds 4] [--writers 64]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Lab, main } from '../lab/cluster.js';
import { writeSampleLog } from '../lab/sample-log.js';
import { cpuOf } from '../lab/usage.js';
import { counted } from '../log/progress.js';
import { median } from './median.js';
import { writeFor } from './writers.js';

const { values } = parseArgs({
  options: {
    entries: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '8' },
    seconds: { type: 'string', default: '4' },
    writers: { type: 'string', default: '64' },
  },
});
const entries = Number(values.entries);
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const writers = Number(values.writers);

if (entries > 0) await verbs();
if (rounds > 0) await following();

async function verbs(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'keychaindb-log-'));
  try {
    say(`writing ${counted(entries)} entries`);
    for (const id of ['node-1', 'node-2']) {
      await writeSampleLog(join(dir, id), {
        entries,
        keys: 50_000,
        valueBytes: 100,
        deleteEvery: 50,
      });
    }
    const [one, other] = [join(dir, 'node-1'), join(dir, 'node-2')];
    print('| verb | entries a second | most memory |');
    print('| ---- | ---------------- | ----------- |');
    for (const args of [
      ['replay', one],
      ['verify', one],
      ['diff', one, other],
      ['history', one, 'key/77'],
      ['dump', one, '--key', 'key/77'],
      ['dump', one],
      ['dump', one, '--output', 'json'],
    ]) {
      const began = performance.now();
      const memoryMb = await finished(tool(args));
      const rate = Math.round(entries / ((performance.now() - began) / 1_000));
      const name = args.filter((arg) => arg !== one && arg !== other).join(' ');
      print(`| ${name} | ${counted(rate)} | ${memoryMb.toFixed(0)} MB |`);
    }
  } finally {
    await rm(dir, { recursive: true });
  }
}

interface Window {
  readonly perSecond: number;
  /** Microseconds of CPU of the followed node, for each write. */
  readonly nodeMicros: number;
  /** Part of one CPU that the follower took. */
  readonly follower: number;
}

async function following(): Promise<void> {
  const lab = await Lab.start();
  const windows = { without: [] as Window[], with: [] as Window[] };
  try {
    const client = lab.client();
    await writeFor(client, 3_000, writers);
    for (let round = 0; round < rounds; round += 1) {
      // Each is the first one equally often.
      const order =
        round % 2 === 0 ? (['without', 'with'] as const) : (['with', 'without'] as const);
      for (const mode of order) {
        const measured = await window(lab, mode === 'with');
        windows[mode].push(measured);
        say(`round ${round + 1}, ${mode}: ${Math.round(measured.perSecond)} writes/s`);
      }
    }
  } finally {
    await lab.stop();
  }
  const ratio = (of: (w: Window) => number): string =>
    median(windows.with.map((w, i) => of(w) / of(windows.without[i] ?? w))).toFixed(3);
  const part = median(windows.with.map(({ follower }) => follower));
  print('');
  print('| dump --follow beside a loaded node | |');
  print('| ---------------------------------- | --- |');
  print(`| writes a second, to without | ${ratio((w) => w.perSecond)} |`);
  print(`| the node's CPU per write, to without | ${ratio((w) => w.nodeMicros)} |`);
  print(`| CPU of the follower itself | ${(100 * part).toFixed(1)} % of one |`);
}

async function window(lab: Lab, follows: boolean): Promise<Window> {
  const node = lab.named('node-2');
  const client = lab.client();
  const args = ['dump', node.dataDir, '--follow', '--output', 'json', '--from', '1000000000'];
  const follower = follows ? tool(args) : undefined;
  // The opening is not the following; and both kinds of window begin with the same pause.
  await writeFor(client, 4_000, writers);
  const pids = follower?.pid === undefined ? [] : [follower.pid];
  const [nodeBefore, ownBefore, began] = [cpuOf([node.pid]), cpuOf(pids), performance.now()];
  const writes = await writeFor(client, seconds * 1_000, writers);
  const elapsed = (performance.now() - began) / 1_000;
  const nodeMicros = ((cpuOf([node.pid]) - nodeBefore) * 1_000) / writes;
  const own = (cpuOf(pids) - ownBefore) / 1_000 / elapsed;
  if (follower !== undefined) {
    follower.kill();
    await once(follower, 'exit');
  }
  return { perSecond: writes / elapsed, nodeMicros, follower: own };
}

function tool(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [main, 'log', ...args], { stdio: 'ignore' });
}

/** Waits for its end; the most memory that it was seen with, in MB. */
async function finished(child: ChildProcess): Promise<number> {
  let most = 0;
  const timer = setInterval(() => {
    most = Math.max(most, memoryOf(child.pid ?? 0));
  }, 100);
  const [code] = (await once(child, 'exit')) as [number];
  clearInterval(timer);
  if (code !== 0) throw new Error(`${child.spawnargs.join(' ')} ended with ${code}`);
  return most;
}

function memoryOf(pid: number): number {
  try {
    const [, kilobytes] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(kilobytes ?? 0) / 1_024;
  } catch {
    return 0;
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/*
 * Random changes of a chain's membership under a steady mixed load, in one run: add, remove, drain, reorder, kill, return
 * and replace, each kind at least so often, at the head, the middle and the tail. Then: is an acknowledged write lost, was
 * a read stale, did a read fail while a node served, are memory and disk bounded? Exit code 1 where something is wrong.
 *
 *   node dist/tools/membership-changes.js [--changes 300] [--seed N] [--reads 200] [--writes 60]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { KeychainError, type Member, type View } from '../src/client/client.js';
import { MemberState } from '../src/gen/keychaindb/v1/coordinator.js';
import { stateName } from '../src/telemetry/view-spans.js';
import { checkHistory } from '../test/history/linearizability.js';
import { SeededRandom } from '../test/sim/schedule.js';
import { Lab, main } from './lab/cluster.js';
import { Load } from './lab/load.js';
import { Recorder } from './lab/recorder.js';
import { usage } from './lab/usage.js';

const { values: flags } = parseArgs({
  options: {
    changes: { type: 'string', default: '300' },
    seed: { type: 'string' },
    reads: { type: 'string', default: '200' },
    writes: { type: 'string', default: '60' },
  },
});
const changes = Number(flags.changes);
const seed = flags.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(flags.seed);
const random = new SeededRandom(seed);
const least = Math.min(15, Math.floor(changes / 20));

const kinds = ['add', 'remove', 'drain', 'reorder', 'kill', 'return', 'replace'] as const;
type Kind = (typeof kinds)[number];
type Position = 'head' | 'middle' | 'tail';
const positions: readonly Position[] = ['head', 'middle', 'tail'];
/** Nodes in the chain at most, and those that must serve before one is taken out. */
const chainMax = 6;
const servingMin = 2;
/** Milliseconds until the chain must be as a change wants it. */
const settleMs = 60_000;

interface Node {
  readonly id: string;
  readonly address: string;
  readonly dir: string;
  child: ChildProcess | undefined;
}

async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${port}`;
}

const begun = performance.now();
function say(text: string): void {
  process.stdout.write(
    `[${((performance.now() - begun) / 1_000).toFixed(1).padStart(6)} s] ${text}\n`,
  );
}

const dir = await mkdtemp(join(tmpdir(), 'keychaindb-membership-'));
const lab = await Lab.start({ nodes: 1, proxies: 2, dataDir: join(dir, 'demo') });
const coordinators = lab.of('coordinator').map(({ grpc }) => grpc);
const client = lab.client({ timeoutMs: 20_000 });
const nodes = new Map<string, Node>();
const counts = new Map<string, number>();
const problems: string[] = [];
let nextId = 1;

function start(node: Node): void {
  const args = ['node', '--id', node.id, '--listen', node.address, '--http', '127.0.0.1:0'];
  args.push('--data-dir', node.dir, '--coordinators', coordinators.join());
  node.child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
}

/** Ends its process; what it has on its disk stays. */
async function kill(node: Node): Promise<void> {
  const { child } = node;
  if (child === undefined) return;
  node.child = undefined;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function begin(): Promise<Node> {
  const id = `n${nextId}`;
  nextId += 1;
  const node = { id, address: await freeAddress(), dir: join(dir, id), child: undefined };
  nodes.set(id, node);
  start(node);
  await client.addMember(id, node.address);
  return node;
}

async function until(what: string, isSo: (view: View) => boolean): Promise<View> {
  const deadline = performance.now() + settleMs;
  for (;;) {
    const view = await client.members();
    if (isSo(view)) return view;
    if (performance.now() > deadline)
      throw new Error(`not within ${settleMs} ms: ${what}: ${shape(view)}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

function shape({ epoch, members, others }: View): string {
  const text = (m: Member): string => `${m.id}:${stateName(m.state)}`;
  return `epoch ${epoch} {${members.map(text).join(' ')} | ${others.map(text).join(' ')}}`;
}

function servingIn({ members }: View): readonly Member[] {
  return members.filter((m) => m.state === MemberState.SERVING);
}

const serves = (id: string) => (view: View) => servingIn(view).some((m) => m.id === id);
const isOut = (id: string) => (view: View) => !servingIn(view).some((m) => m.id === id);

function at(serving: readonly Member[], position: Position): string {
  const middle = serving.slice(1, -1);
  if (position === 'middle' && middle.length > 0) return random.pick(middle).id;
  return (position === 'head' ? serving[0]?.id : serving.at(-1)?.id) ?? '';
}

function count(kind: string): void {
  counts.set(kind, (counts.get(kind) ?? 0) + 1);
}

/** The kind that was done least often of those that are possible now; chance decides between equals. */
function choose(possible: readonly Kind[]): Kind {
  const rare = Math.min(...possible.map((kind) => counts.get(kind) ?? 0));
  const few = possible.filter((kind) => (counts.get(kind) ?? 0) <= rare + 2);
  return random.pick(few);
}

async function change(): Promise<void> {
  const view = await client.members();
  const serving = servingIn(view);
  const down = [...nodes.values()].filter(({ child }) => child === undefined);
  // One that was killed a moment ago serves in the view yet: it can't be drained, or killed again.
  const alive = serving.filter(({ id }) => nodes.get(id)?.child !== undefined);
  const canLose = alive.length > servingMin;
  const possible: Kind[] = [];
  if (serving.length + down.length < chainMax) possible.push('add');
  if (canLose) possible.push('remove', 'drain', 'kill', 'replace');
  if (serving.length >= 2) possible.push('reorder');
  if (down.length > 0) possible.push('return');
  const kind = choose(possible.length === 0 ? ['add'] : possible);
  const position = random.pick(positions);
  const victim = at(alive, position);
  const waits = random.chance(0.7);
  count(kind);
  if (['remove', 'drain', 'kill', 'replace'].includes(kind)) count(`${kind} ${position}`);
  const node = nodes.get(victim);
  switch (kind) {
    case 'add': {
      const { id } = await begin();
      if (waits) await until(`${id} serves`, serves(id));
      return;
    }
    case 'remove': {
      await client.removeMember(victim);
      if (node === undefined) return;
      await kill(node);
      nodes.delete(victim);
      await rm(node.dir, { recursive: true, force: true });
      return;
    }
    case 'drain': {
      await client.drainMember(victim);
      await until(`${victim} is out`, isOut(victim));
      await client.addMember(victim, view.members.find((m) => m.id === victim)?.address ?? '');
      if (waits) await until(`${victim} serves`, serves(victim));
      return;
    }
    case 'reorder': {
      const ids = serving.map(({ id }) => id);
      for (let i = ids.length - 1; i > 0; i -= 1) {
        const j = random.int(i + 1);
        [ids[i], ids[j]] = [ids[j] ?? '', ids[i] ?? ''];
      }
      // Who serves may have changed since it was looked at: then it is said, and nothing is done.
      await client.reorderChain(ids).catch((error: unknown) => {
        if (!(error instanceof KeychainError && error.reason === 'BAD_REQUEST')) throw error;
      });
      return;
    }
    case 'kill': {
      if (node === undefined) return;
      await kill(node);
      if (waits) await until(`${victim} is out`, isOut(victim));
      return;
    }
    case 'return': {
      const back = random.pick(down);
      start(back);
      if (waits) await until(`${back.id} serves`, serves(back.id));
      return;
    }
    case 'replace': {
      // Its disk is gone: it goes for ever, and another one takes its place.
      if (node === undefined) return;
      await kill(node);
      await rm(node.dir, { recursive: true, force: true });
      await client.removeMember(victim);
      nodes.delete(victim);
      const { id } = await begin();
      if (waits) await until(`${id} serves`, serves(id));
      return;
    }
  }
}

async function bytesUnder(path: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(path, { withFileTypes: true }).catch(() => [])) {
    const file = join(path, entry.name);
    if (entry.isDirectory()) bytes += await bytesUnder(file);
    else bytes += (await stat(file).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}

async function bounds(): Promise<string> {
  const pids = [
    ...lab.of('coordinator').map(({ pid }) => pid),
    ...lab.of('proxy').map(({ pid }) => pid),
    ...[...nodes.values()].flatMap(({ child }) => (child?.pid === undefined ? [] : [child.pid])),
  ];
  const memory = pids.map((pid) => Math.round(usage(pid).memoryMb));
  const disks = await Promise.all([...nodes.values()].map((node) => bytesUnder(node.dir)));
  const disk = Math.max(0, ...disks);
  return `memory of each process at most ${Math.max(...memory)} MB, disk of each node at most ${Math.round(disk / 1e6)} MB`;
}

say(`seed ${seed}`);
try {
  // The demo's own node gives its place to those that can be killed here.
  const first = [await begin(), await begin(), await begin()];
  for (const { id } of first) await until(`${id} serves`, serves(id));
  await client.removeMember('node-1');
  const recorder = new Recorder();
  const load = new Load({
    clients: [lab.client({ timeoutMs: 20_000 }), lab.client({ timeoutMs: 20_000 })],
    readsPerSecond: Number(flags.reads),
    writesPerSecond: Number(flags.writes),
    recorder,
  });
  await load.prepare();
  load.start();
  for (let done = 1; done <= changes; done += 1) {
    try {
      await change();
    } catch (error) {
      problems.push(`change ${done}: ${String(error)}`);
      break;
    }
    if (done % Math.max(1, Math.floor(changes / 10)) === 0) {
      say(`${done} changes; ${shape(await client.members())}; ${await bounds()}`);
    }
  }
  for (const node of nodes.values()) if (node.child === undefined) start(node);
  const ids = [...nodes.keys()];
  await until('all serve', (view) => ids.every((id) => serves(id)(view))).catch((error: unknown) =>
    problems.push(String(error)),
  );
  const report = await load.stop();
  for (const kind of kinds) {
    if ((counts.get(kind) ?? 0) < least)
      problems.push(`${kind} only ${counts.get(kind) ?? 0} times`);
  }
  const wrong = [...report.failedReads, ...report.failedWrites, ...report.staleReads];
  for (const each of wrong) problems.push(each);
  const verdict = checkHistory(recorder.operations);
  if (!verdict.ok)
    problems.push(`the history is not linearizable: ${JSON.stringify(verdict).slice(0, 400)}`);
  say(
    [...counts]
      .sort()
      .map(([kind, times]) => `${kind} ${times}`)
      .join(', '),
  );
  say(
    `${report.reads} reads, ${report.writes} writes; longest gap of reads ${Math.round(report.readGapMs)} ms, of writes ${Math.round(report.writeGapMs)} ms`,
  );
  say(await bounds());
} finally {
  for (const node of nodes.values()) await kill(node);
  await lab.stop();
  await rm(dir, { recursive: true, force: true });
}
for (const problem of problems.slice(0, 20)) process.stdout.write(`problem: ${problem}\n`);
say(`${changes} changes, seed ${seed}: ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;

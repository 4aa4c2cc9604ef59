/*
 * Kills the head, a middle node or the tail of a chain under an open-loop load, and prints the longest gaps between
 * answers: node dist/tools/failover.js [head] [middle] [tail] [--nodes N] [--kills K] [--last] [--leader] [--stall].
 * Each is killed K times (3), in a chain of N (5), and comes back before the next one. With --last one after the other is
 * killed down to the last node; with --leader the Raft leader, until membership can be changed again; with --stall nobody:
 * every node is stopped for 600 ms, K times, beside processes that take all of the CPU, and must keep its place.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { Lab, servingIds } from './lab/cluster.js';
import { Load } from './lab/load.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nodes: { type: 'string', default: '5' },
    kills: { type: 'string', default: '3' },
    last: { type: 'boolean', default: false },
    leader: { type: 'boolean', default: false },
    stall: { type: 'boolean', default: false },
  },
});
const nodes = Number(values.nodes);
const kills = Number(values.kills);
const settleMs = 1_500;
const stallMs = 600;

type Position = 'head' | 'middle' | 'tail';

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
const print = (line: string): boolean => process.stdout.write(`${line}\n`);

async function underLoad(run: (lab: Lab, load: Load) => Promise<void>): Promise<boolean> {
  const lab = await Lab.start({ nodes });
  try {
    const clients = [lab.client(), lab.client()];
    const load = new Load({ clients, readsPerSecond: 500, writesPerSecond: 100 });
    await load.prepare();
    load.start();
    await pause(settleMs);
    await run(lab, load);
    const report = await load.stop();
    const { staleReads, failedReads, failedWrites } = report;
    print(
      `       ${report.reads} reads, ${report.writes} writes, ${failedReads.length} failed reads, ` +
        `${failedWrites.length} failed writes, ${staleReads.length} stale or lost`,
    );
    for (const text of [...staleReads, ...failedReads, ...failedWrites].slice(0, 5)) {
      print(`  ${text}`);
    }
    return staleReads.length === 0 && failedReads.length === 0;
  } finally {
    await lab.stop();
  }
}

/** Kills whoever has that position now, of so many that serve. */
async function kill(lab: Lab, load: Load, position: Position, count = nodes): Promise<string> {
  const alive = servingIds(await lab.until('all serve', (v) => servingIds(v).length === count));
  const at = { head: 0, middle: Math.floor(alive.length / 2), tail: alive.length - 1 }[position];
  const victim = alive[at] ?? '';
  load.restartGaps();
  const killed = performance.now();
  await lab.kill(victim);
  await lab.serving(alive.filter((id) => id !== victim));
  const outMs = Math.round(performance.now() - killed);
  await pause(settleMs);
  const { writeGapMs, readGapMs } = load.gaps;
  print(
    `${position.padEnd(6)} killed, ${victim} of ${alive.join(' ')}: out after ${outMs} ms; ` +
      `longest gap between answered writes ${writeGapMs} ms, reads ${readGapMs} ms`,
  );
  return victim;
}

async function back(lab: Lab, victims: readonly string[]): Promise<void> {
  const from = performance.now();
  for (const victim of victims) lab.start(victim);
  await lab.until('the killed nodes serve again', (v) => servingIds(v).length === nodes);
  print(`       back in the chain after ${Math.round(performance.now() - from)} ms`);
  await pause(settleMs);
}

function killedAt(position: Position): Promise<boolean> {
  return underLoad(async (lab, load) => {
    for (let round = 0; round < kills; round += 1) {
      await back(lab, [await kill(lab, load, position)]);
    }
  });
}

function toTheLast(): Promise<boolean> {
  return underLoad(async (lab, load) => {
    const victims: string[] = [];
    while (victims.length < nodes - 1) {
      victims.push(await kill(lab, load, 'tail', nodes - victims.length));
    }
    await back(lab, victims);
  });
}

/** Takes all of the CPU. */
function saturate(): readonly ChildProcess[] {
  return Array.from({ length: 2 * availableParallelism() }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
}

/** Who lives keeps its place: no view is decided while nodes stand still, one after the other. */
async function stalled(): Promise<boolean> {
  let changes = 0;
  const isGood = await underLoad(async (lab, load) => {
    const before = await lab.until('all serve', (v) => servingIds(v).length === nodes);
    const spinners = saturate();
    try {
      let longestMs = 0;
      load.restartGaps();
      for (let round = 0; round < kills; round += 1) {
        for (const id of servingIds(before)) {
          lab.signal(id, 'SIGSTOP');
          const from = performance.now();
          await pause(stallMs);
          lab.signal(id, 'SIGCONT');
          longestMs = Math.max(longestMs, performance.now() - from);
          await pause(settleMs);
        }
      }
      const after = await lab.until('a coordinator answers', () => true);
      changes = Number(after.epoch) - Number(before.epoch);
      const { writeGapMs, readGapMs } = load.gaps;
      print(
        `each of ${nodes} nodes stopped ${kills} times for ${stallMs} ms (at most ${Math.round(longestMs)}), ${spinners.length} ` +
          `processes spinning: ${changes} changes of the chain; longest gap between answered writes ${writeGapMs} ms, reads ${readGapMs} ms`,
      );
    } finally {
      for (const spinner of spinners) spinner.kill('SIGKILL');
    }
  });
  return isGood && changes === 0;
}

/** Milliseconds from the death of the Raft leader to a change of membership that another coordinator took. */
async function leaderless(): Promise<void> {
  const lab = await Lab.start();
  try {
    const took: number[] = [];
    for (let round = 0; round < 5; round += 1) {
      const { leader } = await lab.client().status();
      const rest = lab.of('coordinator').filter(({ id }) => id !== leader);
      const client = lab.client({ endpoints: rest.map(({ grpc }) => grpc), timeoutMs: 10_000 });
      await client.status();
      await lab.kill(leader);
      const killed = performance.now();
      await client.addMember(`spare-${round}`, `127.0.0.1:${round + 1}`);
      took.push(Math.round(performance.now() - killed));
      lab.start(leader);
      await lab.until('the member is back', (v) => v.others.length > round);
      await pause(settleMs);
    }
    process.stdout.write(
      `leader killed: membership changed again after ${took.join(', ')} ms (an election timeout is 300 to 600 ms)\n`,
    );
  } finally {
    await lab.stop();
  }
}

let isGood = true;
if (values.leader) await leaderless();
else if (values.stall) isGood = await stalled();
else if (values.last) isGood = await toTheLast();
else {
  for (const position of ['head', 'middle', 'tail'] as const) {
    if (positionals.length > 0 && !positionals.includes(position)) continue;
    isGood = (await killedAt(position)) && isGood;
  }
}
process.exitCode = isGood ? 0 : 1;

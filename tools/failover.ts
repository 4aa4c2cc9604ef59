/*
 * Kills the head, a middle node or the tail of a chain of five under an open-loop load, and prints the longest
 * gaps between answers: node dist/tools/failover.js [head] [middle] [tail] [--last] [--leader]. With --last it goes on
 * to the last node; with --leader it kills the Raft leader, and prints when membership can be changed again.
 */
import { Lab, servingIds } from './lab/cluster.js';
import { Load } from './lab/load.js';

const settleMs = 1_500;

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

async function once(position: 'head' | 'middle' | 'tail', last: boolean): Promise<boolean> {
  const lab = await Lab.start({ nodes: 5 });
  try {
    const clients = [lab.client(), lab.client()];
    const load = new Load({ clients, readsPerSecond: 500, writesPerSecond: 100 });
    await load.prepare();
    load.start();
    await pause(settleMs);
    const view = await lab.until('five serve', (v) => servingIds(v).length === 5);
    let alive = servingIds(view);
    const victims: string[] = [];
    do {
      const at = { head: 0, middle: Math.floor(alive.length / 2), tail: alive.length - 1 }[
        position
      ];
      const victim = alive[at] ?? '';
      victims.push(victim);
      load.restartGaps();
      await lab.kill(victim);
      alive = alive.filter((id) => id !== victim);
      await lab.serving(alive);
      await pause(settleMs);
    } while (last && alive.length > 1);
    const before = load.answered;
    for (const victim of victims) lab.start(victim);
    const back = performance.now();
    const returned = await lab.until(
      'the killed nodes serve again',
      (v) => servingIds(v).length === 5,
    );
    const backMs = Math.round(performance.now() - back);
    await pause(settleMs);
    const report = await load.stop();
    const isGood = report.staleReads.length === 0 && report.failedReads.length === 0;
    process.stdout.write(
      `${position.padEnd(6)} killed ${victims.join(', ')}: longest gap between answered writes ${report.writeGapMs} ms, reads ${report.readGapMs} ms; ` +
        `${report.reads} reads, ${report.writes} writes, ${report.failedReads.length} failed reads, ${report.failedWrites.length} failed writes, ` +
        `${report.staleReads.length} stale or lost; back in the chain after ${backMs} ms (${servingIds(returned).join(' ')}), ${report.writes - before.writes} writes meanwhile\n`,
    );
    for (const text of [...report.staleReads, ...report.failedReads, ...report.failedWrites].slice(
      0,
      5,
    )) {
      process.stdout.write(`  ${text}\n`);
    }
    return isGood;
  } finally {
    await lab.stop();
  }
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

if (process.argv.includes('--leader')) {
  await leaderless();
  process.exit(0);
}
const isLast = process.argv.includes('--last');
const positions = (['head', 'middle', 'tail'] as const).filter(
  (position) => process.argv.length < 3 || isLast || process.argv.includes(position),
);
let isGood = true;
for (const position of isLast ? (['tail'] as const) : positions) {
  isGood = (await once(position, isLast)) && isGood;
}
process.exitCode = isGood ? 0 : 1;

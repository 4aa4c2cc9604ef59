/*
 * Kills, stops and cuts the processes of a real cluster while clients use it, and checks that what they were answered is
 * linearizable: node dist/tools/chaos.js [--seconds 60] [--nodes 5] [--seed N] [--history FILE] [--netns]. With --netns
 * (root on Linux, iproute2) every process has a network namespace, and single directions are cut without a sign.
 * The seed fixes the faults and what clients ask; when things happen is up to the machine.
 */
import { appendFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type KeychainClient, KeychainError } from '../src/client/client.js';
import { formatOperation } from '../test/history/file.js';
import { checkHistory } from '../test/history/linearizability.js';
import { SeededRandom } from '../test/sim/schedule.js';
import { Lab } from './lab/cluster.js';
import { obstacleToEndConnections } from './lab/connections.js';
import { Faults, pause, startLogged } from './lab/faults.js';
import { differencesFromReplay } from './lab/inspect.js';
import { idsOf, namespacedLab } from './lab/namespaced.js';
import { Network, outside } from './lab/network.js';
import { type RecordedProcess, Recorder } from './lab/recorder.js';

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    nodes: { type: 'string', default: '5' },
    seed: { type: 'string' },
    history: { type: 'string' },
    netns: { type: 'boolean', default: false },
  },
});
const seconds = Number(flags.seconds);
const seed = flags.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(flags.seed);
const counts = { coordinators: 3, nodes: Number(flags.nodes), proxies: 2 };
if (!(seconds > 0 && counts.nodes > 0 && Number.isInteger(seed))) {
  throw new Error('--seconds, --nodes and --seed are numbers');
}
const clientCount = 8;
const keys = Array.from({ length: 20 }, (_, index) => `chaos/${index}`);
const patienceMs = 5_000;
const hastyMs = 300;
const recoveryMs = 60_000;

const begun = performance.now();
const dir = await mkdtemp(join(tmpdir(), 'keychaindb-chaos-'));
const random = new SeededRandom(seed);
const recorder = new Recorder();
const problems: string[] = [];

function say(text: string): void {
  const line = `[${((performance.now() - begun) / 1_000).toFixed(1)} s] ${text}\n`;
  process.stdout.write(line);
  appendFileSync(join(dir, 'chaos.log'), line);
}

/** The longest time between two answers to anybody, or from the last one to the end. */
class Gap {
  longestMs = 0;
  #at = performance.now();

  mark(): void {
    const now = performance.now();
    this.longestMs = Math.max(this.longestMs, Math.round(now - this.#at));
    this.#at = now;
  }
}

/** A client that asks one thing after the other until then. */
class LoopingClient {
  readonly #name: string;
  readonly #random: SeededRandom;
  readonly #process: RecordedProcess;
  readonly #client: KeychainClient;
  readonly #nodes: readonly KeychainClient[];
  readonly #directShare: number;
  #written = 0;

  constructor(
    name: string,
    client: KeychainClient,
    nodes: readonly KeychainClient[],
    directShare: number,
  ) {
    this.#name = name;
    this.#random = random.fork();
    this.#process = recorder.process(name);
    this.#client = client;
    this.#nodes = nodes;
    this.#directShare = directShare;
  }

  async run(until: number, reads: Gap, writes: Gap): Promise<void> {
    while (performance.now() < until) {
      const isRead = this.#random.chance(0.5);
      try {
        await (isRead ? this.#read() : this.#write());
        (isRead ? reads : writes).mark();
      } catch (error) {
        if (!(error instanceof KeychainError)) throw error;
      }
      await pause(this.#random.between(0, 8));
    }
  }

  /** Through a proxy, or at one node: which answers for itself, or not at all. */
  async #read(): Promise<void> {
    const key = this.#random.pick(keys);
    const isDirect = this.#random.chance(this.#directShare);
    const client = isDirect ? this.#random.pick(this.#nodes) : this.#client;
    const timeoutMs = isDirect ? hastyMs : patienceMs;
    await this.#process.read(key, () => client.get(key, { timeoutMs }));
  }

  /** Some have so little time that their outcome often stays unknown. */
  async #write(): Promise<void> {
    const key = this.#random.pick(keys);
    const timeoutMs = this.#random.chance(0.1) ? hastyMs : patienceMs;
    if (this.#random.chance(0.15)) {
      await this.#process.delete(key, () => this.#client.delete(key, { timeoutMs }));
      return;
    }
    this.#written += 1;
    const value = `${this.#name}/${this.#written}`;
    await this.#process.put(key, value, () => this.#client.put(key, value, { timeoutMs }));
  }
}

async function openNetwork(): Promise<Network | undefined> {
  if (!flags.netns) return undefined;
  const obstacle = await Network.obstacle();
  if (obstacle === undefined) return Network.open(idsOf(counts));
  say(`skipped: --netns: ${obstacle}`);
  return undefined;
}

async function startLab(network: Network | undefined): Promise<Lab> {
  const ids = idsOf(counts);
  if (network === undefined) return Lab.start({ ...counts, dataDir: dir });
  const lab = namespacedLab(network, counts, dir);
  for (const id of ids) startLogged(lab, id);
  await lab.serving(
    lab.of('node').map(({ id }) => id),
    recoveryMs,
  );
  return lab;
}

/** A cut must cut, and what is healed must work: else a run would prove little. */
async function proveCuts(network: Network, lab: Lab): Promise<void> {
  const [proxy] = lab.of('proxy');
  if (proxy === undefined) return;
  const answers = (): Promise<boolean> =>
    fetch(`http://${proxy.http}/livez`, { signal: AbortSignal.timeout(2_000) }).then(
      (response) => response.ok,
      () => false,
    );
  const ways = [[outside, proxy.id] as const, [proxy.id, outside] as const];
  for (const [from, to] of ways) {
    await network.cut(from, to);
    if (await answers()) throw new Error(`${from} still reaches ${to} after a cut`);
    await network.heal(from, to);
    if (!(await answers())) throw new Error(`${from} does not reach ${to} after a cut was healed`);
  }
}

/** Each node is asked for each key, once everything is well again. */
async function readEverywhere(lab: Lab): Promise<void> {
  const client = lab.client();
  for (const { id } of lab.of('node')) {
    const process_ = recorder.process(`last-look-at-${id}`);
    for (const key of keys) {
      const read = await process_.read(key, () =>
        client.get(key, { node: id, timeoutMs: patienceMs }),
      );
      const node = read?.served?.node ?? id;
      if (node !== id) problems.push(`${node} answered a read that asked ${id}`);
    }
  }
}

/** Notes what went wrong, and goes on: what was recorded until then is checked all the same. */
async function attempt(what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Rejects where clients go on for long after their time. */
async function hangs(until: number): Promise<void> {
  await pause(until - performance.now() + patienceMs + recoveryMs);
  throw new Error('a client has no answer long after its deadline');
}

async function chaos(lab: Lab, network: Network | undefined): Promise<string> {
  const obstacle = network === undefined ? await obstacleToEndConnections() : undefined;
  if (obstacle !== undefined) say(`skipped: cuts: ${obstacle}`);
  if (network !== undefined) await proveCuts(network, lab);
  const endsConnections = obstacle === undefined;
  const faults = new Faults({ lab, random: random.fork(), network, endsConnections, say });
  const reads = new Gap();
  const writes = new Gap();
  const proxies = lab.of('proxy').map(({ grpc }) => grpc);
  const nodes = lab.of('node').map(({ grpc }) => lab.client({ endpoints: [grpc] }));
  const until = performance.now() + seconds * 1_000;
  const clients = Array.from({ length: clientCount }, (_, index) => {
    const endpoints = index % 2 === 0 ? proxies : [...proxies].reverse();
    const directShare = index < 3 ? 0.9 : 0;
    return new LoopingClient(`client-${index + 1}`, lab.client({ endpoints }), nodes, directShare);
  });
  const running = Promise.all(clients.map((client) => client.run(until, reads, writes))).then(
    () => {
      reads.mark();
      writes.mark();
    },
  );
  await Promise.all([
    attempt('faults', () => faults.run(until)),
    attempt('clients', () => Promise.race([running, hangs(until)])),
  ]);
  const reasons = [...recorder.reasons].map(([reason, count]) => `${reason}: ${count}`);
  say(`every fault is over; failed operations: ${reasons.join(', ') || 'none'}`);
  await attempt('recovery', async () => {
    await lab.serving(
      lab.of('node').map(({ id }) => id),
      recoveryMs,
    );
  });
  const failedReads = recorder.failedReads;
  await attempt('last look', () => readEverywhere(lab));
  await attempt('replay', async () => {
    problems.push(...(await differencesFromReplay(lab)));
  });
  problems.push(...faults.problems);
  const { kills, stops, cuts, foldersRemoved } = faults;
  return (
    `seed ${seed}: ${seconds} s, ${recorder.operations.length} operations, ` +
    `${recorder.unknownOutcomes} unknown outcomes, ${kills} kills, ${stops} stops, ${cuts} cuts, ` +
    `${foldersRemoved} folders removed, longest write gap ${writes.longestMs} ms, ` +
    `longest read gap ${reads.longestMs} ms, ${failedReads} failed reads, ` +
    `${recorder.refusedWrites} refused writes, longest operation ${recorder.longestMs} ms`
  );
}

function judge(): string {
  const operations = [...recorder.operations].sort((a, b) => a.start - b.start);
  const lines = operations.map((operation) => `${formatOperation(operation)}\n`).join('');
  writeFileSync(join(dir, 'history.jsonl'), lines);
  if (flags.history !== undefined) writeFileSync(flags.history, lines);
  const verdict = checkHistory(operations);
  if (verdict.ok) return 'linearizable';
  const involved = verdict.operations.map(formatOperation).join('\n');
  problems.push(`${verdict.kind} at ${verdict.key}: ${verdict.message}\n${involved}`);
  return `${verdict.kind} at ${verdict.key}: ${verdict.message}`;
}

/** Nothing of the run stays behind, stopped or cut off as it may be; but the folder does. */
function leave(): void {
  for (const { pid } of lab?.processes ?? []) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It is down.
    }
  }
  process.exit(130);
}

say(`seed ${seed}, in ${dir}`);
const network = await openNetwork();
let lab: Lab | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void Promise.resolve(network?.close()).finally(leave);
  });
}
let figures = '';
try {
  lab = await startLab(network);
  say(`${counts.nodes} nodes serve`);
  figures = await chaos(lab, network);
} finally {
  await lab?.stop();
  await network?.close();
}
const verdict = judge();
for (const problem of problems) process.stdout.write(`${problem}\n`);
process.stdout.write(`${figures}: ${verdict}\n`);
if (problems.length === 0) await rm(dir, { recursive: true });
else process.stdout.write(`the folders, logs and the history stay in ${dir}\n`);
process.exit(problems.length === 0 ? 0 : 1);

import { closeSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { KeychainClient, View } from '../../src/client/client.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { SeededRandom } from '../../test/sim/schedule.js';
import { type Lab, type LabProcess, servingIds } from './cluster.js';
import { endConnections } from './connections.js';
import { type Network, outside } from './network.js';

export interface FaultsOptions {
  readonly lab: Lab;
  readonly random: SeededRandom;
  /** Where the processes run, if connections can be cut there. */
  readonly network?: Network | undefined;
  /** Can TCP connections be ended from outside? */
  readonly endsConnections: boolean;
  readonly say: (text: string) => void;
}

type Kind = 'kill' | 'stop' | 'cut' | 'divide' | 'kill all nodes' | 'remove folder';

/** Each kind is as likely as it stands here often. */
const kinds: readonly Kind[] = [
  ...(['kill', 'kill', 'kill', 'kill', 'kill', 'kill', 'kill', 'kill'] as const),
  ...(['stop', 'stop', 'stop', 'stop', 'stop', 'stop', 'stop'] as const),
  ...(['cut', 'cut', 'cut', 'cut', 'cut', 'cut', 'cut', 'cut', 'cut', 'cut'] as const),
  ...(['divide', 'divide', 'divide', 'kill all nodes', 'remove folder', 'remove folder'] as const),
];
const roles: readonly LabProcess['role'][] = [
  ...(['node', 'node', 'node', 'node'] as const),
  ...(['coordinator', 'coordinator', 'proxy'] as const),
];
/** From one process to another. */
type Way = readonly [from: string, to: string];

const recoveryMs = 60_000;

/** Kills, stops and cuts real processes by a seeded schedule, and brings every one of them back. */
export class Faults {
  kills = 0;
  stops = 0;
  cuts = 0;
  foldersRemoved = 0;
  /** Processes that ended though nobody ended them, and faults that could not be brought about. */
  readonly problems: string[] = [];
  readonly #options: FaultsOptions;
  readonly #coordinators: readonly KeychainClient[];
  /** Processes with a fault under way: they get no second one. */
  readonly #faulty = new Set<string>();
  /** Processes that do not run, by our doing. */
  readonly #down = new Set<string>();
  readonly #underWay = new Set<Promise<void>>();

  constructor(options: FaultsOptions) {
    this.#options = options;
    this.#coordinators = options.lab
      .of('coordinator')
      .map(({ grpc }) => options.lab.client({ endpoints: [grpc], timeoutMs: 1_000 }));
  }

  /** Begins faults until then; resolves when the last one is over. */
  async run(until: number): Promise<void> {
    const { random } = this.#options;
    const watch = setInterval(() => this.#look(), 100);
    try {
      while (performance.now() < until) {
        const step = random.fork();
        await pause(step.between(200, 2_000));
        await this.#next(step);
      }
      await Promise.all(this.#underWay);
    } finally {
      clearInterval(watch);
      this.#look();
    }
  }

  async #next(random: SeededRandom): Promise<void> {
    const kind = random.pick(kinds);
    if (kind === 'remove folder') return this.#removeFolder(random);
    if (kind === 'kill all nodes') return this.#killAllNodes(random);
    if (kind === 'divide') return this.#beginDivision(random);
    const victim = this.#victim(random);
    if (victim === undefined) return;
    if (kind === 'kill') this.#begin(victim.id, this.#kill(victim.id, random.between(0, 4_000)));
    if (kind === 'stop') this.#begin(victim.id, this.#stop(victim.id, lasting(random)));
    if (kind === 'cut') this.#begin(victim.id, this.#cut(victim, random));
  }

  #begin(id: string, fault: Promise<void>): void {
    this.#faulty.add(id);
    const work = fault
      .catch((error: unknown) => {
        this.problems.push(`${id}: ${error instanceof Error ? error.message : String(error)}`);
      })
      .finally(() => {
        this.#faulty.delete(id);
        this.#underWay.delete(work);
      });
    this.#underWay.add(work);
  }

  /**
   * A majority of the nodes and of the coordinators, and one proxy, are left alone: a chain that can't go on has nobody
   * to differ from.
   */
  #victim(random: SeededRandom): LabProcess | undefined {
    const role = random.pick(roles);
    const all = this.#options.lab.of(role);
    const sound = all.filter(({ id }) => !this.#faulty.has(id));
    const left = role === 'proxy' ? 1 : Math.floor(all.length / 2) + 1;
    return sound.length > left ? random.pick(sound) : undefined;
  }

  async #kill(id: string, forMs: number): Promise<void> {
    this.#say(`kill ${id} for ${Math.round(forMs)} ms`);
    this.kills += 1;
    this.#down.add(id);
    await this.#options.lab.kill(id);
    await pause(forMs);
    this.#start(id);
  }

  async #stop(id: string, forMs: number): Promise<void> {
    this.#say(`stop ${id} for ${Math.round(forMs)} ms`);
    this.stops += 1;
    this.#options.lab.signal(id, 'SIGSTOP');
    await pause(forMs);
    this.#options.lab.signal(id, 'SIGCONT');
  }

  async #cut({ id, grpc }: LabProcess, random: SeededRandom): Promise<void> {
    const { network, endsConnections } = this.#options;
    if (network !== undefined) return this.#cutOff(network, id, random);
    if (!endsConnections) return;
    this.#say(`end the connections of ${id}`);
    this.cuts += 1;
    await endConnections(Number(grpc.split(':')[1]));
  }

  #beginDivision(random: SeededRandom): void {
    const { network } = this.#options;
    const name = 'division';
    if (network === undefined || this.#faulty.has(name)) return;
    this.#begin(name, this.#divide(network, random));
  }

  /** Two sides that don't hear each other, or one that doesn't hear the other; clients are on one of them, or reach both. */
  async #divide(network: Network, random: SeededRandom): Promise<void> {
    const one: string[] = [];
    const other: string[] = [];
    for (const { id } of this.#options.lab.processes) (random.chance(0.5) ? one : other).push(id);
    if (random.chance(0.5)) other.push(outside);
    const isOneWay = random.chance(0.3);
    const forMs = lasting(random);
    const sides = `${one.join(' ')} ${isOneWay ? '->' : '<->'} ${other.join(' ')}`;
    const ways = one.flatMap((from) =>
      other.flatMap((to): Way[] => [[from, to], ...(isOneWay ? [] : [[to, from] as const])]),
    );
    this.#say(`divide for ${Math.round(forMs)} ms: ${sides}`);
    await this.#cutFor(network, ways, forMs);
  }

  async #cutFor(network: Network, ways: readonly Way[], forMs: number): Promise<void> {
    this.cuts += 1;
    await Promise.all(ways.map(([from, to]) => network.cut(from, to)));
    await pause(forMs);
    await Promise.all(ways.map(([from, to]) => network.heal(from, to)));
  }

  /**
   * From or to one other, or all of them; sometimes both directions. Clients mostly reach it as before: it has to know
   * by itself what it may still answer.
   */
  async #cutOff(network: Network, id: string, random: SeededRandom): Promise<void> {
    const others = this.#options.lab.processes.map((each) => each.id).filter((o) => o !== id);
    const peers = random.pick([others, others, [...others, outside], [random.pick(others)]]);
    const arrow = random.pick(['->', '<-', '<->'] as const);
    const forMs = lasting(random);
    const all = peers.includes(outside) ? 'everyone' : 'all processes';
    const name = peers.length === 1 ? (peers[0] ?? '') : all;
    this.#say(`cut ${id} ${arrow} ${name} for ${Math.round(forMs)} ms`);
    const ways = peers.flatMap((peer): Way[] => [
      ...(arrow === '<-' ? [] : [[id, peer] as const]),
      ...(arrow === '->' ? [] : [[peer, id] as const]),
    ]);
    await this.#cutFor(network, ways, forMs);
  }

  /** None is left to serve: the chain goes on from the stores, in whatever order they come back. */
  async #killAllNodes(random: SeededRandom): Promise<void> {
    await Promise.all(this.#underWay);
    this.#say('kill all nodes');
    for (const { id } of this.#options.lab.of('node')) {
      this.#begin(id, this.#kill(id, random.between(0, 3_000)));
    }
  }

  /**
   * A node loses its folder while it is down. Nothing else goes wrong meanwhile, and other nodes serve: what was
   * acknowledged is in their stores.
   */
  async #removeFolder(random: SeededRandom): Promise<void> {
    const { lab } = this.#options;
    const copies = Math.min(3, lab.of('node').length);
    await Promise.all(this.#underWay);
    const before = await this.#untilAgreed((view) => servingIds(view).length >= copies);
    const id = random.pick(servingIds(before));
    const { incarnation = 0 } = before.members.find((member) => member.id === id) ?? {};
    const forMs = random.between(0, 3_000);
    this.#say(`kill ${id} and remove its folder, for ${Math.round(forMs)} ms`);
    this.kills += 1;
    this.#down.add(id);
    await lab.kill(id);
    const now = await this.#untilAgreed(() => true);
    const isSafe = servingIds(now).some((other) => other !== id);
    if (isSafe) {
      await rm(lab.named(id).dataDir, { recursive: true });
      this.foldersRemoved += 1;
    } else {
      this.#say(`${id} keeps its folder: no other one serves`);
    }
    await pause(forMs);
    this.#start(id);
    await this.#untilAgreed(({ members }) =>
      members.some(
        (m) => m.id === id && m.state === MemberState.SERVING && m.incarnation > incarnation,
      ),
    );
    this.#say(`${id} serves again`);
  }

  /** Resolves when every coordinator shows the same view, and it is as wanted: one alone may show an old one. */
  async #untilAgreed(isSo: (view: View) => boolean): Promise<View> {
    const deadline = performance.now() + recoveryMs;
    let shown: readonly (View | undefined)[] = [];
    while (performance.now() < deadline) {
      shown = await Promise.all(
        this.#coordinators.map((client) => client.members().catch(() => undefined)),
      );
      const [view] = shown;
      const isAgreed = shown.every((each) => each !== undefined && each.epoch === view?.epoch);
      if (view !== undefined && isAgreed && isSo(view)) return view;
      await pause(25);
    }
    throw new Error(`not within ${recoveryMs} ms; the coordinators show ${JSON.stringify(shown)}`);
  }

  #start(id: string): void {
    startLogged(this.#options.lab, id);
    this.#down.delete(id);
  }

  /** Looks for processes that are gone; each is started again, so that the run goes on. */
  #look(): void {
    const { lab } = this.#options;
    for (const { id, pid } of lab.processes) {
      if (this.#down.has(id) || isRunning(pid)) continue;
      this.problems.push(`${id} ended by itself: ${lab.dir}/${id}.log`);
      this.#say(`${id} has ended by itself`);
      this.#start(id);
    }
  }

  #say(text: string): void {
    this.#options.say(text);
  }
}

/** Half of the times long enough for the chain to go on without a node, which takes up to two seconds. */
function lasting(random: SeededRandom): number {
  return random.chance(0.5) ? random.between(200, 2_000) : random.between(2_500, 5_000);
}

/** Starts a process; what it says goes on in its log. */
export function startLogged(lab: Lab, id: string): void {
  const output = openSync(join(lab.dir, `${id}.log`), 'a');
  lab.start(id, output);
  closeSync(output);
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

import { createHash } from 'node:crypto';
import { servingOf } from '../../src/chain/views.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { World } from './world.js';

/** How often each action may be taken on one path; an action that isn't named is never taken. */
export interface Budget {
  readonly write?: number;
  /** The newest write's request once more, at whoever is the head. */
  readonly retry?: number;
  readonly read?: number;
  readonly evict?: number;
  readonly reorder?: number;
  readonly tick?: number;
  readonly crash?: number;
  readonly restart?: number;
  readonly startSync?: number;
  readonly report?: number;
  readonly hold?: number;
  readonly release?: number;
}

/** Where a search starts and what its adversary may do; all of it is searched, within `depth` actions. */
export interface Scenario {
  readonly name: string;
  readonly members: readonly string[];
  readonly waiting: readonly string[];
  /** Actions before the search begins, each as an action's text. */
  readonly first?: readonly string[];
  readonly budget: Budget;
  /** Channels that may be held, by the beginning of their names; all of them without it. */
  readonly channels?: readonly string[];
  readonly depth: number;
}

export interface SearchResult {
  readonly name: string;
  readonly states: number;
  readonly transitions: number;
  /** Actions from the start within which everything was searched. */
  readonly depth: number;
  /** Everything within the scenario's budget and depth was searched. */
  readonly isComplete: boolean;
  /** The shortest way to a state in which something broke. */
  readonly failure?: { readonly error: unknown; readonly path: readonly string[] };
}

/** One state in so many is looked at for liveness. */
const restoredEach = 8;

interface Reached {
  readonly world: World;
  readonly path: Path | undefined;
}

interface Path {
  readonly action: string;
  readonly before: Path | undefined;
}

/**
 * Breadth first over everything that the adversary may do: holding and releasing channels, time, crashes,
 * evictions, joins, writes, reads. Between two actions everything that isn't held arrives.
 */
export function search(scenario: Scenario, bounds: { readonly states: number }): SearchResult {
  const { name } = scenario;
  let transitions = 0;
  let depth = 0;
  const start = startOf(scenario);
  const seen = new Set([digest(start)]);
  let frontier: Reached[] = [{ world: start, path: undefined }];
  const end = (rest: Partial<SearchResult>): SearchResult => ({
    name,
    states: seen.size,
    transitions,
    depth,
    isComplete: true,
    ...rest,
  });
  while (frontier.length > 0 && depth < scenario.depth) {
    const next: Reached[] = [];
    for (const { world, path } of frontier) {
      for (const action of actionsOf(world, scenario)) {
        const to = world.copy();
        const way = { action, before: path };
        try {
          perform(to, action);
        } catch (error) {
          return end({ failure: { error, path: pathOf(way) } });
        }
        transitions += 1;
        const text = digest(to);
        if (seen.has(text)) continue;
        seen.add(text);
        if (seen.size % restoredEach === 0) {
          try {
            to.copy().mustRestore();
          } catch (error) {
            return end({ failure: { error, path: [...pathOf(way), 'restore'] } });
          }
        }
        if (seen.size >= bounds.states) return end({ isComplete: false });
        next.push({ world: to, path: way });
      }
    }
    frontier = next;
    depth += 1;
  }
  return end({});
}

/** Runs a way through a scenario; throws where something breaks on it. */
export function follow(scenario: Scenario, path: readonly string[]): World {
  const world = startOf(scenario);
  for (const action of path) perform(world, action);
  return world;
}

function startOf({ members, waiting, first }: Scenario): World {
  const world = World.start(members, waiting);
  for (const action of first ?? []) perform(world, action);
  world.spent.clear();
  return world;
}

function digest(world: World): string {
  return createHash('sha1').update(world.text).digest('base64');
}

function pathOf(way: Path): readonly string[] {
  const actions: string[] = [];
  for (let at: Path | undefined = way; at !== undefined; at = at.before) actions.push(at.action);
  return actions.reverse();
}

/** Every action that is possible here and within the budget. */
function actionsOf(world: World, { budget, channels }: Scenario): readonly string[] {
  const actions: string[] = [];
  const may = (what: keyof Budget): boolean => (world.spent.get(what) ?? 0) < (budget[what] ?? 0);
  const live = [...world.processes].filter(([, { alive }]) => alive).map(([id]) => id);
  if (may('tick')) actions.push('tick');
  for (const id of live) {
    const { state } = world.process(id);
    if (state.active === undefined || state.removed) continue;
    const serving = servingOf(state.active).map((m) => m.id);
    if (may('write') && serving[0] === id) actions.push(`write ${id}`);
    if (may('retry') && serving[0] === id && world.hasWritten) actions.push(`retry ${id}`);
    if (may('read') && serving.includes(id)) actions.push(`read ${id}`);
  }
  if (may('reorder')) {
    const order = servingOf(world.view).map((m) => m.id);
    for (const other of ordersOf(order)) {
      if (other.join() !== order.join()) actions.push(`reorder ${other.join()}`);
    }
  }
  for (const { id, state } of world.view.members) {
    if (may('evict') && world.mayEvict(id)) actions.push(`evict ${id}`);
    if (may('crash') && live.includes(id) && state !== MemberState.SYNCING) {
      actions.push(`crash ${id}`);
    }
  }
  for (const [id, { alive }] of world.processes) {
    if (may('restart') && !alive) actions.push(`restart ${id}`);
  }
  for (const { id, state } of world.view.others) {
    if (state !== MemberState.WAITING || !live.includes(id)) continue;
    const isFree = world.view.members.every((m) => m.state === MemberState.SERVING);
    if (may('startSync') && isFree) actions.push(`startSync ${id}`);
    if (world.mayReinstate(id)) actions.push(`reinstate ${id}`);
  }
  if (world.change !== undefined) actions.push('apply');
  else if (may('report') && world.copy().takeReport()) actions.push('report');
  if (may('hold')) {
    for (const channel of channelsOf(world)) {
      const isMeant = channels?.some((part) => channel.startsWith(part)) ?? true;
      if (isMeant && !world.held.has(channel)) actions.push(`hold ${channel}`);
    }
  }
  if (may('release')) for (const channel of world.held) actions.push(`release ${channel}`);
  return actions;
}

function ordersOf(ids: readonly string[]): readonly (readonly string[])[] {
  if (ids.length <= 1) return [ids];
  return ids.flatMap((first) =>
    ordersOf(ids.filter((id) => id !== first)).map((rest) => [first, ...rest]),
  );
}

/** What can be held: views to a node, and between members what flows along the chain and beside it. */
function channelsOf(world: World): readonly string[] {
  const ids = [...world.processes.keys()];
  const channels = ids.map((id) => `view ${id}`);
  const chain = world.view.members.map((m) => m.id);
  for (let i = 0; i + 1 < chain.length; i += 1) {
    channels.push(`data ${chain[i]}>${chain[i + 1]}`, `ack ${chain[i + 1]}>${chain[i]}`);
  }
  for (const a of ids) {
    for (const b of ids) {
      if (a < b) channels.push(`promise ${a}-${b}`);
      if (a !== b) {
        channels.push(`watermarkQuery ${a}>${b}`, `watermarkAnswer ${a}>${b}`, `stopped ${a}>${b}`);
      }
    }
    channels.push(`disk ${a}`);
  }
  return channels;
}

/** What each action does. */
const verbs: Readonly<Record<string, (world: World, what: string) => void>> = {
  tick: (world) => world.tick(),
  write: (world, id) => world.write(id),
  retry: (world, id) => world.write(id, true),
  read: (world, id) => world.read(id),
  evict: (world, id) => world.evict(id),
  reorder: (world, ids) => world.reorder(ids.split(',')),
  crash: (world, id) => world.crash(id),
  restart: (world, id) => world.restart(id),
  reinstate: (world, id) => world.reinstate(id),
  startSync: (world, id) => world.startSync(id),
  report: (world) => world.takeReport(),
  apply: (world) => world.applyChange(),
  restore: (world) => world.mustRestore(),
  hold: (world, channel) => world.hold(channel),
  release: (world, channel) => world.release(channel),
};

function perform(world: World, action: string): void {
  const [verb = '', ...rest] = action.split(' ');
  const does = verbs[verb];
  if (does === undefined) throw new Error(`no such action: ${action}`);
  world.spend(verb);
  does(world, rest.join(' '));
}

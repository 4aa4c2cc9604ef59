import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';

/** What routing needs to know of a node. */
export interface NodeHealth {
  readonly id: string;
  readonly connected: boolean;
  /** An attempt timed out there and nothing was heard since. */
  readonly suspected: boolean;
  /** Attempts that it has not answered. */
  readonly inFlight: number;
}

/** Where a read of a named node goes. */
export type NamedRoute =
  | { readonly type: 'node'; readonly id: string }
  | { readonly type: 'refused'; readonly reason: 'NOT_SERVING' | 'MEMBER_NOT_FOUND' };

/** Writes enter at the head: the first SERVING member (CRAQ §2.2). */
export function headOf(view: View): Member | undefined {
  return view.members.find(isServing);
}

export function servingOf(view: View): readonly Member[] {
  return view.members.filter(isServing);
}

function isServing(member: Member): boolean {
  return member.state === MemberState.SERVING;
}

/** Every SERVING node answers reads; one that is asked for by name is the only one that may. */
export function routeNamed(view: View, id: string): NamedRoute {
  for (const member of view.members) {
    if (member.id !== id) continue;
    if (isServing(member)) return { type: 'node', id };
    return { type: 'refused', reason: 'NOT_SERVING' };
  }
  const waits = view.others.some((member) => member.id === id);
  return { type: 'refused', reason: waits ? 'NOT_SERVING' : 'MEMBER_NOT_FOUND' };
}

/** Reads that go to one node before the next one has its turn: a message that carries many costs little more than one. */
export const readRun = 32;

/**
 * Spreads reads in runs: of the healthy nodes the one with the fewest attempts in flight, counted in runs, and among
 * equals the next in turn. Where none is healthy a suspected one is asked, and the one to avoid before none.
 * @param turn any counter that grows by one with every read
 * @param avoid the node that a former attempt failed at
 */
export function routeRead<Node extends NodeHealth>(
  serving: readonly Node[],
  turn: number,
  avoid: string | undefined,
): Node | undefined {
  let best: Node | undefined;
  let bestRank = Number.POSITIVE_INFINITY;
  let bestRuns = 0;
  const count = serving.length;
  const first = Math.floor(turn / readRun);
  for (let step = 0; step < count; step += 1) {
    const node = serving[(first + step) % count];
    if (node?.connected !== true) continue;
    const rank = (node.suspected ? 2 : 0) + (node.id === avoid ? 1 : 0);
    const runs = Math.floor(node.inFlight / readRun);
    if (rank < bestRank || (rank === bestRank && runs < bestRuns)) {
      best = node;
      bestRank = rank;
      bestRuns = runs;
    }
  }
  return best;
}

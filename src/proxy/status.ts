import {
  type ChainStatusResponse,
  type ClusterStatusResponse,
  type CoordinatorStatus,
  type Member,
  MemberState,
  type NodeStatus,
} from '../gen/keychaindb/v1/coordinator.js';
import { stateName } from '../telemetry/view-spans.js';

/** All that an operator sees at a glance: of `keychaindb status -o json` and GET /v1/status (docs/names.md). */
export interface StatusReport {
  readonly healthy: boolean;
  readonly epoch: string;
  readonly lineage: string;
  /** The coordinators' leader; empty: none. */
  readonly leader: string;
  readonly term: string;
  readonly nodes: readonly NodeRow[];
  readonly coordinators: readonly CoordinatorRow[];
  readonly problems: readonly Problem[];
}

/** uint64 as strings; milliseconds and counts as numbers; `null`: not heard, so not known. */
export interface NodeRow {
  readonly id: string;
  readonly address: string;
  readonly state: string;
  /** An operator took it out: this process is not taken in again. */
  readonly drained: boolean;
  /** It is taken in when the chain is shorter than its length. */
  readonly spare: boolean;
  /** Why it isn't taken in; '' where nothing keeps it out. */
  readonly note: string;
  /** head, middle, tail, only, joining or ''. */
  readonly role: string;
  readonly incarnation: string;
  /** ISO 8601, UTC; '' where it was never in a state. */
  readonly since: string;
  readonly revision: string | null;
  readonly watermark: string | null;
  readonly lag: number | null;
  readonly stagedKeys: number | null;
  readonly leaseMs: number | null;
  readonly activeEpoch: string | null;
  readonly silentMs: number | null;
  readonly silentPeers: readonly string[];
  /** What is wrong with a store; '' where nothing is known. */
  readonly damage: string;
  /** The member whose state is another one than the others'; '' where `damage` is of the own store. */
  readonly outlier: string;
  /** The whole state was equal to the predecessor's at this revision or later ones; '0': not compared yet. */
  readonly comparedRevision: string | null;
  readonly version: string;
}

export interface CoordinatorRow {
  readonly id: string;
  readonly address: string;
  readonly learner: boolean;
  readonly answered: boolean;
  readonly role: string;
  readonly leader: string;
  readonly version: string;
  readonly term: string;
  readonly commit: string;
  readonly applied: string;
  readonly last: string;
  readonly first: string;
  readonly snapshot: string;
  readonly lag: string;
}

/** What is wrong, with whom, and what mends it. */
export interface Problem {
  readonly kind:
    | 'no-leader'
    | 'coordinator-silent'
    | 'coordinator-learning'
    | 'coordinator-behind'
    | 'coordinators-few'
    | 'no-chain'
    | 'chain-short'
    | 'last-serving'
    | 'node-silent'
    | 'node-waiting'
    | 'node-joining'
    | 'node-idle'
    | 'disk-stuck'
    | 'peers-apart'
    | 'version-unknown'
    | 'store-damaged'
    | 'state-differs';
  readonly id: string;
  readonly message: string;
  readonly command: string;
  /** It passes by itself. */
  readonly passing: boolean;
}

/** Entries that a coordinator may lack and is well. */
const lagMost = 1_000;
/** Milliseconds for which a serving node may not take part in the newest view, or wait for its disk, and is well. */
const idleMsMost = 500;
const stuckMsMost = 2_000;
/** A majority of one or two coordinators bears no failure. */
const coordinatorsWanted = 3;

export function statusReport(
  chain: ChainStatusResponse,
  cluster: ClusterStatusResponse,
): StatusReport {
  const { view } = chain;
  const members = view?.members ?? [];
  const all = [...members, ...(view?.others ?? [])];
  const problems = [...groupProblems(cluster), ...chainProblems(chain), ...refusals(chain)];
  return {
    healthy: problems.length === 0,
    epoch: String(view?.epoch ?? 0),
    lineage: String(view?.lineage ?? 0),
    leader: cluster.leader,
    term: String(cluster.term),
    nodes: all.map((member) => nodeRow(member, members, chain.nodes)),
    coordinators: cluster.coordinators.map(coordinatorRow),
    problems,
  };
}

function heardOf(member: Member, nodes: readonly NodeStatus[]): NodeStatus | undefined {
  if (member.state === MemberState.OFFLINE || member.state === MemberState.LASTSRV)
    return undefined;
  return nodes.find((n) => n.id === member.id && n.incarnation === member.incarnation);
}

function nodeRow(
  member: Member,
  members: readonly Member[],
  nodes: readonly NodeStatus[],
): NodeRow {
  const { id, address, incarnation, since, drained, spare, note } = member;
  const heard = heardOf(member, nodes);
  return {
    ...{ id, address, state: stateName(member.state), role: roleOf(member, members) },
    ...{ drained, spare, note },
    incarnation: String(incarnation),
    since: since === 0 ? '' : new Date(since).toISOString(),
    revision: heard === undefined ? null : String(heard.revision),
    watermark: heard === undefined ? null : String(heard.watermark),
    lag: heard?.lag ?? null,
    stagedKeys: heard?.stagedKeys ?? null,
    leaseMs: heard?.leaseMs ?? null,
    activeEpoch: heard === undefined ? null : String(heard.activeEpoch),
    silentMs: heard?.silentMs ?? null,
    silentPeers: heard?.silentPeers ?? [],
    damage: heard?.damage ?? '',
    outlier: heard?.outlier ?? '',
    comparedRevision: heard === undefined ? null : String(heard.comparedRevision),
    version: heard?.version ?? '',
  };
}

function isServing({ state }: Member): boolean {
  return state === MemberState.SERVING || state === MemberState.LASTSRV;
}

function roleOf(member: Member, members: readonly Member[]): string {
  const serving = members.filter(isServing);
  const at = serving.indexOf(member);
  if (at < 0) return members.includes(member) ? 'joining' : '';
  if (serving.length === 1) return 'only';
  if (at === 0) return 'head';
  return at === serving.length - 1 ? 'tail' : 'middle';
}

export function coordinatorRow(c: CoordinatorStatus): CoordinatorRow {
  const { id, address, learner, answered, role, leader, version } = c;
  return {
    ...{ id, address, learner, answered, role, leader, version },
    ...{ term: String(c.term), commit: String(c.commit), applied: String(c.applied) },
    ...{ last: String(c.last), first: String(c.first) },
    ...{ snapshot: String(c.snapshot), lag: String(c.lag) },
  };
}

function groupProblems({ leader, coordinators }: ClusterStatusResponse): readonly Problem[] {
  const problems: Problem[] = [];
  if (leader === '') {
    problems.push({
      ...{ kind: 'no-leader', id: '', passing: false },
      message: 'the coordinators have no leader: the chain serves, and cannot change',
      command:
        'start coordinators until a majority runs; if one is lost for ever: keychaindb cluster restore',
    });
  }
  for (const { id, answered, learner, lag } of coordinators) {
    if (!answered) {
      problems.push({
        ...{ kind: 'coordinator-silent', id, passing: false },
        message: `coordinator ${id} does not answer`,
        command: `start it, or keychaindb cluster remove ${id} and add another one`,
      });
    } else if (learner) {
      problems.push({
        ...{ kind: 'coordinator-learning', id, passing: true },
        message: `coordinator ${id} catches up and has no vote yet`,
        command: `wait; where it never does: keychaindb cluster remove ${id}`,
      });
    } else if (lag > lagMost) {
      problems.push({
        ...{ kind: 'coordinator-behind', id, passing: true },
        message: `coordinator ${id} lacks ${lag} entries`,
        command: `wait; where it grows: look at its disk and its log, restart ${id}`,
      });
    }
  }
  const voting = coordinators.filter(({ learner }) => !learner).length;
  if (voting === 2) {
    problems.push({
      ...{ kind: 'coordinators-few', id: '', passing: false },
      message: `of two coordinators none may fail; ${coordinatorsWanted} bear the loss of one`,
      command: 'keychaindb coordinator --join …',
    });
  }
  return problems;
}

function chainProblems({ view, nodes }: ChainStatusResponse): readonly Problem[] {
  const members = view?.members ?? [];
  if (members.length === 0) {
    const message = 'the chain has no member';
    const command = 'keychaindb chain add ID HOST:PORT';
    return [{ kind: 'no-chain', id: '', message, command, passing: false }];
  }
  const problems: Problem[] = [];
  const serving = members.filter(isServing).length;
  const length = view?.length ?? 0;
  if (serving < length) {
    problems.push({
      ...{ kind: 'chain-short', id: '', passing: false },
      message: `${serving} of ${length} nodes serve`,
      command: 'start the others, or keychaindb chain add ID HOST:PORT --spare',
    });
  }
  for (const member of [...members, ...(view?.others ?? [])]) {
    const heard = heardOf(member, nodes);
    const found = memberProblem(member, heard, members);
    if (found !== undefined) problems.push(found);
    if (heard !== undefined && heard.damage !== '') {
      problems.push(damageProblem(heard, serving > 1 || !isServing(member)));
    }
  }
  return problems;
}

/** It mends itself where another copy serves. */
function damageProblem({ id, damage, outlier }: NodeStatus, isCopied: boolean): Problem {
  if (outlier !== '') {
    return {
      ...{ kind: 'state-differs', id: outlier, passing: true },
      message: `${id} found: ${damage}`,
      command: `wait: ${outlier} is taken out and synced anew; should it come again: keychaindb log diff`,
    };
  }
  return {
    ...{ kind: 'store-damaged', id, passing: isCopied },
    message: isCopied
      ? `${id} has a damaged store: ${damage}`
      : `${id} has a damaged store, and is the last that serves: ${damage}`,
    command: isCopied
      ? 'wait: it is taken out and synced anew'
      : 'keychaindb chain add ID HOST:PORT: when another one serves, this one is synced anew',
  };
}

function refusals({ refused }: ChainStatusResponse): readonly Problem[] {
  return refused.map(({ process, message, remedy }) => ({
    ...{ kind: 'version-unknown', id: process, passing: false },
    ...{ message, command: remedy },
  }));
}

function memberProblem(
  member: Member,
  heard: NodeStatus | undefined,
  members: readonly Member[],
): Problem | undefined {
  const { id, state, drained, spare, note } = member;
  // It was taken out on purpose, and its place is its operator's to fill.
  if (drained || (spare && state === MemberState.WAITING)) return undefined;
  switch (state) {
    case MemberState.LASTSRV:
      return {
        ...{ kind: 'last-serving', id, passing: false },
        message: `${id} has what was acknowledged, and none of those that serve is heard`,
        command: `start ${id}; if none of them ever comes back: keychaindb chain recover ID --lose ${members
          .filter(isServing)
          .map((m) => m.id)
          .join(',')} (lossy)`,
      };
    case MemberState.OFFLINE:
      return {
        ...{ kind: 'node-silent', id, passing: false },
        message: `${id} is not heard`,
        command: `start it, or keychaindb chain remove ${id}`,
      };
    case MemberState.WAITING:
      return {
        ...{ kind: 'node-waiting', id, passing: true },
        message: note === '' ? `${id} waits for its turn to join` : `${id} waits: ${note}`,
        command: 'wait',
      };
    case MemberState.SYNCING:
    case MemberState.JOINING:
      return {
        ...{ kind: 'node-joining', id, passing: true },
        message: `${id} catches up: ${heard?.lag ?? 'some'} entries are missing`,
        command: 'wait',
      };
    default:
      return heard === undefined ? unheardProblem(id) : servingProblem(heard);
  }
}

/** The coordinator that answers has just started. */
function unheardProblem(id: string): Problem {
  return {
    ...{ kind: 'node-silent', id, passing: true },
    message: `${id} serves, and the coordinator that answers has not heard it yet`,
    command: 'wait',
  };
}

function servingProblem(heard: NodeStatus): Problem | undefined {
  const { id, silentPeers, stuckMs, idleMs, activeEpoch } = heard;
  if (stuckMs > stuckMsMost) {
    return {
      ...{ kind: 'disk-stuck', id, passing: false },
      message: `for ${Math.floor(stuckMs / 1_000)} s ${id} has synced nothing, or can't read what its follower needs`,
      command: `look at its log and its disk, restart ${id}; it is taken out where another node is well`,
    };
  }
  if (silentPeers.length > 0) {
    return {
      ...{ kind: 'peers-apart', id, passing: true },
      message: `${id} does not hear ${silentPeers.join(', ')}`,
      command: 'look at the network between them; one of them is taken out',
    };
  }
  if (idleMs <= idleMsMost) return undefined;
  return {
    ...{ kind: 'node-idle', id, passing: true },
    message: `${id} still takes part in epoch ${activeEpoch}: promises that were given for reads have not run out`,
    command: 'wait: writes go on after it',
  };
}

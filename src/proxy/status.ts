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
    | 'coordinators-few'
    | 'no-chain'
    | 'chain-short'
    | 'last-serving'
    | 'node-silent'
    | 'node-waiting'
    | 'node-joining'
    | 'peers-apart'
    | 'version-unknown';
  readonly id: string;
  readonly message: string;
  readonly command: string;
  /** It passes by itself. */
  readonly passing: boolean;
}

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
  for (const { id, answered, learner } of coordinators) {
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
        command: 'wait',
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
    const found = memberProblem(member, heardOf(member, nodes));
    if (found !== undefined) problems.push(found);
  }
  return problems;
}

function refusals({ refused }: ChainStatusResponse): readonly Problem[] {
  return refused.map(({ process, message, remedy }) => ({
    ...{ kind: 'version-unknown', id: process, passing: false },
    ...{ message, command: remedy },
  }));
}

function memberProblem(member: Member, heard: NodeStatus | undefined): Problem | undefined {
  const { id, state, drained, spare, note } = member;
  // It was taken out on purpose, and its place is its operator's to fill.
  if (drained || (spare && state === MemberState.WAITING)) return undefined;
  switch (state) {
    case MemberState.LASTSRV:
      return {
        ...{ kind: 'last-serving', id, passing: false },
        message: `${id} has what was acknowledged, and none of those that serve is heard`,
        command: `start ${id}`,
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
      if (heard === undefined || heard.silentPeers.length === 0) return undefined;
      return {
        ...{ kind: 'peers-apart', id, passing: true },
        message: `${id} does not hear ${heard.silentPeers.join(', ')}`,
        command: 'look at the network between them; one of them is taken out',
      };
  }
}

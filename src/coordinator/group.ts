import { type Clock, pause } from '../base/clock.js';
import { KeychainError, type Reason } from '../base/errors.js';
import type {
  ClusterStatusResponse,
  CoordinatorStatus,
  SnapshotClusterResponse,
} from '../gen/keychaindb/v1/coordinator.js';
import type { GroupChange } from '../gen/keychaindb/v1/raft.js';
import type { ProposeOutcome, RaftMember } from '../raft/raft.js';
import { noLeaderMs, noLeaderMsMax } from './limits.js';
import { checkMember } from './member-name.js';
import type { RegistryMachine } from './registry-machine.js';
import { encodeRegistry } from './snapshot.js';

/** Asks another coordinator what it knows of itself; rejects where it doesn't answer in time. */
export type AskStatus = (address: string, timeoutMs: number) => Promise<ClusterStatusResponse>;

export interface GroupOptions {
  readonly raft: RaftMember;
  readonly registry: RegistryMachine;
  readonly clock: Clock;
  readonly version: string;
  readonly askStatus: AskStatus;
}

/** Milliseconds that another coordinator may take to say how it is. */
const statusMs = 500;

/** The verbs about the coordinators themselves, at any of them. All reject with KeychainError. */
export class CoordinatorGroup {
  readonly #options: GroupOptions;

  constructor(options: GroupOptions) {
    this.#options = options;
  }

  /** Returns when the new coordinator is a member that has no vote yet; it gets one when it has caught up. */
  async join(id: string, address: string, timeoutMs: number): Promise<void> {
    checkMember(id, address);
    await this.#change(
      { $case: 'add', value: { id, address, learner: true, seen: false } },
      timeoutMs,
    );
  }

  async remove(id: string, timeoutMs: number): Promise<void> {
    await this.#change({ $case: 'remove', value: id }, timeoutMs);
  }

  /** Returns who leads then. `to`: '' for the coordinator with the longest log. */
  async transfer(to: string, timeoutMs: number): Promise<string> {
    const { raft, clock } = this.#options;
    const before = raft.status.leader;
    if (to !== '' && to === before) return to;
    await this.#change({ $case: 'transfer', value: to }, timeoutMs, () => {
      const { leader } = raft.status;
      return leader !== undefined && (to === '' ? leader !== before : leader === to);
    });
    const until = clock.monotonic() + timeoutMs;
    while (raft.status.leader === undefined && clock.monotonic() < until) {
      await pause(clock, noLeaderMs);
    }
    return raft.status.leader ?? '';
  }

  /** ReadIndex: what is applied here is then as new as this call. */
  async settleReads(timeoutMs: number): Promise<void> {
    const { raft, clock } = this.#options;
    const until = clock.monotonic() + Math.min(timeoutMs / 2, noLeaderMsMax);
    for (;;) {
      const remaining = until - clock.monotonic();
      const outcome = await raft.read({ timeoutMs: Math.max(1, remaining) });
      if (outcome.type === 'current') return;
      if (outcome.reason !== 'NO_LEADER' || clock.monotonic() + noLeaderMs >= until) {
        throw new KeychainError(
          outcome.reason,
          outcome.reason === 'NO_LEADER'
            ? `${raft.id} knows of no leader that a majority follows: what it could say may be old (stale=true asks for that)`
            : `${raft.id} takes no more reads of the group now`,
        );
      }
      await pause(clock, noLeaderMs);
    }
  }

  /** The registry as it is, for `cluster restore`. */
  async snapshot(timeoutMs: number): Promise<SnapshotClusterResponse> {
    await this.settleReads(timeoutMs);
    const { raft, registry } = this.#options;
    const { at, time, group } = raft.appliedEntry;
    const state = encodeRegistry(registry.state);
    return { snapshot: { at, time, group, state }, clusterId: registry.state.clusterId };
  }

  /** What this coordinator knows, of the others too unless `local`. */
  async status(local: boolean): Promise<ClusterStatusResponse> {
    const { raft, askStatus } = this.#options;
    const { leader, term, group } = raft.status;
    const coordinators = await Promise.all(
      group.members.map(async ({ id, address, learner }): Promise<CoordinatorStatus> => {
        if (id === raft.id) return { ...this.#own(), address, learner };
        const unknown = { ...silent, id, address, learner };
        if (local) return unknown;
        const answer = await askStatus(address, statusMs).catch(() => undefined);
        if (answer === undefined) return unknown;
        const own = answer.coordinators.find((c) => c.id === id);
        // 0.1.0 says nothing of its log.
        if (own === undefined) return { ...unknown, answered: true, leader: answer.leader };
        return { ...own, address, learner };
      }),
    );
    const commit = Math.max(0, ...coordinators.map((c) => c.commit));
    const lagOf = (c: CoordinatorStatus): number => (c.version === '' ? 0 : commit - c.applied);
    return {
      members: Object.fromEntries(group.members.map(({ id, address }) => [id, address])),
      leader: leader ?? '',
      term,
      heard: [...new Set([...raft.heard, ...group.members.filter((m) => m.seen).map((m) => m.id)])],
      coordinators: coordinators.map((c) => ({ ...c, lag: lagOf(c) })),
    };
  }

  #own(): CoordinatorStatus {
    const { raft, version } = this.#options;
    const { id, role, term, leader, commit, applied, last, first, snapshot } = raft.status;
    const log = { commit, applied, last: last.index, first, snapshot };
    return { ...silent, id, answered: true, role, term, leader: leader ?? '', ...log, version };
  }

  /** What is refused only for now is tried again. */
  async #change(
    change: NonNullable<GroupChange['change']>,
    timeoutMs: number,
    isDone: () => boolean = () => false,
  ): Promise<void> {
    const { raft, clock } = this.#options;
    const from = clock.monotonic();
    const until = from + Math.min(timeoutMs / 2, noLeaderMsMax);
    for (;;) {
      const remaining = Math.max(1, from + timeoutMs - clock.monotonic());
      const outcome = await raft.change(change, { timeoutMs: remaining });
      if (outcome.type === 'applied' || isDone()) return;
      if (!isPassing(outcome) || clock.monotonic() + noLeaderMs >= until) {
        // Who hands over may hear of the next leader a moment later.
        if (outcome.type === 'unknown') await pause(clock, noLeaderMs);
        if (isDone()) return;
        throw refusalOf(outcome, change, raft);
      }
      await pause(clock, noLeaderMs);
    }
  }
}

const silent: CoordinatorStatus = {
  id: '',
  address: '',
  learner: false,
  answered: false,
  role: '',
  term: 0,
  leader: '',
  commit: 0,
  applied: 0,
  last: 0,
  first: 0,
  snapshot: 0,
  lag: 0,
  version: '',
};

function isPassing(outcome: ProposeOutcome): boolean {
  if (outcome.type !== 'refused') return false;
  return outcome.reason === 'NO_LEADER' || outcome.reason === 'CHANGE_PENDING';
}

function refusalOf(
  outcome: ProposeOutcome,
  change: NonNullable<GroupChange['change']>,
  raft: RaftMember,
): KeychainError {
  if (outcome.type !== 'refused') {
    return new KeychainError(
      'OUTCOME_UNKNOWN',
      'the leader was lost: the change may have been made; look at `keychaindb cluster members`, or ask again: it is made once',
    );
  }
  const { reason } = outcome;
  return new KeychainError(reason, messageOf(reason, change, raft));
}

function messageOf(
  reason: Reason,
  change: NonNullable<GroupChange['change']>,
  raft: RaftMember,
): string {
  const id = change.$case === 'add' ? change.value.id : change.value;
  const { members } = raft.status.group;
  switch (reason) {
    case 'MEMBER_EXISTS':
      return `${id} is a coordinator at ${members.find((m) => m.id === id)?.address ?? 'another address'} already`;
    case 'ADDRESS_IN_USE': {
      const address = change.$case === 'add' ? change.value.address : '';
      const user = members.find((m) => m.address === address);
      return `${address} is the address of coordinator ${user?.id ?? 'another'}`;
    }
    case 'MEMBER_NOT_FOUND':
      return `${id} is not a coordinator of this cluster`;
    case 'MEMBER_REMOVED':
      return `${id} was a coordinator and was removed: what it voted for may be forgotten; add it under a new id, with an empty folder`;
    case 'LAST_MAJORITY':
      return `without ${id} those that are heard are no majority of the coordinators that are left: start the others first`;
    case 'MEMBER_BEHIND': {
      if (change.$case !== 'add') return `${id} has not caught up, or is not heard`;
      const unheard = members.find(({ learner, seen }) => !learner && !seen)?.id;
      if (unheard === undefined)
        return 'another new coordinator has not caught up yet: one at a time';
      return `${unheard} has not been heard since the group was founded: start it, or take it out first: keychaindb cluster remove ${unheard}`;
    }
    case 'CHANGE_PENDING':
      return 'another change of the coordinators is under way, or their leader has just begun: nothing was done';
    case 'TRANSFER_FAILED':
      return `${id === '' ? 'no other coordinator' : id} took over in time: the leader goes on`;
    default:
      return `no change was made: ${raft.id} knows of no leader that takes it`;
  }
}

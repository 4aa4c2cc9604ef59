import { proposalsMax, uncommittedBytesMax } from '../raft/limits.js';
import type { RaftHandle } from '../raft/runtime.js';
import { type Metrics, membersByState } from '../telemetry/metrics.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import type { CoordinatorHandle } from './runtime.js';

/** The metrics of a coordinator (docs/names.md). */
export function coordinatorMetrics(
  metrics: Metrics,
  raft: RaftHandle,
  coordinator: CoordinatorHandle,
  meter: RequestMeter,
): void {
  metrics.requests(meter);
  const gauge = (name: string, help: string, of: () => number): void =>
    metrics.gauge(`keychaindb_${name}`, help, of);
  gauge('raft_term', 'The term.', () => raft.status.term);
  gauge('raft_commit_index', 'The newest entry known to be committed.', () => raft.status.commit);
  gauge('raft_applied_index', 'The newest entry applied.', () => raft.status.applied);
  gauge('raft_last_index', 'The newest entry of the log.', () => raft.status.last.index);
  gauge('raft_is_leader', '1 at the leader.', () => (raft.status.role === 'leader' ? 1 : 0));
  gauge('raft_has_leader', '1 where a leader is known.', () => {
    return raft.status.leader === undefined ? 0 : 1;
  });
  gauge('raft_members', 'Coordinators in the group.', () => raft.status.group.members.length);
  gauge('view_epoch', 'The epoch of the newest view.', () => coordinator.view?.epoch ?? 0);
  metrics.gauge(
    'keychaindb_members',
    'Members of the chain by state, as this coordinator hears them.',
    () => {
      const { members, others } = coordinator.shownView();
      return membersByState(members, others);
    },
  );
  metrics.queues(() => [
    { name: 'proposals', length: raft.waiting, limit: proposalsMax },
    { name: 'uncommitted_bytes', length: raft.state.uncommittedBytes, limit: uncommittedBytesMax },
  ]);
}

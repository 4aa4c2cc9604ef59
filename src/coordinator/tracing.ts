import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import type { RaftMember, RaftStatus } from '../raft/raft.js';
import type { Logger } from '../telemetry/log.js';
import type { Traces } from '../telemetry/traces.js';
import {
  changeSpan,
  describeChange,
  electionSpan,
  type JoinStage,
  joinSpans,
} from '../telemetry/view-spans.js';
import type { CoordinatorHandle } from './runtime.js';

export interface CoordinatorTracingOptions {
  readonly raft: RaftMember;
  readonly coordinator: CoordinatorHandle;
  readonly traces: Traces;
  readonly log: Logger;
  /** Microseconds since 1970, now. */
  readonly micros: () => number;
}

/** Members that are on their way into the chain, at most. */
const joinersMax = 64;

/** Records views, joins and elections, and says them in the log. Returns what ends it. */
export function traceCoordinator(options: CoordinatorTracingOptions): () => void {
  const { raft, coordinator, traces, log, micros } = options;
  const joins = new Joins();
  let before: View | undefined;
  let status: RaftStatus | undefined;
  let electionFrom = 0;
  const views = coordinator.view$.subscribe((view) => {
    const now = micros();
    const isLeader = raft.status.role === 'leader';
    const done = joins.moved(view, now);
    // Every coordinator applies every view; the leader, which proposed it, records it.
    if (isLeader) {
      const from = now - (coordinator.proposingForMs ?? 0) * 1_000;
      traces.record(changeSpan(traces.own, view, before, from, now));
      for (const { member, stages } of done) {
        for (const span of joinSpans(traces.own, view, member, stages)) traces.record(span);
      }
    }
    const change = describeChange(before, view);
    log.info({ epoch: view.epoch, change }, `epoch ${view.epoch}: ${change}`);
    before = view;
  });
  const elections = raft.status$.subscribe((next) => {
    const was = status;
    status = next;
    if (was === undefined) return;
    if (next.role !== was.role) log.debug({ term: next.term, role: next.role }, `now ${next.role}`);
    const stood = was.role === 'pre-candidate' || was.role === 'candidate';
    const stands = next.role === 'pre-candidate' || next.role === 'candidate';
    if (!stood && stands) electionFrom = micros();
    if (stood && !stands) {
      const won = next.role === 'leader';
      traces.record(electionSpan(traces.own, next.term, won, electionFrom, micros()));
    }
    if (next.leader !== was.leader) {
      const { term, leader } = next;
      log.info({ term, leader }, leader === undefined ? 'no leader is known' : `${leader} leads`);
    }
  });
  return () => {
    views.unsubscribe();
    elections.unsubscribe();
  };
}

interface Join {
  readonly member: Member;
  readonly stages: JoinStage[];
  since: number;
}

/** How long each member that isn't serving yet has been in which state. */
class Joins {
  readonly #joins = new Map<string, Join>();

  /** What a view changed; gives the members that serve now, with their way there. */
  moved(view: View, now: number): readonly Join[] {
    const done: Join[] = [];
    const present = new Set<string>();
    for (const member of [...view.members, ...view.others]) {
      const name = `${member.id}/${member.incarnation}`;
      present.add(name);
      const join = this.#joins.get(name);
      if (join === undefined) {
        const isNew = member.state !== MemberState.SERVING && member.incarnation > 0;
        if (isNew && this.#joins.size < joinersMax) {
          this.#joins.set(name, { member, stages: [], since: now });
        }
        continue;
      }
      if (join.member.state === member.state) continue;
      join.stages.push({ state: join.member.state, fromUs: join.since, toUs: now });
      this.#joins.delete(name);
      if (member.state === MemberState.SERVING) done.push({ ...join, member });
      else this.#joins.set(name, { member, stages: join.stages, since: now });
    }
    for (const name of this.#joins.keys()) if (!present.has(name)) this.#joins.delete(name);
    return done;
  }
}

import type { RaftState } from '../../src/raft/state.js';
import { check } from './check.js';
import type { SimProcess } from './process.js';

/** What an entry of the group's log is, whoever holds it. */
interface GroupEntry {
  readonly term: number;
  readonly checksum: number;
  /** The term of the member that was the first to know that it is committed: its leader's, who knows it first. */
  readonly committedIn: number;
}

interface Member {
  readonly process: SimProcess;
  readonly state: RaftState;
  /** Its entries through here have been compared with the group's. */
  compared: number;
  wasLeader: boolean;
}

/**
 * The group's committed entries, which no member knows for all, and the safety properties of Raft (Ongaro &
 * Ousterhout 2014, figure 3), after every step.
 */
export class RaftGhost {
  readonly #committed: GroupEntry[] = [];
  /** Who led in each term. */
  readonly #leaders = new Map<number, string>();
  readonly #members = new Map<string, Member>();

  watch(id: string, process: SimProcess, state: RaftState): void {
    this.#members.set(id, { process, state, compared: 0, wasLeader: false });
  }

  /** After every step. */
  check(): void {
    for (const [id, member] of this.#members) {
      const { process, state } = member;
      if (process.isDead) {
        this.#members.delete(id);
        continue;
      }
      if (state.commit > member.compared) this.#compare(id, member);
      const isLeader = state.role === 'leader';
      if (isLeader && !member.wasLeader) this.#lead(id, state);
      member.wasLeader = isLeader;
    }
  }

  /** State machine safety: one entry is committed at an index. */
  #compare(id: string, member: Member): void {
    const { state } = member;
    for (const { end, entries } of state.durable.log.between(member.compared + 1, state.commit)) {
      const checksum = entries[0]?.checksum ?? 0;
      const entry = { term: end.generation, checksum, committedIn: state.durable.term };
      const known = this.#committed[end.index - 1];
      check(
        known === undefined || (known.term === entry.term && known.checksum === entry.checksum),
        'raft: state machine safety',
        'one entry is committed at an index',
        { id, index: end.index, known, entry },
      );
      this.#committed[end.index - 1] ??= entry;
    }
    member.compared = state.commit;
  }

  /** Election safety; leader completeness. */
  #lead(id: string, { durable }: RaftState): void {
    const { term, log } = durable;
    const before = this.#leaders.get(term);
    check(before === undefined || before === id, 'raft: election safety', 'one leader a term', {
      term,
      before,
      id,
    });
    this.#leaders.set(term, id);
    for (const [index, entry] of this.#committed.entries()) {
      // A vote may arrive late: who is elected in an older term than the one that committed can do nothing any more.
      if (entry.committedIn > term) continue;
      check(
        log.termAt(index + 1) === entry.term,
        'raft: leader completeness',
        'a leader has all that is committed',
        { id, term, index: index + 1, committed: entry, held: log.termAt(index + 1) },
      );
    }
  }
}

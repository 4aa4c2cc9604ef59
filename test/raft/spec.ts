import type { LogBlock } from '../../src/log/event-log.js';
import { groupIn, isMajority, isVoter } from '../../src/raft/group.js';
import type { DurableState, RaftState } from '../../src/raft/state.js';
import { check } from '../sim/check.js';

/** A member as it is seen from outside after a step. */
export interface Seen {
  readonly id: string;
  /** Of the running process; undefined while it is down. */
  readonly state: RaftState | undefined;
  /** What a restart would find; undefined where it can't be seen. */
  readonly disk: (() => DurableState) | undefined;
}

interface Entry {
  readonly term: number;
  readonly checksum: number;
}

interface Committed extends Entry {
  /** The term of the member that was the first to know of it: its leader's, who knows it first. */
  readonly in: number;
}

interface Known {
  state: RaftState;
  /** Its log as it was compared last, by index. */
  log: LogBlock[];
  term: number;
  commit: number;
  ledTerm: number;
}

/**
 * The state invariants of the TLA+ specification of Raft (Ongaro's thesis, appendix B; Ongaro & Ousterhout 2014,
 * figure 3), with what a leader's knowledge and a change of the group must keep. It remembers what it saw: `check` after
 * every step.
 */
export class RaftSpec {
  /** What is committed, by index − 1. */
  readonly committed: Committed[] = [];
  /** Who led in each term. */
  readonly #leaders = new Map<number, string>();
  /** Who was voted for, by member and term. */
  readonly #votes = new Map<string, string>();
  /** Content, and the term before it, of every entry that was ever in a log. */
  readonly #entries = new Map<string, { readonly checksum: number; readonly before: number }>();
  readonly #known = new Map<string, Known>();

  check(members: readonly Seen[]): void {
    for (const seen of members) {
      if (seen.state === undefined) {
        this.#known.delete(seen.id);
        continue;
      }
      const known = this.#knownOf(seen.id, seen.state);
      this.#monotone(seen.id, known);
      if (seen.disk !== undefined) this.#votesOnce(seen.id, seen.disk());
      this.#logMatching(seen.id, known);
      this.#stateMachineSafety(seen, known, members);
      if (seen.state.role === 'leader') this.#leader(seen.id, known, members);
    }
  }

  /** What was on its disk is gone, its votes too; of two leaders of a term it is told by them. */
  lost(id: string): void {
    for (const key of [...this.#votes.keys()]) {
      if (key.startsWith(`${id} `)) this.#votes.delete(key);
    }
  }

  #knownOf(id: string, state: RaftState): Known {
    const known = this.#known.get(id);
    if (known?.state === state) return known;
    const fresh = { state, log: [], term: 0, commit: 0, ledTerm: -1 };
    this.#known.set(id, fresh);
    return fresh;
  }

  /** MonotonicTerm, MonotonicCommitIndex: neither goes back while a process runs. */
  #monotone(id: string, known: Known): void {
    const { durable, commit } = known.state;
    check(durable.term >= known.term, 'raft: monotonic term', 'a term never goes back', {
      id,
      term: durable.term,
      known: known.term,
    });
    check(commit >= known.commit, 'raft: monotonic commit', 'a commit never goes back', {
      id,
      commit,
      known: known.commit,
    });
    known.term = durable.term;
    known.commit = commit;
  }

  /** §5.2: each member votes for at most one candidate in a term, over its restarts too: what is on its disk. */
  #votesOnce(id: string, { term, vote }: DurableState): void {
    if (vote === '') return;
    const key = `${id} ${term}`;
    const before = this.#votes.get(key);
    check(before === undefined || before === vote, 'raft: one vote', 'one vote a term', {
      id,
      term,
      vote,
      before,
    });
    this.#votes.set(key, vote);
  }

  /** LogMatching: entries of one index and term are the same, and so are all before them. */
  #logMatching(id: string, known: Known): void {
    const { log } = known.state.durable;
    for (let { index } = log.last; index > log.base.index; index -= 1) {
      const [block] = log.between(index, index);
      // Blocks are never changed: from here down it was compared before.
      if (block === undefined || known.log[index] === block) break;
      known.log[index] = block;
      const key = `${block.end.generation} ${index}`;
      const entry = {
        checksum: block.entries[0]?.checksum ?? 0,
        before: block.previous.generation,
      };
      const other = this.#entries.get(key);
      check(
        other === undefined || (other.checksum === entry.checksum && other.before === entry.before),
        'raft: log matching',
        'entries of one index and term are the same',
        { id, index, entry, other },
      );
      this.#entries.set(key, entry);
      check(
        block.end.generation >= block.previous.generation,
        'raft: monotonic log',
        'terms never go back in a log',
        { id, index },
      );
      this.#oneChange(id, known.state, block);
    }
  }

  /** Thesis §4.1: one voter more or less, so that majorities of the old and the new group meet. */
  #oneChange(id: string, { durable }: RaftState, block: LogBlock): void {
    const after = groupIn(block);
    if (after === undefined) return;
    const before = durable.groups.findLast(({ index }) => index < block.end.index)?.group;
    // Who joins knows of no group before the first one that the log brings.
    if (before === undefined || before.members.length === 0) return;
    const ids = new Set([...before.members, ...after.members].map((m) => m.id));
    const changed = [...ids].filter((other) => isVoter(before, other) !== isVoter(after, other));
    check(changed.length <= 1, 'raft: one change', 'one voter more or less', { id, changed });
  }

  /** StateMachineSafety: one entry is committed at an index. CommittedIsDurable: on a majority's disks. */
  #stateMachineSafety(seen: Seen, known: Known, members: readonly Seen[]): void {
    const { state } = known;
    const { log, term } = state.durable;
    const from = Math.max(log.first, Math.min(known.log.length, this.committed.length + 1));
    for (let index = Math.min(from, state.commit); index <= state.commit; index += 1) {
      const [block] = index < log.first ? [] : log.between(index, index);
      if (block === undefined) continue;
      const checksum = block.entries[0]?.checksum ?? 0;
      const entry = { term: block.end.generation, checksum, in: term };
      const other = this.committed[index - 1];
      check(
        other === undefined || (other.term === entry.term && other.checksum === checksum),
        'raft: state machine safety',
        'one entry is committed at an index',
        { id: seen.id, index, other, entry },
      );
      if (other !== undefined) continue;
      this.committed[index - 1] = entry;
      if (state.role === 'leader') this.#durable(state, index, entry, members);
    }
  }

  #durable(state: RaftState, index: number, entry: Entry, members: readonly Seen[]): void {
    if (members.some(({ disk }) => disk === undefined)) return;
    // The step that committed it may have changed the group after that.
    const groups = state.durable.groups.filter(
      (_, i, all) => (all[i + 1]?.index ?? index + 1) > index,
    );
    const holds = (id: string): boolean => {
      const durable = members.find((m) => m.id === id)?.disk?.();
      if (durable === undefined) return false;
      return durable.log.base.index >= index || durable.log.termAt(index) === entry.term;
    };
    const isDurable = groups.some(({ group }) => isMajority(group, holds));
    check(isDurable, 'raft: committed is durable', 'on a majority of disks', {
      index,
      entry,
      holders: members.filter(({ id }) => holds(id)).map(({ id }) => id),
    });
  }

  #leader(id: string, known: Known, members: readonly Seen[]): void {
    const { state } = known;
    const { term, log } = state.durable;
    const other = this.#leaders.get(term);
    check(other === undefined || other === id, 'raft: election safety', 'one leader a term', {
      term,
      leaders: [other, id],
    });
    this.#leaders.set(term, id);
    this.#followers(id, state, members);
    if (known.ledTerm === term) return;
    known.ledTerm = term;
    // LeaderCompleteness: it has what was committed in earlier terms; one that is elected late in an older term can
    // do nothing any more.
    for (let index = log.first; index <= this.committed.length; index += 1) {
      const entry = this.committed[index - 1];
      if (entry === undefined || entry.in > term) continue;
      check(
        log.termAt(index) === entry.term,
        'raft: leader completeness',
        'a leader has all that is committed',
        { id, term, index, entry, found: log.termAt(index) },
      );
    }
  }

  /** What a leader believes of a follower's disk is so. */
  #followers(id: string, { progress, durable }: RaftState, members: readonly Seen[]): void {
    for (const [peer, { match }] of progress) {
      const disk = members.find((m) => m.id === peer)?.disk?.();
      if (disk === undefined || match < disk.log.base.index || match < durable.log.base.index) {
        continue;
      }
      check(
        disk.term > durable.term || disk.log.termAt(match) === durable.log.termAt(match),
        'raft: match',
        'a follower has what its leader counts',
        { leader: id, peer, match, last: disk.log.last },
      );
    }
  }
}

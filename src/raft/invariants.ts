import { assert } from '../base/assert.js';
import { type RaftState, snapshotId } from './state.js';

/** What holds after every step of one member (Raft figure 3; the TLA+ specification's state invariants). */
export function assertInvariants(state: RaftState): void {
  const { durable, commit, applied, synced, role } = state;
  const { last, base } = durable.log;
  const snapshot = snapshotId(durable.snapshot);
  assert(applied <= commit, 'only committed entries are applied', { applied, commit });
  assert(commit <= last.index, 'what is committed is in the log', { commit, last });
  assert(synced <= last.index, 'what is synced is in the log', { synced, last });
  assert(last.generation <= durable.term, 'no entry is of a later term', {
    last,
    term: durable.term,
  });
  assert(base.index <= snapshot.index, 'a snapshot stands for what is not kept', {
    base,
    snapshot,
  });
  assert(snapshot.index <= commit, 'a snapshot is of what is committed', { snapshot, commit });
  if (role === 'leader') {
    assert(durable.vote === state.id, 'a leader voted for itself', { vote: durable.vote });
    assert(state.leader === state.id, 'a leader follows itself', { leader: state.leader });
    for (const [peer, { match, next }] of state.progress) {
      assert(match < next && next <= last.index + 1, 'a follower is within the log', {
        peer,
        match,
        next,
        last,
      });
    }
  }
}

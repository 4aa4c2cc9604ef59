import { assert } from '../base/assert.js';
import type { RaftState } from './state.js';

/** What holds after every step of one member (Raft figure 3; the TLA+ specification's state invariants). */
export function assertInvariants(state: RaftState): void {
  const { durable, commit, applied, synced, role } = state;
  const { last } = durable.log;
  assert(applied <= commit, 'only committed entries are applied', { applied, commit });
  assert(commit <= last.index, 'what is committed is in the log', { commit, last });
  assert(synced <= last.index, 'what is synced is in the log', { synced, last });
  assert(last.generation <= durable.term, 'no entry is of a later term', {
    last,
    term: durable.term,
  });
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

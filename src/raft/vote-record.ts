import { EntryId } from '../gen/keychaindb/v1/log.js';
import type { WriteOp } from '../log/engine.js';
import { type EventLog, origin } from '../log/event-log.js';
import { metaKey } from '../log/keys.js';
import { type DurableState, emptyDurable, evolve } from './state.js';

const termKey = metaKey('raft-term');
const voteKey = metaKey('raft-vote');

/** Term and vote, in one batch. */
export function recordVote(term: number, vote: string): readonly WriteOp[] {
  return [
    { type: 'put', key: termKey, value: EntryId.encode({ generation: term, index: 0 }).finish() },
    { type: 'put', key: voteKey, value: new TextEncoder().encode(vote) },
  ];
}

/** The fold of what stands on the disk: the same that the member had. */
export async function readDurable(log: EventLog): Promise<DurableState> {
  const state = emptyDurable();
  const term = await log.get(termKey);
  const vote = await log.get(voteKey);
  if (term !== undefined) {
    const { generation } = EntryId.decode(term);
    evolve(state, {
      type: 'TermVoted',
      term: generation,
      vote: vote === undefined ? '' : new TextDecoder().decode(vote),
    });
  }
  for await (const block of log.read(origin)) {
    evolve(state, { type: 'EntriesAppended', blocks: [block] });
  }
  return state;
}

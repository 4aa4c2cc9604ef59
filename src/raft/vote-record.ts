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

/** Term and vote as they stand on the disk; 0 and '' where there are none. */
export async function readVote(
  get: (key: Uint8Array) => Promise<Uint8Array | undefined>,
): Promise<{ readonly term: number; readonly vote: string }> {
  const term = await get(termKey);
  const vote = await get(voteKey);
  return {
    term: term === undefined ? 0 : EntryId.decode(term).generation,
    vote: vote === undefined ? '' : new TextDecoder().decode(vote),
  };
}

/** The fold of what stands on the disk: the same that the member had. */
export async function readDurable(log: EventLog): Promise<DurableState> {
  const state = emptyDurable();
  evolve(state, { type: 'TermVoted', ...(await readVote((key) => log.get(key))) });
  for await (const block of log.read(origin)) {
    evolve(state, { type: 'EntriesAppended', blocks: [block] });
  }
  return state;
}

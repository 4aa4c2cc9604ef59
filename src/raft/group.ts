import { RaftGroup } from '../gen/keychaindb/v1/log.js';
import type { LogBlock } from '../log/event-log.js';
import { removedIdsMax } from './limits.js';

/** A group and the entry from which on it holds; 0: it was founded with it. */
export interface GroupAt {
  readonly index: number;
  readonly group: RaftGroup;
}

/** Of a member that has not heard yet whom it joins. */
export const emptyGroup: RaftGroup = { members: [], removed: [] };

export function groupOf(addresses: ReadonlyMap<string, string>): RaftGroup {
  const members = [...addresses].map(([id, address]) => ({
    id,
    address,
    learner: false,
    seen: false,
  }));
  return { members, removed: [] };
}

export function votersOf({ members }: RaftGroup): readonly string[] {
  return members.filter(({ learner }) => !learner).map(({ id }) => id);
}

export function isVoter({ members }: RaftGroup, id: string): boolean {
  return members.some((m) => m.id === id && !m.learner);
}

/** Do those voters for which it holds make a majority? In a group without voters nobody does. */
export function isMajority(group: RaftGroup, holds: (id: string) => boolean): boolean {
  const voters = votersOf(group);
  return voters.filter(holds).length * 2 > voters.length;
}

/** The highest index that a majority of the voters has. */
export function majorityIndex(group: RaftGroup, indexOf: (id: string) => number): number {
  const indexes = votersOf(group).map(indexOf);
  indexes.sort((a, b) => b - a);
  return indexes[Math.floor(indexes.length / 2)] ?? 0;
}

export function withLearner(group: RaftGroup, id: string, address: string): RaftGroup {
  return { ...group, members: [...group.members, { id, address, learner: true, seen: false }] };
}

/** It has caught up: it was seen. */
export function withVoter(group: RaftGroup, id: string): RaftGroup {
  const vote = { learner: false, seen: true };
  const members = group.members.map((m) => (m.id === id ? { ...m, ...vote } : m));
  return { ...group, members };
}

/** The same members, of which one takes part from now on. */
export function withSeen(group: RaftGroup, id: string): RaftGroup {
  const members = group.members.map((m) => (m.id === id ? { ...m, seen: true } : m));
  return { ...group, members };
}

/** Does the group say of a member that it takes part? */
export function isSeen({ members }: RaftGroup, id: string): boolean {
  return members.some((m) => m.id === id && m.seen);
}

/** The same members, one of them elsewhere. */
export function withAddress(group: RaftGroup, id: string, address: string): RaftGroup {
  const members = group.members.map((m) => (m.id === id ? { ...m, address } : m));
  return { ...group, members };
}

/** Who is removed never returns under this id: it may have voted, and may not remember (B12). */
export function withoutMember(group: RaftGroup, id: string): RaftGroup {
  return {
    members: group.members.filter((m) => m.id !== id),
    removed: [...group.removed, id].slice(-removedIdsMax),
  };
}

/** The group that an entry decides, where it is one that does. */
export function groupIn({ entries }: LogBlock): RaftGroup | undefined {
  const [entry] = entries;
  return entry?.isGroup === true ? RaftGroup.decode(entry.payload) : undefined;
}

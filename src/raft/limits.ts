/** Entries and bytes that a leader holds uncommitted before it answers OVERLOADED. */
export const uncommittedEntriesMax = 1_024;
export const uncommittedBytesMax = 4 << 20;
/** Entries and bytes of one append message; one entry may be larger. */
export const appendEntriesMax = 128;
export const appendBytesMax = 1 << 20;
/** Append messages to one follower that wait for their answer, and their bytes. */
export const inFlightMax = 16;
export const inFlightBytesMax = 4 << 20;
/** Milliseconds before a lost link to a peer is dialed again. */
export const redialMs = 100;
/** Proposals of this process that wait for their outcome; reads that wait for the leader's word. */
export const proposalsMax = 1_024;
export const readsMax = 1_024;
/** Applied entries since the last snapshot before the next one, and how many stay in the log behind it. */
export const snapshotEntriesDefault = 4_096;
export const keptEntriesDefault = 1_024;
/** Ids of removed members that are remembered. */
export const removedIdsMax = 1_000;
/** Entries that a learner may lack when it is given its vote. */
export const learnerLagMax = 64;
/** Members of other groups, or not known yet, to which a link is kept. */
export const strangersMax = 16;

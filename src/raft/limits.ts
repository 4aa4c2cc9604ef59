/** Entries and bytes that a leader holds uncommitted before it answers OVERLOADED. */
export const uncommittedEntriesMax = 1_024;
export const uncommittedBytesMax = 4 << 20;
/** Entries and bytes of one append message; one entry may be larger. */
export const appendEntriesMax = 128;
export const appendBytesMax = 1 << 20;
/** Append messages to one follower that wait for their answer. */
export const inFlightMax = 16;
/** Milliseconds before a lost link to a peer is dialed again. */
export const redialMs = 100;
/** Proposals of this process that wait for their outcome. */
export const proposalsMax = 1_024;

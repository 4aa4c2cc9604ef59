/** Letters of a host and port. */
export const addressBytesMax = 261;
/** Removed ids that are remembered one by one. */
export const removedIdsMax = 1_000;
/** Looks at the nodes in one heartbeat interval. */
export const ticksPerHeartbeat = 4;
/**
 * Milliseconds between two tries of a command while there is no leader, and how long it is tried
 * at most, of half the time that there is: callers try too, and the answer has to reach them.
 */
export const noLeaderMs = 50;
export const noLeaderMsMax = 800;
/** Milliseconds that a change of the leader's own may take before it looks again. */
export const commandTimeoutMs = 2_000;
/** Members that a chain may be filled up to: every one of them stores every write. */
export const chainLengthMax = 64;
/** Members of all kinds: each stands in every view, and views go to everybody. */
export const membersMax = 1_024;
/** Milliseconds for which a node that lost its place for the second time isn't taken in; doubles with each further time. */
export const heldMsFirst = 1_000;
export const heldMsMax = 60_000;
/** Milliseconds of service after which it is forgotten how often a node had lost its place. */
export const servedMs = 300_000;
/** Serving members without whom nobody is held back: another copy is worth more than a quiet chain. */
export const servingMin = 2;
/** Milliseconds for which a node's oldest write may wait for its disk before the node is taken out. */
export const stuckMsMax = 10_000;

/** Letters of an id; of a host and port. */
export const idBytesMax = 64;
export const addressBytesMax = 261;
/** Removed ids that are remembered one by one. */
export const removedIdsMax = 1_000;
/** Looks at the nodes in one heartbeat interval. */
export const ticksPerHeartbeat = 4;
/** Milliseconds between two tries of a command while there is no leader. */
export const noLeaderMs = 50;
/** Milliseconds that a change of the leader's own may take before it looks again. */
export const commandTimeoutMs = 2_000;

/** Looks at the nodes in one heartbeat interval. */
export const ticksPerHeartbeat = 4;
/** Milliseconds that a change of the leader's own may take before it looks again. */
export const commandTimeoutMs = 2_000;
/** Members that a chain may be filled up to: every one of them stores every write. */
export const chainLengthMax = 64;

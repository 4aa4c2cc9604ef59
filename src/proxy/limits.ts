/** Operations of callers that wait for their answer at one proxy. */
export const operationsMax = 8_192;
/** Writes with an id of the proxy's that wait for their answer. */
export const writesMax = 4_096;
/** Client ids of a proxy: a write that waits long holds up the ids of its own lane only. */
export const lanesMax = 4;
/**
 * From the lowest unanswered seq of a client id to the newest. Half of the outcomes that a node keeps for a
 * client (4,096), as a node learns of answers one commit late.
 */
export const laneSpanMax = 2_048;
/** Times that a write may be given a new client id because its old one was expired. */
export const renewalsMax = 2;
/** Bytes and operations of one message to a node; one operation may be larger. */
export const messageLimits = { itemsMax: 1_024, bytesMax: 2 << 20 } as const;
/** When operations for one node are held until it has answered. */
export const messagePace = { itemsMin: 32, holdMs: 1 } as const;
/** Milliseconds between two looks at what is due, while something waits. */
export const tickMs = 20;
/** Milliseconds without a word after which a link that didn't close is taken for connected. */
export const connectedAfterMs = 100;
/** Milliseconds before a lost link is dialed again; doubles up to the longest. */
export const redialMsFirst = 50;
export const redialMsLongest = 1_000;
/** Milliseconds that `close` waits for operations that were taken. */
export const drainMs = 2_000;
/** Operations of one client's session that wait for their answer. */
export const sessionOperationsMax = 4_096;
/** Bytes of values that one client's session has not fetched; what finds no room is read again when there is some. */
export const sessionAnswerBytesMax = 64 << 20;
/** Bytes of operations that wait for their answer: 8,192 of the largest values would not fit in memory. */
export const operationBytesMax = 256 << 20;
/** Times of an attempt's time-out that a node which answers others is given. */
export const patienceFactor = 3;

/** From the lowest unanswered seq of a client id to the newest: half of what a node keeps for a client. */
export const laneSpanMax = 2_048;
/** Client ids of one client: a write that waits long holds up the ids of its own lane only. */
export const lanesMax = 4;
/** Writes that may wait for their answer. */
export const writesMax = 4_096;
/** Operations that may wait for their answer, reads and writes. */
export const operationsMax = 65_536;
/** Of them on one stream: what a proxy lets one session have. The others wait here. */
export const sessionOperationsMax = 4_096;
/** Bytes and operations of one message to a proxy; one operation may be larger. */
export const messageLimits = { itemsMax: 1_024, bytesMax: 2 << 20 } as const;
/** Bytes of an operation besides its key and value, at most. */
export const operationOverheadBytes = 128;
/** Bytes that one UTF-16 unit of a text needs, at most. */
export const utf8BytesMax = 3;
/** Milliseconds that one endpoint may take to connect before the next is tried. */
export const connectMs = 1_000;
/** Milliseconds before a proxy is dialed again whose stream closed without a word; doubles up to the longest. */
export const redialMsFirst = 50;
export const redialMsLongest = 1_000;
/** Milliseconds without a word after which a stream is in doubt, where somebody waits for it. */
export const silenceMs = 400;
/** Streams to one endpoint that are in doubt and still waited for. */
export const retiredMax = 4;
/** Milliseconds without an operation, at least, and twice as many at most, after which a stream is ended. */
export const idleMs = 250;
/** Times that a write may be given a new client id because its old one was expired. */
export const renewalsMax = 2;

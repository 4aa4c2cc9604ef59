/** From the lowest unanswered seq of a client id to the newest: half of what a node keeps for a client. */
export const laneSpanMax = 2_048;
/** Client ids of one client: a write that waits long holds up the ids of its own lane only. */
export const lanesMax = 4;
/** Writes that may wait for their answer. */
export const writesMax = 4_096;
/** Milliseconds that one endpoint may take to connect before the next is tried. */
export const connectMs = 1_000;
/** Times that a write may be given a new client id because its old one was expired. */
export const renewalsMax = 2;

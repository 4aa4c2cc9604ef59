/** Limits on what clients send. Configurable by flags of the same name (docs/names.md). */
export const keyBytesMaxDefault = 4 << 10;
export const valueBytesMaxDefault = 1 << 20;
/** Letters of the id of a node, a coordinator, a proxy. */
export const idBytesMax = 64;
/** gRPC message limit: a value of the largest size in a batch, and a batch cut at 2 MiB, fit. */
export const messageBytesMax = 8 << 20;
/** Milliseconds: the deadline where the caller names none, and the longest that is allowed. */
export const deadlineMsDefault = 5_000;
export const deadlineMsMax = 60_000;
/** Bytes of objects that a node keeps in memory. */
export const objectCacheBytesDefault = 64 << 20;

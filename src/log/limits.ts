/** Bytes of newest blocks kept in memory, so that a follower that keeps up reads no disk. */
export const recentBytesMax = 16 << 20;
/** Blocks read from the disk at a time by a cursor. */
export const readBlocksMax = 64;
/** Batches without a block, or with a cut, whose markers are kept, so that a hole in them is noticed. */
export const markersMax = 16_384;
/** Dropped blocks that one batch deletes. */
export const dropBlocksMax = 4_096;

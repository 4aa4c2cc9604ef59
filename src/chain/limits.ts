import { deadlineMsMax } from '../base/limits.js';

/** Bytes of staged, uncommitted entries at a head before it answers OVERLOADED. */
export const stagedBytesMax = 64 << 20;
/** Staged, uncommitted entries at a head before it answers OVERLOADED. */
export const stagedEntriesMax = 65_536;
/** Entries and bytes of one block; one entry may be larger. */
export const blockEntriesMax = 1_024;
export const blockBytesMax = 1 << 20;
/** Reads that wait for a lease or a tail's answer. */
export const parkedReadsMax = 16_384;
/** Reads whose objects are on their way from the disk. */
export const loadingReadsMax = 16_384;
/** Outcomes kept for a client. */
export const outcomesMax = 4_096;
/** Clients whose expired sessions are remembered, oldest forgotten first. */
export const expiredSessionsMax = 65_536;
/** Milliseconds of silence after which the head expires a session. */
export const sessionSilenceMs = 3_600_000;
/** Parts of it between two marks of how far the chain had committed, and between two looks for silent clients. */
export const marksInSilence = 120;
export const looksInSilence = 360;
/** Clients with a session, beyond which those are expired that have been silent longest, */
export const sessionsMax = 65_536;
/** and for this many milliseconds at least: no operation is tried for so long. */
export const crowdedSilenceMs = 2 * deadlineMsMax;
/** Clients that one entry expires. */
export const expiredInEntryMax = 1_024;
/** Entries that a SYNCING member may lag behind the tail when it is made JOINING. */
export const joinLagEntriesMax = 1_024;
/** Unacknowledged bytes on one link before the sender waits. */
export const linkWindowBytesMax = 16 << 20;
/** Bytes of blocks in one link message; one block may be larger. */
export const linkMessageBytesMax = 2 << 20;
/** Bytes of blocks that a SYNCING member is fed between two rests. */
export const catchUpBytes = 256 << 10;
/** Entries that it is fed for each one that is written meanwhile, at least: else there is no rest. */
export const catchUpFactor = 1.25;
/** Milliseconds that wall and monotonic clock may part between two ticks before all leases are dropped. */
export const clockMarginMs = 100;
/** Reads of one session that are under way, and bytes of its results that wait to be fetched, before further reads wait. */
export const sessionReadsMax = 1_024;
export const sessionResultBytesMax = 16 << 20;
/** Operations and results of one session that may wait; beyond it the session ends. */
export const sessionWaitingMax = 65_536;
/** What a node keeps of its log, about; no bound of entries. */
export const logBoundsDefault = { bytesMax: 256 << 20, entriesMax: Number.MAX_SAFE_INTEGER };
/** Of the time that making a base, feeding a SYNCING member and deleting what was dropped may take. */
export const compactionShareDefault = 0.2;
/** Bytes of the records of one chunk of a base. */
export const chunkBytesMax = 256 << 10;
/** Milliseconds that what is committed may wait to be stored, and bytes of it in memory. */
export const storeDelayMs = 100;
export const unstoredBytesMax = 2 << 20;

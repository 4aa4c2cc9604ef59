import { inFlightBytesMax, inFlightMax } from './limits.js';

/**
 * What a leader knows of one follower. `probe`: where the logs meet is not known: one message at a time.
 * `replicate`: messages are sent ahead of their answers. `snapshot`: one is under way.
 */
export interface Progress {
  mode: 'probe' | 'replicate' | 'snapshot';
  /** Highest index known to be synced there. */
  match: number;
  /** The next entry to send. */
  next: number;
  /** Append messages with entries that wait for their answer: the last entry of each, and its bytes. */
  inFlight: { readonly last: number; readonly bytes: number }[];
  inFlightBytes: number;
  /** While probing: a message waits for its answer. */
  probed: boolean;
  /** The entry that the newest snapshot sent ends with, and when it was sent, in monotonic milliseconds. */
  snapshotIndex: number;
  snapshotSentAt: number;
  /** Monotonic milliseconds of its last answer, and the newest round that it answered. */
  heardAt: number;
  round: number;
}

export function newProgress(next: number, now: number): Progress {
  return {
    mode: 'probe',
    match: 0,
    next,
    inFlight: [],
    inFlightBytes: 0,
    probed: false,
    snapshotIndex: 0,
    snapshotSentAt: Number.NEGATIVE_INFINITY,
    heardAt: now,
    round: 0,
  };
}

export function mayCarry(progress: Progress): boolean {
  switch (progress.mode) {
    case 'probe':
      return !progress.probed;
    case 'replicate':
      return progress.inFlight.length < inFlightMax && progress.inFlightBytes < inFlightBytesMax;
    case 'snapshot':
      return false;
  }
}

/** Entries were sent. */
export function carried(progress: Progress, last: number, bytes: number): void {
  if (progress.mode === 'probe') {
    progress.probed = true;
    return;
  }
  progress.inFlight.push({ last, bytes });
  progress.inFlightBytes += bytes;
  progress.next = last + 1;
}

/** The follower has everything through here on its disk. */
export function matched(progress: Progress, match: number): void {
  progress.match = Math.max(progress.match, match);
  progress.next = Math.max(progress.next, progress.match + 1);
  // A snapshot that was sent twice, or overtaken by the log: what counts is what it has (B11).
  progress.mode = 'replicate';
  progress.probed = false;
  while ((progress.inFlight[0]?.last ?? Number.POSITIVE_INFINITY) <= progress.match)
    freeOne(progress);
}

/** The logs part before `next`. */
export function probeFrom(progress: Progress, next: number): void {
  progress.mode = 'probe';
  progress.probed = false;
  progress.next = Math.max(progress.match + 1, next);
  progress.inFlight = [];
  progress.inFlightBytes = 0;
}

/** An answer that was lost must not hold its place for ever. */
export function freeOne(progress: Progress): void {
  progress.inFlightBytes -= progress.inFlight.shift()?.bytes ?? 0;
}

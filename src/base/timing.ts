/** The times that leases and failure detection depend on (docs/protocol.md); all in milliseconds. */
export interface Timing {
  /** h: heartbeat and promise renewal interval. */
  readonly heartbeatMs: number;
  /** T: silence after which a member is taken out whose process may live. */
  readonly detectionMs: number;
  /** L: how long a promise is relied on, counted from its request. */
  readonly leaseMs: number;
  /** ρ: bound on clock drift, e.g. 0.01. */
  readonly drift: number;
  /** Raft: an election timeout is drawn from [this, 2 × this). */
  readonly electionMs: number;
}

/**
 * L bounds the write gap after a kill (about W); T is wide, so that a saturated machine of two cores evicts nobody who
 * lives. A killed process is noticed without T (src/wire/probe.ts). docs/decisions/0013 works the numbers out.
 */
export const timingDefault: Timing = {
  heartbeatMs: 100,
  detectionMs: 700,
  leaseMs: 400,
  drift: 0.01,
  electionMs: 300,
};

/** W = L(1+ρ)/(1−ρ): how long the giver keeps a promise of lease L, by its own clock. */
export function promiseMs(leaseMs: number, drift: number): number {
  return (leaseMs * (1 + drift)) / (1 - drift);
}

import type { Timing } from '../base/timing.js';
import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import type { ProbeAnswer } from '../wire/probe.js';

/** A process whose kernel is asked whether it is there. Monotonic milliseconds. */
export interface Probed {
  readonly id: string;
  readonly incarnation: number;
  readonly address: string;
  /** Its heartbeats' stream has ended by its own doing, and it has not been heard since. */
  hasEnded: boolean;
  /** When the newest probe began. */
  probedAt: number;
  /** When it was first refused of those that were refused in a row; undefined: the newest one was not. */
  refusedAt: number | undefined;
  /** When the newest probe that was accepted began. */
  acceptedAt: number;
}

type Process = Pick<Member, 'id' | 'incarnation' | 'address'>;

/** What is known by probes, by node id. A heartbeat takes the node's out. */
export class Probes {
  readonly #all = new Map<string, Probed>();

  /** The last stream on which this process beat has ended, and this coordinator has not ended it. */
  ended(process: Process): void {
    this.#of(process).hasEnded = true;
  }

  heard(id: string): void {
    const probed = this.#all.get(id);
    if (probed === undefined) return;
    probed.hasEnded = false;
    probed.refusedAt = undefined;
  }

  /** Nobody else's process matters. */
  keepOnly({ members }: View): void {
    for (const id of this.#all.keys()) {
      if (!members.some((m) => m.id === id)) this.#all.delete(id);
    }
  }

  /**
   * Who is to be probed now: members whose stream has ended; and where one of these has been gone for a heartbeat
   * interval, those that serve, each of which may show that it has not died with it (R10).
   */
  due({ members }: View, { heartbeatMs }: Timing, now: number): readonly Probed[] {
    const isGone = members.some((m) => this.goneSince(m, heartbeatMs) <= now);
    const asked = members.filter(
      (m) => this.hasEnded(m) || (isGone && m.state === MemberState.SERVING),
    );
    return asked.map((m) => this.#of(m)).filter(({ probedAt }) => now - probedAt >= heartbeatMs);
  }

  /** An answer that comes when the process has been heard again counts for nothing. */
  answered(probed: Probed, beganAt: number, answer: ProbeAnswer, now: number): void {
    if (this.#all.get(probed.id) !== probed) return;
    if (answer === 'accepted') probed.acceptedAt = beganAt;
    const isRefused = answer === 'refused' && probed.hasEnded;
    probed.refusedAt = isRefused ? (probed.refusedAt ?? now) : undefined;
  }

  hasEnded(member: Process): boolean {
    return this.#find(member)?.hasEnded === true;
  }

  /** When its port had refused for a heartbeat interval, in which a process that lives would have beaten anew. */
  goneSince(member: Process, heartbeatMs: number): number {
    return (this.#find(member)?.refusedAt ?? Number.POSITIVE_INFINITY) + heartbeatMs;
  }

  /** Did a connection to it stand at this time, or later? */
  isThereSince(member: Process, since: number): boolean {
    const probed = this.#find(member);
    return probed !== undefined && !probed.hasEnded && probed.acceptedAt >= since;
  }

  #find({ id, incarnation }: Process): Probed | undefined {
    const probed = this.#all.get(id);
    return probed?.incarnation === incarnation ? probed : undefined;
  }

  #of({ id, incarnation, address }: Process): Probed {
    const known = this.#find({ id, incarnation, address });
    if (known !== undefined) return known;
    const never = Number.NEGATIVE_INFINITY;
    const probed = {
      id,
      incarnation,
      address,
      hasEnded: false,
      probedAt: never,
      acceptedAt: never,
    };
    const fresh: Probed = { ...probed, refusedAt: undefined };
    this.#all.set(id, fresh);
    return fresh;
  }
}

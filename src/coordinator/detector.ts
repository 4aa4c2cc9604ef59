import { equalBytes } from '../base/bytes.js';
import { promiseMs, type Timing } from '../base/timing.js';
import {
  type ChangeView,
  type Member,
  MemberState,
  type NodeHeartbeat,
  type RegistryCommand,
  type View,
} from '../gen/keychaindb/v1/coordinator.js';
import { type Flaps, heldForMs } from './flapping.js';
import { servingMin, stuckMsMax } from './limits.js';
import { whyFull } from './member-name.js';
import { Probes } from './probes.js';
import { highestIncarnation } from './registry.js';
import type { RegistryState } from './registry-state.js';

/** The last word of a node, by this coordinator's clock. */
export interface Heard {
  readonly beat: NodeHeartbeat;
  /** Monotonic milliseconds. */
  readonly at: number;
  /** When this incarnation was first heard. */
  readonly since: number;
}

/** What a coordinator knows of the nodes. Every coordinator keeps one, so that a new leader has it (R13). */
export interface DetectorState {
  /** By node id; the highest incarnation heard. */
  readonly heard: Map<string, Heard>;
  /** What the kernels of members say whose streams have ended. */
  readonly probes: Probes;
  /** When this coordinator began to listen. */
  readonly startedAt: number;
  /** When it became leader. */
  leaderSince: number;
  /** When it learned of the newest view. */
  viewSince: number;
  /** Since when a member has been named by peers that lack it: by name. */
  readonly suspected: Map<string, number>;
  /** Since when a survivor has waited to be reinstated. */
  survivorSince: number | undefined;
  /** Who has lost its place again and again. */
  readonly flaps: Flaps;
}

export function emptyDetector(now: number): DetectorState {
  return {
    heard: new Map(),
    probes: new Probes(),
    startedAt: now,
    leaderSince: now,
    viewSince: now,
    suspected: new Map(),
    survivorSince: undefined,
    flaps: new Map(),
  };
}

/** It leads from now on. Who lacked whom before was kept up to date only while it led. */
export function leads(state: DetectorState, now: number): void {
  state.leaderSince = now;
  state.suspected.clear();
}

/** A heartbeat. An older process's is not taken. */
export function onHeartbeat(state: DetectorState, beat: NodeHeartbeat, now: number): void {
  const known = state.heard.get(beat.id);
  if (known !== undefined && known.beat.incarnation > beat.incarnation) return;
  const isSame = known?.beat.incarnation === beat.incarnation;
  state.heard.set(beat.id, { beat, at: now, since: isSame ? known.since : now });
  state.probes.heard(beat.id);
}

/** Who is no member any more, and silent, is forgotten: over the years nodes come and go. */
export function forgetGone(state: DetectorState, view: View, timing: Timing, now: number): void {
  const ids = new Set([...view.members, ...view.others].map(({ id }) => id));
  for (const [id, { at }] of state.heard) {
    if (!ids.has(id) && now - at >= timing.detectionMs) state.heard.delete(id);
  }
  state.probes.keepOnly(view);
}

/**
 * What the leader proposes now, or nothing. One command at a time: the next one is decided on its outcome.
 * Pure but for the waiting times that `state` keeps.
 */
export function detect(
  registry: RegistryState,
  state: DetectorState,
  timing: Timing,
  now: number,
): RegistryCommand | undefined {
  if (now - state.leaderSince < timing.heartbeatMs) return undefined;
  const look = new Look(registry, state, timing, now);
  return (
    look.newProcess() ??
    look.survivor() ??
    look.refusedMember() ??
    look.silentMember() ??
    look.idleMember() ??
    look.severedMember() ??
    look.stuckMember() ??
    look.damagedMember() ??
    look.reported() ??
    look.nextToSync()
  );
}

/** Is this process heard: its own incarnation, within T? */
export function isHeard(
  state: DetectorState,
  member: { readonly id: string; readonly incarnation: number },
  timing: Timing,
  now: number,
): boolean {
  const heard = state.heard.get(member.id);
  return (
    heard !== undefined &&
    heard.beat.incarnation === member.incarnation &&
    now - heard.at < timing.detectionMs
  );
}

/** Why a waiting member that is heard isn't fed yet; '' where it is its turn. */
export function whyNotFed(
  { view }: RegistryState,
  state: DetectorState,
  timing: Timing,
  now: number,
  member: Member,
): string {
  const serving = view.members.filter((m) => m.state === MemberState.SERVING);
  const fed = view.members.find((m) => m.state !== MemberState.SERVING);
  if (serving.length > 0 && !serving.some((m) => isHeard(state, m, timing, now))) {
    return 'no serving node is heard that could feed it';
  }
  if (!isOfLineage(state, member, view.lineage)) {
    return 'its store is from before the chain was recovered: it is emptied first';
  }
  if (fed !== undefined) return `${fed.id} is fed first`;
  const isPart = state.heard.get(member.id)?.beat.incomplete === true;
  return isPart ? 'its store holds a part of a snapshot: it gets a whole one' : '';
}

/** Why an operator may not give up those that serve and go on with this member; '' where it may. */
export function whyNotRecovered(
  { view }: RegistryState,
  state: DetectorState,
  timing: Timing,
  now: number,
  id: string,
): string {
  const serving = view.members.filter((m) => m.state === MemberState.SERVING);
  const isDone = view.lineage > 1 && serving.length === 1 && serving[0]?.id === id;
  const living = serving.filter((m) => isHeard(state, m, timing, now));
  if (living.length > 0 && !isDone) {
    return `${living.map((m) => m.id).join(' and ')} serves and is heard: nothing has to be given up`;
  }
  // A newer process on the store of one that serves goes on by itself (R10), unless the store isn't whole.
  const back = view.others.find(
    (m) =>
      m.id !== id &&
      isHeard(state, m, timing, now) &&
      isIntact(state, m, view.lineage) &&
      serving.some((s) => equalBytes(s.storeId, m.storeId)),
  );
  if (back !== undefined)
    return `${back.id} has come back with its store: the chain goes on with it`;
  const member = view.others.find((m) => m.id === id);
  if (member === undefined || member.state !== MemberState.WAITING) return '';
  if (!isHeard(state, member, timing, now)) return `${id} is not heard: start it first`;
  return isIntact(state, member, view.lineage) ? '' : `the store of ${id} is not whole`;
}

/** Is its store whole, and of this lineage? */
function isIntact(state: DetectorState, member: Member, lineage: number): boolean {
  const isWhole = state.heard.get(member.id)?.beat.incomplete === false;
  return isWhole && isOfLineage(state, member, lineage);
}

/** Is its store of this lineage, or of none yet? */
function isOfLineage({ heard }: DetectorState, { id }: Member, lineage: number): boolean {
  const own = heard.get(id)?.beat.lineage;
  return own === lineage || own === 0;
}

class Look {
  readonly #registry: RegistryState;
  readonly #state: DetectorState;
  readonly #timing: Timing;
  readonly #now: number;
  readonly #serving: readonly Member[];
  readonly #isServed: boolean;

  constructor(registry: RegistryState, state: DetectorState, timing: Timing, now: number) {
    this.#registry = registry;
    this.#state = state;
    this.#timing = timing;
    this.#now = now;
    this.#serving = registry.view.members.filter((m) => m.state === MemberState.SERVING);
    this.#isServed = this.#serving.some((m) => this.#hears(m));
  }

  #bootWaitMs({ id }: Member): number {
    return this.#state.heard.get(id)?.beat.bootWaitMs ?? 0;
  }

  #hears(member: Member): boolean {
    return isHeard(this.#state, member, this.#timing, this.#now);
  }

  /** R10: has another serving member been heard since then? */
  #isServedSince(id: string, since: number): boolean {
    return this.#serving.some(
      (m) => m.id !== id && this.#hears(m) && (this.#state.heard.get(m.id)?.at ?? 0) > since,
    );
  }

  #change(change: NonNullable<ChangeView['change']>): RegistryCommand {
    const expectedEpoch = this.#registry.view.epoch;
    return { command: { $case: 'changeView', value: { expectedEpoch, change } } };
  }

  /** A process of a higher incarnation registers; one that asks to join, and never was here, is added. */
  newProcess(): RegistryCommand | undefined {
    const { view, incarnations } = this.#registry;
    const all = [...view.members, ...view.others];
    for (const { beat, at, since } of this.#state.heard.values()) {
      if (this.#now - at >= this.#timing.detectionMs) continue;
      const { id, incarnation, storeId, address, process } = beat;
      const isKnown = all.some((m) => m.id === id);
      if (isKnown && incarnation > highestIncarnation(this.#registry, id)) {
        if (all.some((m) => m.address === address && m.id !== id)) continue;
        const isMember = this.#serving.some((m) => m.id === id);
        // All may have died with it: it loses its place when another one is heard that has outlived it.
        const keepsPlace = isMember && !this.#isServedSince(id, since);
        if (keepsPlace && this.#now - since < 2 * this.#timing.heartbeatMs) continue;
        return {
          command: {
            $case: 'register',
            value: { id, incarnation, storeId, address, keepsPlace, process },
          },
        };
      }
      const isNew = !isKnown && !incarnations.has(id) && whyFull(view) === '';
      if (beat.join && isNew && !all.some((m) => m.address === address)) {
        return {
          command: { $case: 'addMember', value: { id, address, spare: false, expectedEpoch: 0 } },
        };
      }
    }
    return undefined;
  }

  /** R10: nobody who serves is heard. The longest log among the returned stores goes on alone. */
  survivor(): RegistryCommand | undefined {
    const { view } = this.#registry;
    if (this.#isServed) {
      this.#state.survivorSince = undefined;
      return undefined;
    }
    const isFirst = this.#serving.length === 0;
    const others = view.others.filter((m) => !m.drained && (!m.spare || view.length > 0));
    const waiting = others.filter(
      (m) => m.state === MemberState.WAITING && this.#hears(m) && this.#isIntact(m),
    );
    const back = isFirst
      ? waiting
      : waiting.filter((m) => this.#serving.some((s) => equalBytes(s.storeId, m.storeId)));
    if (back.length === 0) return undefined;
    this.#state.survivorSince ??= this.#now;
    const first = back.find((m) => !m.spare) ?? back[0];
    // Of all there is nothing to wait for; a coordinator that has just started may not have heard who serves.
    const isAll = isFirst ? others[0] === first : back.length === this.#serving.length;
    const { detectionMs } = this.#timing;
    const waited = Math.min(
      this.#now - this.#state.survivorSince,
      this.#now - this.#state.startedAt,
      this.#now - this.#state.leaderSince,
    );
    if (!isAll && waited < detectionMs) return undefined;
    const longest = isFirst ? first : this.#longest(back);
    if (longest === undefined) return undefined;
    const { id, incarnation } = longest;
    return this.#change({ $case: 'reinstate', value: { id, incarnation } });
  }

  #isIntact(member: Member): boolean {
    return isIntact(this.#state, member, this.#registry.view.lineage);
  }

  #longest(members: readonly Member[]): Member | undefined {
    const last = (m: Member): { generation: number; index: number } =>
      this.#state.heard.get(m.id)?.beat.last ?? { generation: 0, index: 0 };
    return [...members].sort((a, b) => {
      const [x, y] = [last(a), last(b)];
      return y.generation - x.generation || y.index - x.index;
    })[0];
  }

  /**
   * R13, R10: its kernel says that its process is gone, and that of another one which serves says, later, that this one
   * is not: it has not died with it.
   */
  refusedMember(): RegistryCommand | undefined {
    const { probes } = this.#state;
    for (const member of this.#registry.view.members) {
      const goneSince = probes.goneSince(member, this.#timing.heartbeatMs);
      if (this.#now < goneSince) continue;
      const isOutlived = this.#serving.some(
        (m) => m.id !== member.id && this.#hears(m) && probes.isThereSince(m, goneSince),
      );
      if (isOutlived) return this.#evict(member);
    }
    return undefined;
  }

  /** R13, R10: silence for T is evidence only while another serving member is heard. */
  silentMember(): RegistryCommand | undefined {
    if (!this.#isServed) return undefined;
    let longest: Member | undefined;
    let silence = this.#timing.detectionMs;
    for (const member of this.#registry.view.members) {
      const heard = this.#state.heard.get(member.id);
      const isOwn = heard?.beat.incarnation === member.incarnation;
      if (this.#hasReturned(member)) continue;
      const since = Math.max(isOwn ? heard.at : 0, this.#state.startedAt);
      if (this.#now - since < silence) continue;
      silence = this.#now - since;
      longest = member;
    }
    return longest === undefined ? undefined : this.#evict(longest);
  }

  /** A newer process of it is heard, and nobody who has outlived the old one: it may have to go on alone (R10). */
  #hasReturned({ id, incarnation }: Member): boolean {
    const heard = this.#state.heard.get(id);
    if (heard === undefined || heard.beat.incarnation <= incarnation) return false;
    return !this.#isServedSince(id, heard.since);
  }

  #evict({ id, incarnation }: Member): RegistryCommand | undefined {
    // Where all die together, the one that was heard last is no evidence that the chain goes on without the others.
    if (!this.#isServedSince(id, this.#now - this.#timing.detectionMs / 2)) return undefined;
    return this.#change({ $case: 'evict', value: { id, incarnation } });
  }

  /** R13: it doesn't activate the view within W + 2T of it, where another one has. */
  idleMember(): RegistryCommand | undefined {
    const { view } = this.#registry;
    const { leaseMs, drift, detectionMs } = this.#timing;
    const allowed = promiseMs(leaseMs, drift) + 2 * detectionMs;
    if (this.#now - Math.max(this.#state.viewSince, this.#state.leaderSince) < allowed) {
      return undefined;
    }
    const active = (m: Member): number => this.#state.heard.get(m.id)?.beat.activeEpoch ?? 0;
    const isActive = view.members.some((m) => this.#hears(m) && active(m) === view.epoch);
    const idle = view.members.findLast((m) => this.#hears(m) && active(m) < view.epoch);
    // All the others wait for the promise of one that is JOINING (R3): it is in the way, also where only one serves.
    const joining = view.members.find((m) => m.state === MemberState.JOINING);
    if (joining !== undefined && idle !== undefined && idle !== joining) {
      return this.#evict(joining);
    }
    return isActive && idle !== undefined ? this.#evict(idle) : undefined;
  }

  /**
   * R13: members that lack each other's promise or link, while both are heard. The one more often named goes,
   * of two named as often the later in the chain. One that is SYNCING, and lacks its link, goes itself where nobody
   * else is named: the chain has no need of it.
   */
  severedMember(): RegistryCommand | undefined {
    const { view } = this.#registry;
    const { suspected } = this.#state;
    const named = new Map<string, number>();
    let lacking: string | undefined;
    for (const member of view.members) {
      const beat = this.#state.heard.get(member.id)?.beat;
      if (!this.#hears(member) || beat?.activeEpoch !== view.epoch) continue;
      if (member.state === MemberState.SYNCING) {
        // Those of 0.1.0, which say no version, name all: they count promises that they never ask for.
        if (beat.silentPeers.length > 0 && beat.version !== '') lacking = member.id;
        continue;
      }
      for (const id of beat.silentPeers) named.set(id, (named.get(id) ?? 0) + 1);
      // Who names is part of the pair: it counts where all else is equal.
      if (beat.silentPeers.length > 0) named.set(member.id, named.get(member.id) ?? 0);
    }
    if (lacking !== undefined && named.size === 0) named.set(lacking, 1);
    for (const id of [...suspected.keys()]) if (!named.has(id)) suspected.delete(id);
    for (const id of named.keys()) if (!suspected.has(id)) suspected.set(id, this.#now);
    if (this.#now - this.#state.viewSince < this.#timing.detectionMs) return undefined;
    let worst: Member | undefined;
    for (const member of view.members) {
      const since = suspected.get(member.id);
      if (since === undefined || this.#now - since < this.#timing.detectionMs) continue;
      const often = named.get(member.id) ?? 0;
      if (often > 0 && often >= (worst === undefined ? 1 : (named.get(worst.id) ?? 0))) {
        worst = member;
      }
    }
    return worst === undefined ? undefined : this.#evict(worst);
  }

  /** Its disk answers nothing: it beats on, and no write is committed while it is in the chain. */
  stuckMember(): RegistryCommand | undefined {
    const stuckMs = (m: Member): number =>
      this.#hears(m) ? (this.#state.heard.get(m.id)?.beat.stuckMs ?? 0) : 0;
    // Where all are stuck nobody is better off without another one.
    const isWell = this.#serving.some((m) => this.#hears(m) && stuckMs(m) < stuckMsMax);
    if (!isWell) return undefined;
    const stuck = this.#registry.view.members.findLast((m) => stuckMs(m) >= stuckMsMax);
    return stuck === undefined ? undefined : this.#evict(stuck);
  }

  /**
   * R18: a member whose store is damaged, or whose state is not that of the others, goes, and is synced anew; never
   * while nobody else serves whose records can be read.
   */
  damagedMember(): RegistryCommand | undefined {
    const { view } = this.#registry;
    const beatOf = (m: Member): NodeHeartbeat | undefined =>
      this.#hears(m) ? this.#state.heard.get(m.id)?.beat : undefined;
    const isUnreadable = (m: Member): boolean => {
      const beat = beatOf(m);
      return beat !== undefined && beat.damage !== '' && beat.outlier === '';
    };
    const outliers = view.members.flatMap((m) => {
      const beat = beatOf(m);
      return beat?.activeEpoch === view.epoch && beat.outlier !== '' ? [beat.outlier] : [];
    });
    const damaged =
      view.members.findLast(isUnreadable) ??
      view.members.findLast(({ id }) => outliers.includes(id));
    if (damaged === undefined) return undefined;
    const isCopied = this.#serving.some((m) => m !== damaged && this.#hears(m) && !isUnreadable(m));
    return isCopied ? this.#evict(damaged) : undefined;
  }

  /** R9: the tail's report of exactly this epoch. */
  reported(): RegistryCommand | undefined {
    const { view } = this.#registry;
    const tail = this.#serving.at(-1);
    if (tail === undefined || !this.#hears(tail)) return undefined;
    const report = this.#state.heard.get(tail.id)?.beat.report;
    if (report?.epoch !== view.epoch) return undefined;
    const fed = view.members.at(-1);
    const { id, incarnation } = report;
    if (fed?.id !== id || fed.incarnation !== incarnation || !this.#hears(fed)) return undefined;
    if (fed.state === MemberState.SYNCING && report.next === MemberState.JOINING) {
      return this.#change({ $case: 'startJoin', value: { id, incarnation } });
    }
    // It could not activate the view in which it serves (R5), and the chain would stand still with it.
    const mayServe = this.#bootWaitMs(fed) === 0;
    if (fed.state === MemberState.JOINING && report.next === MemberState.SERVING && mayServe) {
      return this.#change({ $case: 'promote', value: { id, incarnation } });
    }
    return undefined;
  }

  /**
   * One at a time, in the order in which they were added; last one whose store remembers longer leases than this
   * cluster's (R5): it keeps the others out until it may serve. Not one whose old incarnation still has its place:
   * it may yet have to go on alone (R10). A spare comes when the chain is too short, and nobody else does.
   */
  nextToSync(): RegistryCommand | undefined {
    const { view } = this.#registry;
    if (!this.#isServed || view.members.some((m) => m.state !== MemberState.SERVING)) {
      return undefined;
    }
    const { leaseMs, drift } = this.#timing;
    const usual = Math.ceil(promiseMs(leaseMs, drift));
    const isEnough = this.#serving.length >= servingMin;
    const ready = view.others.filter(
      (m) =>
        !(isEnough && heldForMs(this.#state.flaps, m.id, this.#now) > 0) &&
        m.state === MemberState.WAITING &&
        !m.drained &&
        this.#hears(m) &&
        // A store of another lineage is wiped first: its next incarnation joins.
        isOfLineage(this.#state, m, view.lineage) &&
        !view.members.some(({ id }) => id === m.id),
    );
    const isShort = view.members.length < view.length;
    const may = [...ready.filter((m) => !m.spare), ...ready.filter((m) => m.spare && isShort)];
    const next = may.find((m) => this.#bootWaitMs(m) <= usual) ?? may[0];
    if (next === undefined) return undefined;
    const { id, incarnation } = next;
    return this.#change({ $case: 'startSync', value: { id, incarnation } });
  }
}

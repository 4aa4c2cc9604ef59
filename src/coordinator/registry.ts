import { equalBytes, noBytes } from '../base/bytes.js';
import type { Reason } from '../base/errors.js';
import {
  type AddMemberRequest,
  type ChangeView,
  type CreateCluster,
  type DrainMemberRequest,
  type Member,
  type MemberName,
  MemberState,
  type RecoverChainRequest,
  type RegisterIncarnation,
  type RegistryCommand,
  type RemoveMemberRequest,
  type ReorderChainRequest,
  type SetChainLengthRequest,
  type View,
} from '../gen/keychaindb/v1/coordinator.js';
import { removedIdsMax } from './limits.js';
import type { RegistryState } from './registry-state.js';

export const emptyRegistry: RegistryState = {
  clusterId: noBytes,
  view: {
    ...{ chainId: 1, epoch: 0, lineage: 1, clusterId: noBytes },
    ...{ members: [], others: [], length: 0 },
  },
  incarnations: new Map(),
  forgotten: 0,
};

/** A change of the registry that was accepted: a fact, kept by the log of commands that led to it. */
export interface RegistryEvent {
  readonly type: 'ClusterCreated' | 'ViewChanged';
  readonly view: View;
  /** The process that was registered. */
  readonly registered?: MemberName;
}

/** A command that was refused changes nothing. */
export interface RegistryDecision {
  readonly events: readonly RegistryEvent[];
  /** '' where it was accepted. */
  readonly reason: Reason | '';
  readonly message: string;
}

/** @param at wall clock of the entry, in milliseconds: since when a process is in its state */
export function evolve(state: RegistryState, event: RegistryEvent, at = 0): RegistryState {
  const { registered } = event;
  const view = withTimes(state.view, event.view, at);
  const incarnations = new Map(state.incarnations);
  for (const { id, incarnation } of [...view.members, ...view.others]) {
    incarnations.set(id, Math.max(incarnations.get(id) ?? state.forgotten, incarnation));
  }
  if (registered !== undefined) incarnations.set(registered.id, registered.incarnation);
  const forgotten = forgetRemoved(incarnations, state.forgotten, view);
  return { clusterId: view.clusterId, view, incarnations, forgotten };
}

function withTimes(before: View, after: View, at: number): View {
  const was = new Map([...before.members, ...before.others].map((m) => [nameOf(m), m]));
  const timed = (m: Member): Member => {
    const old = was.get(nameOf(m));
    return old?.state === m.state ? m : { ...m, since: at };
  };
  // Lists without a change stay the same ones: it is how a change is seen.
  const all = (list: readonly Member[]): readonly Member[] =>
    list.every((m) => timed(m) === m) ? list : list.map(timed);
  return { ...after, members: all(after.members), others: all(after.others) };
}

function nameOf({ id, incarnation }: Member): string {
  return `${id} ${incarnation}`;
}

/** Of removed ids the newest are remembered; incarnations are times, so that one number stands for the rest. */
function forgetRemoved(incarnations: Map<string, number>, forgotten: number, view: View): number {
  const present = view.members.length + view.others.length;
  if (incarnations.size - present <= removedIdsMax) return forgotten;
  const ids = new Set([...view.members, ...view.others].map(({ id }) => id));
  const removed = [...incarnations].filter(([id]) => !ids.has(id));
  const [oldest] = removed.sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1));
  if (oldest === undefined) return forgotten;
  incarnations.delete(oldest[0]);
  return Math.max(forgotten, oldest[1]);
}

/** The highest incarnation that this id may ever have had. */
export function highestIncarnation({ incarnations, forgotten }: RegistryState, id: string): number {
  return incarnations.get(id) ?? forgotten;
}

/** Every member of the chain decides the same: pure, of state and command alone. */
export function decide(state: RegistryState, { command }: RegistryCommand): RegistryDecision {
  switch (command?.$case) {
    case 'createCluster':
      return createCluster(state, command.value);
    case 'addMember':
      return addMember(state, command.value);
    case 'removeMember':
      return removeMember(state, command.value);
    case 'drainMember':
      return drainMember(state, command.value);
    case 'reorderChain':
      return reorderChain(state, command.value);
    case 'recoverChain':
      return recoverChain(state, command.value);
    case 'setChainLength':
      return setChainLength(state, command.value);
    case 'register':
      return register(state, command.value);
    case 'changeView':
      return changeView(state, command.value);
    case undefined:
      return refused('BAD_REQUEST', 'a command that this version does not know');
  }
}

function refused(reason: Reason, message: string): RegistryDecision {
  return { events: [], reason, message };
}

/** One change, one epoch (invariant 11). */
function changed(
  { view }: RegistryState,
  members: readonly Member[],
  others: readonly Member[],
  registered?: MemberName,
): RegistryDecision {
  const next = { ...view, epoch: view.epoch + 1, members, others };
  const event: RegistryEvent = { type: 'ViewChanged', view: next };
  return {
    events: [registered === undefined ? event : { ...event, registered }],
    reason: '',
    message: '',
  };
}

function createCluster(state: RegistryState, command: CreateCluster): RegistryDecision {
  if (state.clusterId.byteLength > 0) return refused('BAD_REQUEST', 'the cluster exists');
  const { clusterId, chainId } = command;
  const view = { ...state.view, clusterId, chainId };
  return { events: [{ type: 'ClusterCreated', view }], reason: '', message: '' };
}

/** What was asked for is so already: a command that is repeated succeeds, and changes nothing. */
const isSo: RegistryDecision = { events: [], reason: '', message: '' };

/** An operator's change that was decided on another view than this; 0: on any. */
function isStale({ view }: RegistryState, expectedEpoch: number): boolean {
  return expectedEpoch !== 0 && expectedEpoch !== view.epoch;
}

function stale({ view }: RegistryState, expectedEpoch: number): RegistryDecision {
  return refused('STALE_EPOCH', `the view is of epoch ${view.epoch}, not ${expectedEpoch}`);
}

function addMember(state: RegistryState, command: AddMemberRequest): RegistryDecision {
  const { id, address, spare, expectedEpoch } = command;
  const { members, others } = state.view;
  const all = [...members, ...others];
  const known = all.find((m) => m.id === id);
  if (known !== undefined && known.address !== address) {
    return refused('MEMBER_EXISTS', `${id} is a member of the chain already, at ${known.address}`);
  }
  if (known !== undefined && known.spare !== spare) {
    const what = known.spare ? 'as a spare' : 'and no spare';
    return refused('MEMBER_EXISTS', `${id} is a member already, ${what}: remove it first`);
  }
  if (known !== undefined && !known.drained) return isSo;
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);
  if (known !== undefined) {
    const isBack = (m: Member): Member => (m === known ? { ...m, drained: false } : m);
    return changed(state, members, others.map(isBack));
  }
  const user = all.find((m) => m.address === address);
  if (user !== undefined) {
    return refused('ADDRESS_IN_USE', `${address} is the address of member ${user.id}`);
  }
  // What an earlier member of this id was can't come back: only a higher incarnation registers.
  const added: Member = {
    ...{ id, incarnation: 0, address, state: MemberState.OFFLINE, storeId: noBytes },
    ...{ drained: false, spare, note: '', since: 0 },
  };
  return changed(state, members, [...others, added]);
}

function removeMember(state: RegistryState, command: RemoveMemberRequest): RegistryDecision {
  const { id, expectedEpoch } = command;
  const { members, others } = state.view;
  if (![...members, ...others].some((m) => m.id === id)) {
    return state.incarnations.has(id)
      ? isSo
      : refused('MEMBER_NOT_FOUND', `${id} is not a member of the chain`);
  }
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);
  if (isOnlyServing(members, id)) {
    return refused(
      'LAST_SERVING',
      `${id} is the last member that serves: without it the data is gone; add another one first`,
    );
  }
  return changed(
    state,
    members.filter((m) => m.id !== id),
    others.filter((m) => m.id !== id),
  );
}

/** R16: out of the chain, and not taken in again before it is another process, or is added again. */
function drainMember(state: RegistryState, command: DrainMemberRequest): RegistryDecision {
  const { id, expectedEpoch } = command;
  const { members, others } = state.view;
  const member = members.find((m) => m.id === id);
  const waiting = others.find((m) => m.id === id);
  if (member === undefined && waiting === undefined) {
    return refused('MEMBER_NOT_FOUND', `${id} is not a member of the chain`);
  }
  if (member === undefined && waiting?.drained === true) return isSo;
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);
  if (isOnlyServing(members, id)) {
    return refused(
      'LAST_SERVING',
      `${id} is the last member that serves: without it nobody does; add another one first`,
    );
  }
  const drained = others.map((m) => (m === waiting ? { ...m, drained: true } : m));
  if (member !== undefined && waiting === undefined) {
    drained.push({ ...member, state: MemberState.OFFLINE, drained: true });
  }
  return changed(
    state,
    members.filter((m) => m !== member),
    drained,
  );
}

/**
 * R16: the same serving members in another order. Who is fed stays behind the tail, whoever that is: what it has is
 * a part of every serving log, and a report of the old tail names an epoch that is over (R9).
 */
function reorderChain(state: RegistryState, command: ReorderChainRequest): RegistryDecision {
  const { ids, expectedEpoch } = command;
  const { members, others } = state.view;
  const serving = members.filter((m) => m.state === MemberState.SERVING);
  const wrong = wrongOrder(ids, serving);
  if (wrong !== '') {
    const order = serving.map((m) => m.id).join(' ');
    return refused('BAD_REQUEST', `ids: ${wrong}; those that serve, head to tail: ${order}`);
  }
  if (serving.every((m, place) => m.id === ids[place])) return isSo;
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);
  const ordered = ids.flatMap((id) => serving.filter((m) => m.id === id));
  const fed = members.filter((m) => m.state !== MemberState.SERVING);
  return changed(state, [...ordered, ...fed], others);
}

/** Why these ids are no order of the serving members; '' where they are. */
function wrongOrder(ids: readonly string[], serving: readonly Member[]): string {
  // A log may hold any number of them, and every coordinator decides it again at each start.
  const seen = new Set<string>();
  const twice = ids.find((id) => seen.size === seen.add(id).size);
  if (twice !== undefined) return `${twice} stands there twice`;
  const strange = ids.find((id) => !serving.some((m) => m.id === id));
  if (strange !== undefined) return `${strange} does not serve`;
  const missing = serving.filter((m) => !ids.includes(m.id)).map((m) => m.id);
  return missing.length === 0 ? '' : `not named: ${missing.join(', ')}`;
}

function isOnlyServing(members: readonly Member[], id: string): boolean {
  const serving = members.filter((m) => m.state === MemberState.SERVING);
  return serving.length === 1 && serving[0]?.id === id;
}

/**
 * A process was seen. One of a higher incarnation proves that the one before it is gone (same id): the old
 * one loses its place at once, unless nobody else that serves is heard; then each that returns keeps its claim
 * to go on alone, until one is reinstated (R10, R13).
 */
function register(state: RegistryState, command: RegisterIncarnation): RegistryDecision {
  const { id, incarnation, storeId, address, keepsPlace } = command;
  const { members, others } = state.view;
  const known = [...others, ...members].find((m) => m.id === id);
  if (known === undefined) return refused('MEMBER_NOT_FOUND', `${id} is not a member of the chain`);
  if (incarnation <= highestIncarnation(state, id)) {
    return refused('STALE_EPOCH', `a newer process of ${id} is known`);
  }
  const user = [...members, ...others].find((m) => m.address === address && m.id !== id);
  if (user !== undefined) {
    return refused('ADDRESS_IN_USE', `${address} is the address of member ${user.id}`);
  }
  const process: Member = {
    ...{ id, incarnation, storeId, address, state: MemberState.WAITING, since: 0 },
    // 0: a node of an earlier version, which can't say.
    drained: known.drained && command.process > 0 && command.process <= known.incarnation,
    spare: known.spare,
    note: '',
  };
  const isLeft = keepsPlace || isOnlyServing(members, id);
  const kept = isLeft ? members : members.filter((m) => m.id !== id);
  const place = others.findIndex((m) => m.id === id);
  const waiting =
    place < 0 ? [...others, process] : others.map((m, index) => (index === place ? process : m));
  return changed(state, kept, waiting, { id, incarnation });
}

function changeView(state: RegistryState, { expectedEpoch, change }: ChangeView): RegistryDecision {
  if (expectedEpoch !== state.view.epoch) return stale(state, expectedEpoch);
  switch (change?.$case) {
    case 'evict':
      return evict(state, change.value);
    case 'startSync':
      return startSync(state, change.value);
    case 'startJoin':
      return advance(state, change.value, MemberState.SYNCING, MemberState.JOINING);
    case 'promote':
      return advance(state, change.value, MemberState.JOINING, MemberState.SERVING);
    case 'reinstate':
      return reinstate(state, change.value);
    case undefined:
      return refused('BAD_REQUEST', 'a change that this version does not know');
  }
}

function isNamed(name: MemberName): (member: Member) => boolean {
  return (m) => m.id === name.id && m.incarnation === name.incarnation;
}

function evict(state: RegistryState, name: MemberName): RegistryDecision {
  const { members, others } = state.view;
  const member = members.find(isNamed(name));
  if (member === undefined) return refused('MEMBER_NOT_FOUND', `${name.id} is not in the chain`);
  if (isOnlyServing(members, name.id)) {
    return refused('LAST_SERVING', `${name.id} is the last member that serves`);
  }
  const rest = members.filter((m) => m !== member);
  const isNewer = others.some((m) => m.id === name.id);
  const gone = { ...member, state: MemberState.OFFLINE };
  return changed(state, rest, isNewer ? others : [...others, gone]);
}

/** R9: one member at a time is SYNCING or JOINING, behind the tail. */
function startSync(state: RegistryState, name: MemberName): RegistryDecision {
  const { members, others } = state.view;
  const member = others.find(isNamed(name));
  if (member === undefined || member.state !== MemberState.WAITING) {
    return refused('MEMBER_NOT_FOUND', `${name.id} does not wait to join`);
  }
  if (member.drained) return refused('BAD_REQUEST', `${name.id} is drained`);
  if (members.length === 0 || members.some((m) => m.state !== MemberState.SERVING)) {
    return refused('BAD_REQUEST', 'another member is joining, or none serves');
  }
  if (members.some((m) => m.id === name.id)) {
    return refused('MEMBER_EXISTS', `an older process of ${name.id} has its place yet`);
  }
  const syncing = { ...member, state: MemberState.SYNCING };
  return changed(
    state,
    [...members, syncing],
    others.filter((m) => m !== member),
  );
}

function advance(
  state: RegistryState,
  name: MemberName,
  from: MemberState,
  to: MemberState,
): RegistryDecision {
  const { members, others } = state.view;
  const member = members.find(isNamed(name));
  if (member === undefined || member.state !== from) {
    return refused('MEMBER_NOT_FOUND', `${name.id} is not in that state`);
  }
  return changed(
    state,
    members.map((m) => (m === member ? { ...m, state: to } : m)),
    others,
  );
}

/** R10: the only SERVING member, whose store was one of a SERVING member; or the first of a new chain. */
function reinstate(state: RegistryState, name: MemberName): RegistryDecision {
  const { members, others } = state.view;
  const member = others.find(isNamed(name));
  if (member === undefined || member.state !== MemberState.WAITING) {
    return refused('MEMBER_NOT_FOUND', `${name.id} does not wait to join`);
  }
  const serving = members.filter((m) => m.state === MemberState.SERVING);
  if (serving.length > 0 && !serving.some((m) => equalBytes(m.storeId, member.storeId))) {
    return refused('LAST_SERVING', `the store of ${name.id} is not that of a serving member`);
  }
  const gone = members
    .filter((m) => m.id !== name.id)
    .map((m) => ({ ...m, state: MemberState.OFFLINE }))
    .filter((m) => !others.some((o) => o.id === m.id));
  const sole = { ...member, state: MemberState.SERVING, drained: false };
  return changed(state, [sole], [...others.filter((m) => m !== member), ...gone]);
}

/**
 * Lossy: none of those that serve comes back, and an operator says so, by name. Another lineage begins with what one
 * store holds; the stores of the old one are wiped when they return (R1), or logs would part below a watermark.
 */
function recoverChain(state: RegistryState, command: RecoverChainRequest): RegistryDecision {
  const { id, lostIds, expectedEpoch } = command;
  const { view } = state;
  const { members, others } = view;
  const serving = members.filter((m) => m.state === MemberState.SERVING);
  const isServed = serving.length === 1 && serving[0]?.id === id;
  if (isServed && view.lineage > 1 && !lostIds.includes(id)) return isSo;
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);
  const member = others.find((m) => m.id === id);
  if (member === undefined || member.state !== MemberState.WAITING) {
    const isMember = member !== undefined || members.some((m) => m.id === id);
    const message = isMember
      ? `${id} does not wait to join: start it, or start it again`
      : `${id} is not a member of the chain: add it first`;
    return refused('MEMBER_NOT_FOUND', message);
  }
  if (serving.length === 0) {
    return refused(
      'BAD_REQUEST',
      'the chain has no member yet: nothing is lost, it begins by itself',
    );
  }
  if (serving.some((m) => equalBytes(m.storeId, member.storeId))) {
    return refused('BAD_REQUEST', `${id} has the store of a serving member: it goes on by itself`);
  }
  const lost = serving.map((m) => m.id);
  const strange = lostIds.find((each) => !lost.includes(each));
  if (strange !== undefined) {
    return refused('BAD_REQUEST', `lost_ids: ${strange} is not given up; those that are: ${lost}`);
  }
  if (lost.some((each) => !lostIds.includes(each))) {
    const names = lost.join(',');
    return refused(
      'LAST_SERVING',
      `what only ${names} had is lost, and a process of theirs that lives yet would answer stale: make sure that they are dead, then: keychaindb chain recover ${id} --lose ${names}`,
    );
  }
  const gone = members
    .filter((m) => m.id !== id && !others.some((o) => o.id === m.id))
    .map((m) => ({ ...m, state: MemberState.OFFLINE }));
  const sole = { ...member, state: MemberState.SERVING, drained: false };
  const next: View = {
    ...view,
    epoch: view.epoch + 1,
    lineage: view.lineage + 1,
    members: [sole],
    others: [...others.filter((m) => m !== member), ...gone],
  };
  return { events: [{ type: 'ViewChanged', view: next }], reason: '', message: '' };
}

/** Members that the chain has room for are taken in by the detector, one by one. */
function setChainLength(state: RegistryState, command: SetChainLengthRequest): RegistryDecision {
  const { length, expectedEpoch } = command;
  const { view } = state;
  if (view.length === length) return isSo;
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);
  const next = { ...view, epoch: view.epoch + 1, length };
  return { events: [{ type: 'ViewChanged', view: next }], reason: '', message: '' };
}

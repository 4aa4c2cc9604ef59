import { toHex } from '../base/bytes.js';
import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import {
  type Attributes,
  type Instance,
  placeAttributes,
  type Span,
  SpanKind,
  spanOf,
} from './span.js';
import { spanIdOf, traceIdNamed } from './span-ids.js';

/*
 * Changes of the chain, as traces of their own. Their ids are computed from what is decided in Raft, so that
 * spans of coordinators and nodes meet in one trace without anything being carried.
 */

/** The trace of the change that made an epoch. */
export function viewTraceId(view: Pick<View, 'clusterId' | 'chainId' | 'epoch'>): string {
  return traceIdNamed('view', toHex(view.clusterId), view.chainId, view.epoch);
}

/** The span of a coordinator that proposed the change: the root of its trace. */
export function changeSpanId(traceId: string): string {
  return spanIdOf(traceId, 'change');
}

/** A view was decided. @param fromUs when the change was proposed */
export function changeSpan(
  own: Instance,
  view: View,
  before: View | undefined,
  fromUs: number,
  toUs: number,
): Span {
  const traceId = viewTraceId(view);
  return spanOf(own, {
    traceId,
    spanId: changeSpanId(traceId),
    parentId: '',
    name: 'chain.view_change',
    kind: SpanKind.INTERNAL,
    startUs: fromUs,
    endUs: toUs,
    attributes: {
      'keychaindb.chain.id': view.chainId,
      'keychaindb.epoch': view.epoch,
      'keychaindb.change': describeChange(before, view),
      'keychaindb.members': view.members.map(shown).join(' → '),
    },
  });
}

/** A node takes part in a view. @param name chain.activate, or chain.authority of its tail */
export function activationSpan(
  own: Instance,
  view: View,
  name: string,
  fromUs: number,
  toUs: number,
  place: { readonly position: number; readonly role: string },
): Span {
  const traceId = viewTraceId(view);
  return spanOf(own, {
    traceId,
    spanId: spanIdOf(traceId, own.instance, name),
    parentId: changeSpanId(traceId),
    name,
    kind: SpanKind.INTERNAL,
    startUs: fromUs,
    endUs: toUs,
    attributes: {
      'keychaindb.chain.id': view.chainId,
      ...placeAttributes({ ...place, epoch: view.epoch }),
    },
  });
}

/** What a view changed, e.g. `node-2 SERVING → OFFLINE`; the places of who moved. */
export function describeChange(before: View | undefined, after: View): string {
  const was = new Map(everyone(before).map((member) => [member.id, member]));
  const changes: string[] = [];
  for (const member of everyone(after)) {
    const old = was.get(member.id);
    was.delete(member.id);
    const isSame = old?.state === member.state && old.incarnation === member.incarnation;
    if (isSame && old.drained === member.drained) continue;
    const from = old === undefined ? 'new' : placeName(old);
    changes.push(`${member.id} ${from} → ${placeName(member)}`);
  }
  for (const gone of was.keys()) changes.push(`${gone} removed`);
  const isOrdered = before?.members.every((m, place) => after.members[place]?.id === m.id) ?? true;
  if (changes.length === 0 && before !== undefined && before.length !== after.length) {
    return `length ${after.length}`;
  }
  if (changes.length === 0 && !isOrdered) return `order ${after.members.map(shown).join(' → ')}`;
  return changes.join(', ') || 'nothing';
}

function placeName({ state, drained }: Member): string {
  return drained ? `${stateName(state)} drained` : stateName(state);
}

function everyone(view: View | undefined): readonly Member[] {
  return view === undefined ? [] : [...view.members, ...view.others];
}

function shown({ id, state }: Member): string {
  return state === MemberState.SERVING ? id : `${id} (${stateName(state)})`;
}

const stateNames: ReadonlyMap<number, string> = new Map(
  Object.entries(MemberState).map(([name, value]) => [value, name]),
);

export function stateName(state: MemberState): string {
  return stateNames.get(state) ?? '';
}

/** One stage of a join: how long a member was in a state. */
export interface JoinStage {
  readonly state: MemberState;
  readonly fromUs: number;
  readonly toUs: number;
}

/** The way of one process into the chain: a trace with a span for each state. */
export function joinSpans(
  own: Instance,
  view: View,
  member: Member,
  stages: readonly JoinStage[],
): readonly Span[] {
  const [first] = stages;
  const last = stages.at(-1);
  if (first === undefined || last === undefined) return [];
  const { id, incarnation } = member;
  const traceId = traceIdNamed('join', toHex(view.clusterId), view.chainId, id, incarnation);
  const root = spanIdOf(traceId, 'join');
  const attributes: Attributes = {
    'keychaindb.chain.id': view.chainId,
    'keychaindb.epoch': view.epoch,
    'keychaindb.member': id,
    'keychaindb.incarnation': incarnation,
  };
  const change = viewTraceId(view);
  const whole = spanOf(own, {
    traceId,
    spanId: root,
    parentId: '',
    name: 'chain.join',
    kind: SpanKind.INTERNAL,
    startUs: first.fromUs,
    endUs: last.toUs,
    attributes,
    links: [{ traceId: change, spanId: changeSpanId(change) }],
  });
  const parts = stages.map(({ state, fromUs, toUs }) =>
    spanOf(own, {
      traceId,
      spanId: spanIdOf(traceId, stateName(state)),
      parentId: root,
      name: `chain.join.${stateName(state).toLowerCase()}`,
      kind: SpanKind.INTERNAL,
      startUs: fromUs,
      endUs: toUs,
      attributes,
    }),
  );
  return [whole, ...parts];
}

/** An election that this coordinator stood in. @param won false: another one leads, or nobody */
export function electionSpan(
  own: Instance,
  term: number,
  won: boolean,
  fromUs: number,
  toUs: number,
): Span {
  const traceId = traceIdNamed('election', own.instance, term, fromUs);
  return spanOf(own, {
    traceId,
    spanId: spanIdOf(traceId, 'election'),
    parentId: '',
    name: 'raft.election',
    kind: SpanKind.INTERNAL,
    startUs: fromUs,
    endUs: toUs,
    attributes: { 'keychaindb.raft.term': term, 'keychaindb.raft.won': won },
  });
}

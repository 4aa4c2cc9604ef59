import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';

/** A process, not a machine: one value per (id, process start). */
export interface Name {
  readonly id: string;
  readonly incarnation: number;
}

export function nameKey(name: Name): string {
  return `${name.id}/${name.incarnation}`;
}

export function sameName(a: Name, b: Name): boolean {
  return a.id === b.id && a.incarnation === b.incarnation;
}

/** The SERVING members, head to tail. */
export function servingOf(view: Pick<View, 'members'>): readonly Member[] {
  return view.members.filter((m) => m.state === MemberState.SERVING);
}

/** The member that the tail feeds: SYNCING or JOINING, at most one (R9). */
export function fedOf(view: View): Member | undefined {
  return view.members.find(
    (m) => m.state === MemberState.JOINING || m.state === MemberState.SYNCING,
  );
}

export function joiningOf(view: View): Member | undefined {
  return view.members.find((m) => m.state === MemberState.JOINING);
}

export function memberOf(view: View, name: Name): Member | undefined {
  return view.members.find((m) => sameName(m, name));
}

/** Does this process count for promises in the view: SERVING or JOINING. */
export function countsIn(view: View, name: Name): boolean {
  const member = memberOf(view, name);
  return (
    member !== undefined &&
    (member.state === MemberState.SERVING || member.state === MemberState.JOINING)
  );
}

export function servesIn(view: View, name: Name): boolean {
  return memberOf(view, name)?.state === MemberState.SERVING;
}

/** Who sends entries to this process: the serving member before it; the tail for the fed member. */
export function predecessorOf(view: View, name: Name): Member | undefined {
  const serving = servingOf(view);
  const index = serving.findIndex((m) => sameName(m, name));
  if (index > 0) return serving[index - 1];
  if (index === 0) return undefined;
  const fed = fedOf(view);
  return fed !== undefined && sameName(fed, name) ? serving.at(-1) : undefined;
}

/** Who follows this process: the serving member after it; behind the tail, the fed member. */
export function successorOf(view: View, name: Name): Member | undefined {
  const serving = servingOf(view);
  const index = serving.findIndex((m) => sameName(m, name));
  if (index < 0) return undefined;
  return serving[index + 1] ?? fedOf(view);
}

export function isHead(view: View, name: Name): boolean {
  const head = servingOf(view)[0];
  return head !== undefined && sameName(head, name);
}

export function isTail(view: View, name: Name): boolean {
  const tail = servingOf(view).at(-1);
  return tail !== undefined && sameName(tail, name);
}

/** Every process that the view names, in members and others. */
export function everyoneIn(view: View): readonly Member[] {
  return [...view.members, ...view.others];
}

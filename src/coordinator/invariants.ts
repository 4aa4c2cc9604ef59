import { assert } from '../base/assert.js';
import { type Member, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';

/** Invariant 11 of docs/protocol.md: what a view is, and what one change may do to it. */
export function assertView(before: View, after: View): void {
  const serving = servingOf(after);
  const fed = after.members.filter((m) => m.state !== MemberState.SERVING);
  assert(after.members.length === 0 || serving.length > 0, 'a chain has a serving member', {
    epoch: after.epoch,
  });
  assert(fed.length <= 1, 'one member at a time is SYNCING or JOINING', { epoch: after.epoch });
  assert(
    fed.every((m) => m === after.members.at(-1)),
    'the member that is fed stands behind the tail',
  );
  assert(
    after.members.every((m) => !m.drained),
    'who is in the chain is not drained',
    { epoch: after.epoch },
  );
  if (after.epoch === before.epoch) return;
  assert(after.epoch === before.epoch + 1, 'one change, one epoch', {
    before: before.epoch,
    after: after.epoch,
  });
  assert(
    before.members.length === 0 || after.members.length > 0,
    'a chain never loses its last member',
    {
      epoch: after.epoch,
    },
  );
  assert(after.lineage >= before.lineage, 'lineages rise', { epoch: after.epoch });
  assert(
    after.lineage === before.lineage || after.members.length === 1,
    'another lineage begins with one member',
    { epoch: after.epoch },
  );
  assertOrder(before, after);
  for (const member of serving) {
    const was = before.members.find((m) => isSame(m, member));
    const promoted = was?.state === MemberState.JOINING;
    const stayed = was?.state === MemberState.SERVING;
    const reinstated = was === undefined && after.members.length === 1;
    assert(promoted || stayed || reinstated, 'SERVING comes only from JOINING, or by R10', {
      id: member.id,
      epoch: after.epoch,
    });
  }
}

/** Members change places only where nothing else changes: an order given by an operator. */
function assertOrder(before: View, after: View): void {
  const was = servingOf(before).filter((m) => after.members.some((o) => isSame(o, m)));
  const now = servingOf(after).filter((m) => before.members.some((o) => isSame(o, m)));
  const stayed = now.filter((m) => was.some((o) => isSame(o, m)));
  if (stayed.every((m, place) => was[place] !== undefined && isSame(m, was[place]))) return;
  const isPermuted =
    before.members.length === after.members.length &&
    after.members.every((m) => before.members.some((o) => isSame(o, m) && o.state === m.state)) &&
    before.others === after.others;
  assert(isPermuted, 'an order is one of the same members', { epoch: after.epoch });
}

function isSame(a: Member, b: Member): boolean {
  return a.id === b.id && a.incarnation === b.incarnation;
}

function servingOf(view: View): readonly Member[] {
  return view.members.filter((m) => m.state === MemberState.SERVING);
}

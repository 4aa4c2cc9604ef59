import { assert } from '../base/assert.js';
import { toMapKey } from '../base/bytes.js';
import { MemberState } from '../gen/keychaindb/v1/coordinator.js';
import { idAt } from './spans.js';
import type { NodeState } from './state.js';
import { isTail, memberOf, servesIn } from './views.js';

/**
 * What holds of one node after every step (docs/protocol.md, invariants 8, 9 and the local part of the
 * others). The simulator calls it always; production asserts the same facts where they are decided.
 */
export function checkNode(state: NodeState): void {
  const { ledger, active, seen } = state;
  assert(ledger.watermark.index <= ledger.last.index, 'the watermark is in the log', {
    watermark: ledger.watermark,
    last: ledger.last,
  });
  assert(ledger.synced.index <= ledger.last.index, 'what is synced is in the log', {
    synced: ledger.synced,
    last: ledger.last,
  });
  const [first] = ledger.staged;
  assert(
    first === undefined
      ? ledger.watermark.index === ledger.last.index
      : first.previous.index === ledger.watermark.index,
    'staged is exactly what is above the watermark',
    { watermark: ledger.watermark, last: ledger.last, staged: ledger.staged.length },
  );
  assert(
    idAt(ledger.spans, ledger.last.index).generation === ledger.last.generation,
    'the spans know the newest entry',
    { last: ledger.last, spans: ledger.spans },
  );
  checkKept(state);
  checkStaged(state);
  assert((active?.epoch ?? 0) <= (seen?.epoch ?? 0), 'active is not newer than seen', {
    active: active?.epoch,
    seen: seen?.epoch,
  });
  if (state.authority) {
    assert(active !== undefined && isTail(active, state.self), 'authority is at the tail', {
      epoch: active?.epoch,
    });
    assert(servesIn(active, state.self) && !state.removed, 'authority is at a serving member');
  }
}

function checkKept({ kept, ledger, incomplete, active, self }: NodeState): void {
  assert(
    kept.start.id.index <= kept.base.id.index && kept.base.id.index <= ledger.watermark.index,
    'a base stands for what the log has lost, and holds only what is committed',
    { start: kept.start.id, base: kept.base.id, watermark: ledger.watermark },
  );
  assert(!incomplete || ledger.last.index === 0, 'a part of a snapshot counts for nothing');
  assert(
    !incomplete || active === undefined || memberOf(active, self)?.state === MemberState.SYNCING,
    'only a member that counts for nothing holds a part of a snapshot',
    { epoch: active?.epoch },
  );
}

function checkStaged({ ledger }: NodeState): void {
  let versions = 0;
  for (const list of ledger.dirty.values()) {
    assert(list.length > 0, 'a clean key has no list of versions');
    versions += list.length;
    for (const { revision } of list) {
      assert(
        ledger.watermark.index < revision && revision <= ledger.last.index,
        'a staged version is of an entry above the watermark',
        { revision, watermark: ledger.watermark, last: ledger.last },
      );
    }
  }
  assert(versions <= ledger.stagedEntries, 'a staged version has its entry', {
    versions,
    entries: ledger.stagedEntries,
  });
  const expiries = ledger.staged.flatMap(({ entries }) =>
    entries.flatMap(({ record: { $case, value } }) =>
      $case === 'sessionsExpired' ? value.clientIds.map(toMapKey) : [],
    ),
  );
  assert(
    expiries.length === ledger.expiring.size && expiries.every((id) => ledger.expiring.has(id)),
    'those whose expiry is staged are known',
    { staged: expiries.length, known: ledger.expiring.size },
  );
  for (const session of ledger.sessions.values()) {
    for (const id of session.staged.values()) {
      assert(
        ledger.watermark.index < id.index &&
          idAt(ledger.spans, id.index).generation === id.generation,
        'a staged outcome is of an entry in the log',
        { ...id },
      );
    }
  }
}

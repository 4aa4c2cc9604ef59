import { assert, unreachable } from '../base/assert.js';
import { MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import { origin } from '../log/event-log.js';
import { type ComparisonEvent, evolveComparison } from './comparison.js';
import type { ChainEvent } from './events.js';
import { commitThrough, cutSuffix, emptyLedger, type StoreChanges, stageBlock } from './fold.js';
import { everythingKept } from './kept.js';
import { leaseEnd, neededBy } from './promise.js';
import type { NodeState } from './state.js';
import { everyoneIn, isHead, isTail, memberOf, nameKey } from './views.js';

/** Applies a fact. Replay runs only this: no clock, no effects; state is owned here and updated in place. */
export function evolve(state: NodeState, event: ChainEvent, changes?: StoreChanges): NodeState {
  const { ledger } = state;
  switch (event.type) {
    case 'BlockAppended':
      stageBlock(ledger, event.block);
      break;
    case 'SuffixCut':
      cutSuffix(ledger, event.after);
      break;
    case 'Synced':
      assert(event.through.index <= ledger.last.index, 'synced is in the log', { ...event });
      ledger.synced = event.through;
      break;
    case 'Committed':
      commitThrough(ledger, event.through, changes);
      break;
    case 'ViewSeen':
      seeView(state, event.view, event.now);
      break;
    case 'Activated':
      activate(state, event.view, event.now);
      break;
    case 'Removed':
      state.removed = true;
      state.authority = false;
      break;
    case 'LeaseLimitRaised':
      state.leaseMaxMs = event.leaseMs;
      break;
    case 'TokenReceived':
      state.authorityAt = event.through;
      break;
    case 'AuthorityTaken':
      state.authority = true;
      break;
    case 'BaseMade':
      assert(event.base.id.index <= ledger.watermark.index, 'a base is of what is committed', {
        base: event.base.id,
        watermark: ledger.watermark,
      });
      state.kept = { ...state.kept, base: event.base };
      break;
    case 'LogDropped':
      assert(event.through.id.index <= state.kept.base.id.index, 'a base stands for what goes', {
        through: event.through.id,
        base: state.kept.base.id,
      });
      state.kept = { ...state.kept, start: event.through };
      break;
    case 'DamageFound':
      state.damage = event.damage;
      break;
    case 'RoundBegan':
    case 'RangeRead':
    case 'RangeAsked':
    case 'RangeAgreed':
    case 'RangeDiffered':
    case 'RoundEqual':
    case 'RoundEnded':
      state.comparison = evolveComparison(state.comparison, event);
      break;
    default:
      evolvePeers(state, event);
  }
  return state;
}

type PeerEvent = Exclude<
  ChainEvent,
  {
    type:
      | 'BlockAppended'
      | 'SuffixCut'
      | 'Synced'
      | 'Committed'
      | 'ViewSeen'
      | 'Activated'
      | 'Removed'
      | 'LeaseLimitRaised'
      | 'TokenReceived'
      | 'AuthorityTaken'
      | 'BaseMade'
      | 'LogDropped'
      | 'DamageFound'
      | ComparisonEvent['type'];
  }
>;

function evolvePeers(state: NodeState, event: PeerEvent): void {
  switch (event.type) {
    case 'PromiseGiven':
      state.given.set(nameKey(event.name), { name: event.name, until: event.until });
      break;
    case 'PromiseHeld': {
      const key = nameKey(event.name);
      state.held.set(key, Math.max(event.until, state.held.get(key) ?? Number.NEGATIVE_INFINITY));
      state.lastGrant.set(key, event.now);
      state.leaseUntil = leaseEnd(state);
      break;
    }
    case 'PromisesAsked':
      state.lastPromiseRound = event.now;
      break;
    case 'LeasesDropped':
      state.held.clear();
      state.leasesDroppedAt = event.now;
      state.leaseUntil = leaseEnd(state);
      break;
    case 'PeerStopped':
      state.stopped.add(nameKey(event.name));
      break;
    default:
      evolveLinks(state, event);
  }
}

type LinkEvent = Exclude<
  PeerEvent,
  { type: 'PromiseGiven' | 'PromiseHeld' | 'PromisesAsked' | 'LeasesDropped' | 'PeerStopped' }
>;

function evolveLinks(state: NodeState, event: LinkEvent): void {
  switch (event.type) {
    case 'UpDialed':
      state.up = {
        session: event.session,
        epoch: state.active?.epoch ?? 0,
        to: event.to,
        reconciled: false,
        heard: false,
        syncedThrough: origin,
        install: undefined,
      };
      state.nextSession = event.session + 1;
      break;
    case 'UpHeard':
      if (state.up !== undefined) state.up.heard = true;
      state.upHeardAt = event.now;
      break;
    case 'UpReconciled':
      assert(state.up !== undefined, 'a link was dialed before it is reconciled');
      state.up.reconciled = true;
      state.up.syncedThrough = event.syncedThrough;
      break;
    case 'UpSynced':
      assert(state.up?.reconciled === true, 'syncedThrough counts only after reconcile (R6)');
      state.up.syncedThrough = event.through;
      break;
    case 'UpClosed':
      state.up = undefined;
      break;
    case 'DownReconciled':
      state.down = {
        link: event.link,
        session: event.session,
        epoch: state.active?.epoch ?? 0,
        from: event.from,
        reconciled: true,
        acked: undefined,
        fedAfter: event.after,
      };
      break;
    case 'DownAcked':
      assert(state.down !== undefined, 'an acknowledgment came on a link');
      state.down.acked = event.synced;
      break;
    case 'DownClosed':
      state.down = undefined;
      break;
    default:
      evolveInstall(state, event);
  }
}

type InstallEvent = Extract<
  LinkEvent,
  { type: 'SnapshotBegun' | 'ChunkTaken' | 'ChunksStored' | 'SnapshotInstalled' }
>;

function evolveInstall(state: NodeState, event: InstallEvent): void {
  const { up, active, self } = state;
  assert(up !== undefined, 'a snapshot comes on a link');
  switch (event.type) {
    case 'SnapshotBegun':
      assert(
        active !== undefined && memberOf(active, self)?.state === MemberState.SYNCING,
        'a snapshot is for a member that counts for nothing',
        { epoch: active?.epoch },
      );
      state.incomplete = true;
      state.ledger = emptyLedger();
      state.kept = everythingKept;
      up.install = { at: event.at, chunks: event.base.chunks, taken: 0, stored: 0 };
      break;
    case 'ChunkTaken':
      if (up.install !== undefined) up.install.taken += 1;
      break;
    case 'ChunksStored':
      if (up.install !== undefined) up.install.stored = event.chunks;
      break;
    case 'SnapshotInstalled': {
      const mark = { id: event.ledger.last, bytes: event.ledger.bytes };
      state.ledger = event.ledger;
      state.kept = { start: mark, base: mark };
      state.incomplete = false;
      up.install = undefined;
      up.reconciled = true;
      break;
    }
    default:
      unreachable(event);
  }
}

function seeView(state: NodeState, view: View, now: number): void {
  assert(view.epoch > (state.seen?.epoch ?? -1), 'the seen view never goes back', {
    seen: state.seen?.epoch,
    view: view.epoch,
  });
  state.seen = view;
  for (const m of everyoneIn(view)) {
    if (m.storeId.byteLength > 0) state.seenStores.set(nameKey(m), m.storeId);
  }
  renewNeeded(state, now);
}

function activate(state: NodeState, view: View, now: number): void {
  assert(view.epoch > (state.active?.epoch ?? -1), 'active epochs rise', { epoch: view.epoch });
  assert(view === state.seen, 'only the newest seen view is activated (R3)', { epoch: view.epoch });
  const { active, self, silence } = state;
  const staysHead = active !== undefined && isHead(active, self) && isHead(view, self);
  if (!staysHead) {
    silence.marks.length = 0;
    silence.found.length = 0;
  }
  state.active = view;
  state.up = undefined;
  state.down = undefined;
  state.upHeardAt = now;
  state.authorityAt = undefined;
  // R18: what a neighbour has said was of the epoch before.
  state.comparison = { ...state.comparison, round: undefined };
  if (state.damage !== undefined && state.damage.outlier !== '') state.damage = undefined;
  // R8: a tail with authority that stays the tail goes on answering.
  state.authority = state.authority && isTail(view, state.self);
  renewNeeded(state, now);
}

function renewNeeded(state: NodeState, now: number): void {
  state.needed = neededBy(state);
  const keys = new Set(state.needed.map(nameKey));
  for (const key of state.lastGrant.keys()) if (!keys.has(key)) state.lastGrant.delete(key);
  for (const key of keys) if (!state.lastGrant.has(key)) state.lastGrant.set(key, now);
  state.leaseUntil = leaseEnd(state);
}

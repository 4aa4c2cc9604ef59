import { toHex } from '../../src/base/bytes.js';
import type { ChainEvent } from '../../src/chain/events.js';
import { checkNode } from '../../src/chain/invariants.js';
import type { NodeHandle } from '../../src/chain/node.js';
import { isLeased, owesAgainst } from '../../src/chain/promise.js';
import { isTail, type Name, nameKey, servingOf } from '../../src/chain/views.js';
import { type Member, MemberState, type View } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { check } from './check.js';
import type { Coverage } from './coverage.js';
import type { SimProcess } from './process.js';

/** What an entry is, whoever holds it. */
export interface GhostEntry {
  readonly generation: number;
  /** "<client hex>:<seq>", or '' for an entry of the chain's own. */
  readonly request: string;
  readonly checksum: number;
}

/** A node as the ghost follows it: what its log holds, by its own events. */
export interface Watched {
  readonly process: SimProcess;
  readonly handle: NodeHandle;
  /** Index i: the entry of revision i + 1. */
  readonly entries: GhostEntry[];
  /** The view that it activated last. */
  active: View | undefined;
  /** Epoch of a view that it could not activate when it saw it, for a promise that it owes. */
  owes: number;
  /** Queries of others wait at it. */
  isAsked: boolean;
}

function sameGhost(a: GhostEntry | undefined, b: GhostEntry | undefined): boolean {
  return (
    a?.generation === b?.generation && a?.request === b?.request && a?.checksum === b?.checksum
  );
}

/** Entries below the end of G that are compared again at each commit. */
const comparedAgain = 64;

/**
 * The list G of committed entries (docs/protocol.md, invariants), which no process knows: built from what
 * nodes commit, and compared with every node after every step. It looks from outside: the nodes' own
 * assertions may be off.
 */
export class Ghost {
  readonly committed: GhostEntry[] = [];
  readonly requests = new Map<string, number>();
  readonly nodes = new Map<string, Watched>();
  /** Epochs in which an operator may give another order: those after the epochs that it named. */
  readonly orders = new Set<number>();
  /** Epoch of an order whose members have not all reconciled with their new predecessors. */
  #ordered = 0;
  /** Newest view that any coordinator has applied. */
  decided: View | undefined;
  readonly #views = new Map<number, string>();
  /** "generation/index" → the entry: created once. */
  readonly #created = new Map<string, GhostEntry>();
  /** "id/incarnation@epoch" of every activation. */
  readonly #activated = new Set<string>();
  readonly #coverage: Coverage;
  /** What broke in an event: whoever emits events must not be stopped by who listens. */
  #failure: unknown;
  /** Clocks run within their bound: what leases guarantee holds. */
  isTimely = true;

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  /** Follows a new incarnation, which starts from what its log holds. */
  watch(id: string, process: SimProcess, handle: NodeHandle, held: readonly LogBlock[]): void {
    // What its log has lost is committed, so that the ghost knows it.
    const { start } = handle.state.kept;
    check(start.id.index <= this.committed.length, 'log', 'only what is committed is dropped', {
      id,
      start: start.id,
    });
    const entries = this.committed.slice(0, start.id.index);
    for (const block of held) entries.push(...block.entries.map(ghostOf));
    const watched: Watched = {
      process,
      handle,
      entries,
      active: undefined,
      owes: 0,
      isAsked: false,
    };
    this.nodes.set(id, watched);
    handle.events$.subscribe((event) => {
      if (!process.isDead) this.#noting(() => this.#follow(id, watched, event));
    });
  }

  /** The process hangs and another one takes its name: it is followed on. */
  usurp(id: string): void {
    const watched = this.nodes.get(id);
    if (watched === undefined) return;
    this.nodes.delete(id);
    this.nodes.set(`${id}, usurped`, watched);
  }

  /** An incarnation is over. */
  forget(handle: NodeHandle): void {
    for (const [name, watched] of this.nodes) {
      if (watched.handle === handle) this.nodes.delete(name);
    }
  }

  #noting(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failure ??= error;
    }
  }

  #follow(id: string, watched: Watched, event: ChainEvent): void {
    const { handle, entries } = watched;
    switch (event.type) {
      case 'BlockAppended':
        this.#append(id, watched, event.block, event.stored);
        return;
      case 'SuffixCut':
        check(
          event.after.index >= handle.state.ledger.watermark.index,
          'invariant 8',
          'a cut never goes below the watermark',
          { id, after: event.after, watermark: handle.state.ledger.watermark },
        );
        if (event.after.index < entries.length) this.#coverage.count('suffix cut');
        entries.length = event.after.index;
        return;
      case 'Committed':
        this.#commit(id, watched, event.through);
        return;
      case 'LogDropped':
        this.#coverage.count('log made shorter');
        return;
      case 'SnapshotBegun':
        entries.length = 0;
        return;
      case 'SnapshotInstalled':
        this.#install(id, watched, event.ledger.last);
        return;
      case 'ViewSeen':
        if (owesAgainst(handle.state, event.view, event.now)) watched.owes = event.view.epoch;
        return;
      case 'Activated':
        this.#activate(id, watched, event.view);
        return;
      case 'PromiseHeld':
        this.#promised(watched, event.name, event.until);
        return;
      default:
        return;
    }
  }

  #append(id: string, { entries }: Watched, block: LogBlock, stored: boolean): void {
    for (const entry of block.entries) {
      if (entry.index <= entries.length) {
        check(stored, 'log', 'an entry is appended once', { id, index: entry.index });
        continue;
      }
      check(entry.index === entries.length + 1, 'log', 'entries follow each other', {
        id,
        index: entry.index,
        held: entries.length,
      });
      const ghost = ghostOf(entry);
      const name = `${entry.generation}/${entry.index}`;
      const before = this.#created.get(name);
      check(
        before === undefined || sameGhost(before, ghost),
        'invariant 7',
        'each (epoch, revision) is created once',
        { id, name, before, ghost },
      );
      this.#created.set(name, ghost);
      entries.push(ghost);
    }
  }

  #commit(id: string, watched: Watched, through: EntryId): void {
    const { committed } = this;
    const { entries } = watched;
    const own = entries[through.index - 1];
    check(own?.generation === through.generation, 'log', 'what is committed is in the log', {
      id,
      through,
      own,
    });
    const known = Math.min(committed.length, through.index);
    for (let index = Math.max(0, known - comparedAgain); index < known; index += 1) {
      check(sameGhost(committed[index], entries[index]), 'invariant 1', 'committed entries agree', {
        id,
        revision: index + 1,
        known: committed[index],
        entry: entries[index],
      });
    }
    if (through.index > known) this.#checkAllActive(id, watched);
    for (let index = committed.length; index < through.index; index += 1) {
      const entry = entries[index];
      check(entry !== undefined, 'log', 'a committed entry is there', { id, revision: index + 1 });
      committed.push(entry);
      if (entry.request === '') continue;
      const before = this.requests.get(entry.request);
      check(before === undefined, 'invariant 13', 'a request is committed at most once', {
        request: entry.request,
        before,
        revision: index + 1,
      });
      this.requests.set(entry.request, index + 1);
    }
  }

  /** A snapshot is of what is committed; the state that it gives is compared when logs are replayed. */
  #install(id: string, { entries }: Watched, at: EntryId): void {
    const own = this.committed[at.index - 1];
    check(own?.generation === at.generation, 'snapshot', 'a snapshot is of what is committed', {
      id,
      at,
      own,
    });
    entries.push(...this.committed.slice(0, at.index));
    this.#coverage.count('synced by a snapshot');
  }

  /** Invariant 12: when a tail commits in e, every SERVING member of e is active in e. */
  #checkAllActive(id: string, { active }: Watched): void {
    if (active === undefined) return;
    for (const member of servingOf(active)) {
      check(
        this.#activated.has(`${nameKey(member)}@${active.epoch}`),
        'invariant 12',
        'when a tail commits, every serving member is active in its epoch',
        { id, epoch: active.epoch, member: nameKey(member) },
      );
    }
  }

  #activate(id: string, watched: Watched, view: View): void {
    const { self } = watched.handle.state;
    check(this.#views.get(view.epoch) === textOf(view), 'views', 'one view acts in an epoch', {
      id,
      epoch: view.epoch,
    });
    this.#activated.add(`${nameKey(self)}@${view.epoch}`);
    if (watched.owes === view.epoch) this.#coverage.count('promise waited out');
    const now = new Set(servingOf(view).map(nameKey));
    const gone = watched.active && servingOf(watched.active).filter((m) => !now.has(nameKey(m)));
    if (gone !== undefined && gone.length > 1) this.#coverage.count('two removed at once');
    watched.active = view;
  }

  /** Invariant 10: an obligation ends later, in simulated time, than the lease that rests on it. */
  #promised(holder: Watched, giver: Name, until: number): void {
    const from = this.nodes.get(giver.id);
    if (!this.isTimely || from === undefined || from.process.isDead) return;
    const { state } = from.handle;
    if (state.self.incarnation !== giver.incarnation || state.removed) return;
    const given = state.given.get(nameKey(holder.handle.state.self))?.until ?? 0;
    const ends = holder.process.simulatedTimeOf(until);
    const owed = from.process.simulatedTimeOf(given);
    check(
      owed >= ends || ends <= this.#now(holder),
      'invariant 10',
      'a promise outlives its lease',
      {
        holder: holder.handle.state.self.id,
        giver: giver.id,
        ends,
        owed,
      },
    );
  }

  #now({ process }: Watched): number {
    return process.simulatedTimeOf(process.clock.monotonic());
  }

  /** After every step. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    const size = this.committed.length;
    const newest = this.committed.at(-1);
    let authorities = 0;
    for (const [id, watched] of this.nodes) {
      const { process, handle, entries } = watched;
      if (process.isDead) continue;
      const { state } = handle;
      checkNode(state);
      const { ledger, active } = state;
      check(entries.length === ledger.last.index, 'log', 'a node knows its log', {
        id,
        ghost: entries.length,
        last: ledger.last,
      });
      const isAsked = state.waiting.queries.length > 0;
      if (isAsked && !watched.isAsked) this.#coverage.count('tail query refused');
      watched.isAsked = isAsked;
      this.#checkSynced(id, handle);
      // A paused process has a clock too: what it would answer now counts.
      if (!this.isTimely || !isLeased(state, process.clock.monotonic())) continue;
      check(
        entries.length >= size && sameGhost(entries[size - 1], newest),
        'invariant 3',
        'a serving node with promises has all that is committed',
        { id, last: ledger.last, size, epoch: active?.epoch },
      );
      if (!state.authority) continue;
      authorities += 1;
      check(ledger.watermark.index === size, 'invariant 4', 'authority knows all commits', {
        id,
        watermark: ledger.watermark,
        size,
        epoch: active?.epoch,
      });
      check(
        active !== undefined && isTail(active, state.self),
        'invariant 4',
        'authority is at the tail',
      );
    }
    check(authorities <= 1, 'invariant 5', 'one authority', { authorities });
    if (this.#isInOrder()) this.#checkOrder();
  }

  /** Invariant 6: of two live members of the newest view the later one's log is a prefix of the earlier's. */
  #checkOrder(): void {
    let earlier: { readonly id: string; readonly entries: readonly GhostEntry[] } | undefined;
    for (const member of this.decided === undefined ? [] : servingOf(this.decided)) {
      const watched = this.#live(member);
      if (watched === undefined) continue;
      const { entries } = watched;
      check(
        earlier === undefined ||
          (entries.length <= earlier.entries.length &&
            sameGhost(earlier.entries[entries.length - 1], entries.at(-1))),
        'invariant 6',
        "a later member's log is a prefix of an earlier one's",
        { later: member.id, earlier: earlier?.id, epoch: this.decided?.epoch },
      );
      earlier = { id: member.id, entries };
    }
  }

  #live(member: Member): Watched | undefined {
    const watched = this.nodes.get(member.id);
    if (watched === undefined || watched.process.isDead) return undefined;
    const { self } = watched.handle.state;
    return self.incarnation === member.incarnation ? watched : undefined;
  }

  /** Invariant 2: every SERVING member of the newest view has synced all that is committed. */
  #checkSynced(id: string, { state }: NodeHandle): void {
    const member = this.decided?.members.find(
      (m) => m.id === state.self.id && m.incarnation === state.self.incarnation,
    );
    if (member?.state !== MemberState.SERVING) return;
    check(
      state.ledger.synced.index >= this.committed.length,
      'invariant 2',
      'serving members have synced all that is committed',
      { id, synced: state.ledger.synced, size: this.committed.length, epoch: this.decided?.epoch },
    );
  }

  decide(view: View): void {
    this.#noting(() => this.#decide(view));
  }

  #decide(view: View): void {
    const text = textOf(view);
    const known = this.#views.get(view.epoch);
    check(known === undefined || known === text, 'views', 'coordinators decide one view an epoch', {
      epoch: view.epoch,
    });
    this.#views.set(view.epoch, text);
    const before = this.decided;
    if (before !== undefined && view.epoch <= before.epoch) return;
    if (before !== undefined) this.#changed(before, view);
    this.decided = view;
  }

  /** Invariant 11: what one change may do to the chain. */
  #changed(before: View, after: View): void {
    const [was, is] = [servingOf(before), servingOf(after)];
    const fed = after.members.length - is.length;
    check(fed <= 1, 'invariant 11', 'one member at a time is fed', { epoch: after.epoch });
    check(
      is.length > 0 || was.length === 0,
      'invariant 11',
      'a chain never loses its last member',
      {
        epoch: after.epoch,
      },
    );
    check(
      after.members.every((m) => !m.drained),
      'invariant 11',
      'who is drained is not taken in',
      { epoch: after.epoch },
    );
    // No operator of the simulator may give up what is lost: each of them forgets to name one.
    check(after.lineage === before.lineage, 'operator', 'nothing is given up that was not named', {
      epoch: after.epoch,
    });
    this.#operated(before, after);
    const names = new Set(is.map(nameKey));
    const gone = was.filter((m) => !names.has(nameKey(m)));
    const [sole] = is;
    const isReinstated =
      is.length === 1 &&
      sole !== undefined &&
      !before.members.some((m) => nameKey(m) === nameKey(sole));
    if (isReinstated) {
      if (was.length > 0) this.#coverage.count('reinstated alone');
      return;
    }
    check(
      after.epoch !== before.epoch + 1 || gone.length <= 1,
      'invariant 11',
      'one goes at a time',
      {
        epoch: after.epoch,
      },
    );
    for (const member of is) {
      const earlier = before.members.find((m) => nameKey(m) === nameKey(member));
      if (after.epoch !== before.epoch + 1 || earlier?.state === MemberState.SERVING) continue;
      check(
        earlier?.state === MemberState.JOINING,
        'invariant 11',
        'who serves was joining before',
        { epoch: after.epoch, member: nameKey(member) },
      );
      this.#coverage.count('promotion');
    }
    for (const member of gone) {
      const index = was.indexOf(member);
      if (was.length > 1 && index === 0) this.#coverage.count('head removed');
      else if (was.length > 1 && index === was.length - 1) this.#coverage.count('tail removed');
      else if (was.length > 2) this.#coverage.count('middle removed');
    }
    if (gone.length > 0 && is.length === 1) this.#coverage.count('last of a chain served alone');
  }

  /** What an operator did. */
  #operated(before: View, after: View): void {
    const [was, is] = [servingOf(before), servingOf(after)];
    const wasIn = (m: Member): boolean => before.members.some((o) => o.id === m.id);
    if (after.others.some((m) => m.drained && wasIn(m))) this.#coverage.count('drained');
    if (after.members.some((m) => m.spare && !wasIn(m))) this.#coverage.count('spare taken in');
    const stayed = is.every((m) => was.some((o) => nameKey(o) === nameKey(m)));
    const isPermuted = was.length === is.length && stayed && !sameOrder(was, is);
    if (!isPermuted || after.epoch !== before.epoch + 1) return;
    check(this.orders.has(after.epoch), 'operator', 'an order is made on the view that it names', {
      epoch: after.epoch,
    });
    this.#ordered = after.epoch;
    this.#coverage.count('reordered');
    if (after.members.length > is.length) this.#coverage.count('reordered while one joins');
  }

  /** Until each has reconciled with its new predecessor a new order says nothing of who has more (R6). */
  #isInOrder(): boolean {
    if (this.#ordered === 0 || this.decided === undefined) return true;
    const isDone = servingOf(this.decided).every((member, place) => {
      const state = this.#live(member)?.handle.state;
      return (
        state?.active !== undefined &&
        state.active.epoch >= this.#ordered &&
        (place === 0 || state.up?.reconciled === true)
      );
    });
    if (isDone) this.#ordered = 0;
    return isDone;
  }
}

const sameOrder = (a: readonly Member[], b: readonly Member[]): boolean =>
  a.map(nameKey).join() === b.map(nameKey).join();

function textOf(view: View): string {
  return view.members.map((m) => `${nameKey(m)}:${m.state}`).join(' ');
}

function ghostOf(entry: LogBlock['entries'][number]): GhostEntry {
  const { generation, request, checksum } = entry;
  const name = request === undefined ? '' : `${toHex(request.clientId)}:${request.seq}`;
  return { generation, request: name, checksum };
}

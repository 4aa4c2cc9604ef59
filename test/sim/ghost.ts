import { assert } from '../../src/base/assert.js';
import { toHex } from '../../src/base/bytes.js';
import { checkNode } from '../../src/chain/invariants.js';
import { isLeased } from '../../src/chain/promise.js';
import type { NodeHandle } from '../../src/chain/runtime.js';
import { MemberState, type View } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { EntryId } from '../../src/gen/keychaindb/v1/log.js';
import type { LogBlock } from '../../src/log/event-log.js';
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
}

function sameGhost(a: GhostEntry | undefined, b: GhostEntry | undefined): boolean {
  return (
    a?.generation === b?.generation && a?.request === b?.request && a?.checksum === b?.checksum
  );
}

/**
 * The list G of committed entries (docs/protocol.md, invariants), which no process knows: built from what
 * nodes commit, and compared with every node after every step.
 */
export class Ghost {
  readonly committed: GhostEntry[] = [];
  readonly requests = new Map<string, number>();
  readonly nodes = new Map<string, Watched>();
  /** Newest view that any coordinator has applied. */
  decided: View | undefined;

  /** Follows a new incarnation, which starts from what its log holds. */
  watch(id: string, process: SimProcess, handle: NodeHandle, held: readonly LogBlock[]): void {
    const entries: GhostEntry[] = [];
    for (const block of held) entries.push(...block.entries.map(ghostOf));
    const watched = { process, handle, entries };
    this.nodes.set(id, watched);
    handle.events$.subscribe((event) => {
      if (process.isDead) return;
      switch (event.type) {
        case 'BlockAppended':
          for (const entry of event.block.entries) {
            if (entry.index <= entries.length) {
              assert(event.stored, 'an entry is appended once', { id, index: entry.index });
              continue;
            }
            entries.push(ghostOf(entry));
          }
          return;
        case 'SuffixCut':
          assert(
            event.after.index >= handle.state.ledger.watermark.index,
            'invariant 8: a cut never goes below the watermark',
            { id, after: event.after, watermark: handle.state.ledger.watermark },
          );
          entries.length = event.after.index;
          return;
        case 'Committed':
          this.#commit(id, watched, event.through);
          return;
        default:
          return;
      }
    });
  }

  #commit(id: string, { entries, handle }: Watched, through: EntryId): void {
    const { committed } = this;
    const own = entries[through.index - 1];
    assert(own?.generation === through.generation, 'what is committed is in the log', {
      id,
      through,
      own,
    });
    for (let index = 0; index < through.index; index += 1) {
      const known = committed[index];
      const entry = entries[index];
      if (known !== undefined) {
        if (index < committed.length - 64 && index < through.index - 64) continue;
        assert(sameGhost(known, entry), 'invariant 1: committed entries agree', {
          id,
          revision: index + 1,
          known,
          entry,
        });
        continue;
      }
      assert(entry !== undefined, 'a committed entry is there', { id, revision: index + 1 });
      committed.push(entry);
      if (entry.request !== '') {
        const before = this.requests.get(entry.request);
        assert(before === undefined, 'invariant 13: a request is committed at most once', {
          request: entry.request,
          before,
          revision: index + 1,
        });
        this.requests.set(entry.request, index + 1);
      }
    }
    void handle;
  }

  /** After every step. */
  check(): void {
    const size = this.committed.length;
    const newest = this.committed.at(-1);
    let authorities = 0;
    for (const [id, { process, handle, entries }] of this.nodes) {
      if (process.isDead) continue;
      const { state } = handle;
      checkNode(state);
      const { ledger, active } = state;
      assert(entries.length === ledger.last.index, 'the ghost follows the log', {
        id,
        ghost: entries.length,
        last: ledger.last,
      });
      // A paused process has a clock too: what it would answer now counts.
      const leased = isLeased(state, process.clock.monotonic());
      if (leased) {
        assert(
          entries.length >= size && sameGhost(entries[size - 1], newest),
          'invariant 3: a serving node with promises has all that is committed',
          { id, last: ledger.last, size, epoch: active?.epoch },
        );
      }
      if (leased && state.authority) {
        authorities += 1;
        assert(ledger.watermark.index === size, 'invariant 4: authority knows all commits', {
          id,
          watermark: ledger.watermark,
          size,
          epoch: active?.epoch,
        });
      }
      this.#checkSynced(id, handle);
    }
    assert(authorities <= 1, 'invariant 5: one authority', { authorities });
  }

  /** Invariant 2: every SERVING member of the newest view has synced all that is committed. */
  #checkSynced(id: string, { state }: NodeHandle): void {
    const member = this.decided?.members.find(
      (m) => m.id === id && m.incarnation === state.self.incarnation,
    );
    if (member?.state !== MemberState.SERVING) return;
    assert(
      state.ledger.synced.index >= this.committed.length,
      'invariant 2: serving members have synced all that is committed',
      { id, synced: state.ledger.synced, size: this.committed.length, epoch: this.decided?.epoch },
    );
  }

  decide(view: View): void {
    if (this.decided === undefined || view.epoch > this.decided.epoch) this.decided = view;
    else if (view.epoch === this.decided.epoch) {
      assert(
        JSON.stringify(view.members) === JSON.stringify(this.decided.members),
        'coordinators decide one view an epoch',
        { epoch: view.epoch },
      );
    }
  }
}

function ghostOf(entry: LogBlock['entries'][number]): GhostEntry {
  const { generation, request, checksum } = entry;
  const name = request === undefined ? '' : `${toHex(request.clientId)}:${request.seq}`;
  return { generation, request: name, checksum };
}

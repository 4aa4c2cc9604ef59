import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { incompleteKey } from '../../src/chain/base.js';
import type { CompactionOptions } from '../../src/chain/compaction.js';
import type { ChainEvent } from '../../src/chain/events.js';
import { logBoundsDefault } from '../../src/chain/limits.js';
import type { NodeHandle } from '../../src/chain/node.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { Operation, OperationResult } from '../../src/gen/keychaindb/v1/kv.js';
import { readIdentity } from '../../src/log/data-folder.js';
import { type Place, SimCluster } from './cluster.js';
import { compareWithReplay } from './replicas.js';
import { SeededRandom } from './schedule.js';

/** Bases after every few entries, of several chunks. */
const compaction: CompactionOptions = {
  bounds: { ...logBoundsDefault, entriesMax: 10 },
  share: 1,
  chunkBytes: 100,
};
const clientId = new Uint8Array(16).fill(7);

/** A chain of two: what one of them lacks the other one has to give it. */
class Chain {
  readonly cluster: SimCluster;
  #seq = 0;

  constructor(seed: number) {
    const random = new SeededRandom(seed);
    const sizes = { coordinators: 1, nodes: 2, proxies: 1 };
    this.cluster = new SimCluster({ ...sizes, random, compaction });
    this.cluster.startAll();
  }

  place(index: number): Place {
    const place = this.cluster.of('node')[index];
    if (place === undefined) throw new Error('no such node');
    return place;
  }

  async until(isSo: () => boolean): Promise<void> {
    const deadline = this.cluster.schedule.now + 120_000;
    while (!isSo()) {
      if (this.cluster.failure !== undefined) throw this.cluster.failure;
      if (this.cluster.schedule.now > deadline) throw new Error('it never came to be');
      await this.cluster.schedule.runUntil(this.cluster.schedule.now + 5, () =>
        this.cluster.ghost.check(),
      );
    }
  }

  async done<T>(work: Promise<T>): Promise<T> {
    let result: { readonly value: T } | undefined;
    let failure: unknown;
    work.then(
      (value) => {
        result = { value };
      },
      (error: unknown) => {
        failure = error;
      },
    );
    await this.until(() => result !== undefined || failure !== undefined);
    if (result === undefined) throw failure;
    return result.value;
  }

  /** So many serve, and are active. */
  async serve(count: number): Promise<void> {
    await this.until(() => {
      const view = this.cluster.ghost.decided;
      const serving = view?.members.filter((m) => m.state === MemberState.SERVING) ?? [];
      return (
        serving.length === count &&
        view?.members.length === count &&
        serving.every((m) => {
          const state = this.cluster.of('node').find(({ id }) => id === m.id)?.node?.state;
          return state?.active?.epoch === view.epoch;
        })
      );
    });
  }

  get head(): Place {
    const id = this.cluster.ghost.decided?.members[0]?.id;
    const head = this.cluster.of('node').find((place) => place.id === id);
    if (head === undefined) throw new Error('no head');
    return head;
  }

  /** @param seq of an earlier request, to send it again */
  put(key: string, value: string, seq = this.#nextSeq()): Promise<OperationResult> {
    const request = { clientId, seq, answeredBelow: 1 };
    const put = { key: Buffer.from(key), value: Buffer.from(value), request };
    return this.#run({ $case: 'put', value: put });
  }

  del(key: string): Promise<OperationResult> {
    const request = { clientId, seq: this.#nextSeq(), answeredBelow: 1 };
    return this.#run({ $case: 'delete', value: { key: Buffer.from(key), request } });
  }

  get(key: string): Promise<OperationResult> {
    return this.#run({ $case: 'get', value: { key: Buffer.from(key), node: '' } });
  }

  #nextSeq(): number {
    this.#seq += 1;
    return this.#seq;
  }

  async #run(operation: NonNullable<Operation['operation']>): Promise<OperationResult> {
    const { node } = this.head;
    if (node === undefined) throw new Error('the head is down');
    const asked = { id: 1, timeoutMs: 60_000, trace: noBytes, operation };
    return this.done(node.execute(asked));
  }

  /** Enough for several bases. */
  async write(count: number): Promise<void> {
    for (let i = 0; i < count; i += 1) await this.put(`key-${i % 7}`, `value ${i}`);
  }

  /** Every node's state is the replay of its log, and all are the same, once what they know has settled. */
  async compare(): Promise<void> {
    const quietAt = this.cluster.schedule.now + 500;
    await this.until(() => this.cluster.schedule.now > quietAt);
    await this.done(compareWithReplay(this.cluster));
  }

  /** Runs until the node has emitted this, or its next incarnation does; `then` is called at once. */
  async event(
    place: Place,
    type: ChainEvent['type'],
    then: () => void = () => undefined,
  ): Promise<void> {
    let node: NodeHandle | undefined;
    let isThere = false;
    await this.until(() => {
      if (place.node !== node) {
        node = place.node;
        node?.events$.subscribe((event) => {
          if (isThere || event.type !== type) return;
          isThere = true;
          then();
        });
      }
      return isThere;
    });
  }
}

t.test('a node whose log ends before the chain’s begins', async (t) => {
  const old = { first: 'deleted while it was away', second: 'kept' };
  const chain = new Chain(3);
  await chain.serve(2);
  const first = await chain.put('gone', old.first);
  await chain.put('stays', old.second);
  await chain.write(5);
  const away = chain.place(chain.head === chain.place(0) ? 1 : 0);
  chain.cluster.crash(away, true);
  await chain.serve(1);
  await chain.del('gone');
  await chain.write(30);
  const { head } = chain;
  await chain.until(() => (head.node?.state.kept.start.id.index ?? 0) > 10);
  chain.cluster.start(away);
  await chain.event(away, 'SnapshotInstalled');
  await chain.serve(2);
  t.equal(away.node?.state.incomplete, false);
  await t.resolves(chain.compare(), 'both have the same state');

  await t.test('comes back with it by a snapshot, and the log after it', async (t) => {
    const { kept, ledger } = away.node?.state ?? {};
    t.ok(kept !== undefined && kept.start.id.index > 10, 'its log begins where the snapshot ends');
    t.equal(ledger?.watermark.index, chain.cluster.ghost.committed.length);
  });

  // The other one goes: what it knows is all that there is.
  chain.cluster.crash(head, true);
  await chain.serve(1);
  t.equal(chain.head, away);

  await t.test('has nothing of a key that was deleted while it was away', async (t) => {
    const gone = (await chain.get('gone')).result;
    t.match(gone, { $case: 'error', value: { reason: 'KEY_NOT_FOUND' } });
    const kept = (await chain.get('stays')).result;
    t.equal(kept?.$case === 'get' && Buffer.from(kept.value.value).toString(), old.second);
  });

  await t.test('answers a request from before the snapshot with its outcome', async (t) => {
    const size = chain.cluster.ghost.committed.length;
    const again = await chain.put('gone', old.first, 1);
    const revision = ({ result }: OperationResult): number | undefined =>
      result?.$case === 'put' ? result.value.revision : undefined;
    t.equal(revision(first), 1);
    t.equal(revision(again), 1, 'sent again long after it was answered');
    t.equal(chain.cluster.ghost.committed.length, size, 'and not run again');
  });
});

t.test('a snapshot that breaks off', async (t) => {
  /** A node that has lost its folder has put a part of a snapshot in the place of it, when this happens. */
  const broken = async (
    seed: number,
    when: 'SnapshotBegun' | 'ChunksStored',
    happens: (chain: Chain, lost: Place) => void,
  ): Promise<{ readonly chain: Chain; readonly lost: Place }> => {
    const chain = new Chain(seed);
    await chain.serve(2);
    await chain.write(40);
    const lost = chain.place(chain.head === chain.place(0) ? 1 : 0);
    chain.cluster.crash(lost, true);
    lost.disk = undefined;
    await chain.serve(1);
    await chain.until(() => (chain.head.node?.state.kept.start.id.index ?? 0) > 10);
    chain.cluster.start(lost);
    await chain.event(lost, when, () => {
      chain.cluster.schedule.after(0, () => happens(chain, lost));
    });
    return { chain, lost };
  };
  const identity = async (chain: Chain, { disk }: Place): Promise<string> => {
    if (disk === undefined) throw new Error('it has no disk');
    return (await chain.done(readIdentity(disk)))?.storeId ?? '';
  };

  const mark = async (chain: Chain, { disk }: Place): Promise<Uint8Array | undefined> => {
    if (disk === undefined) throw new Error('it has no disk');
    return chain.done(disk.get(incompleteKey));
  };

  for (const power of [true, false]) {
    await t.test(
      `leaves a store that the next start empties${power ? ', without power' : ''}`,
      async (t) => {
        const { chain, lost } = await broken(5, 'ChunksStored', ({ cluster }, place) => {
          cluster.crash(place, power);
        });
        await chain.until(() => chain.cluster.isDown(lost));
        const before = await identity(chain, lost);
        t.ok(await mark(chain, lost), 'it says so');
        chain.cluster.start(lost);
        await chain.event(lost, 'SnapshotInstalled');
        t.notSame(await identity(chain, lost), before, 'it is no copy of anything');
        await chain.serve(2);
        await t.resolves(chain.compare());
        t.equal(await mark(chain, lost), undefined, 'it is whole');
      },
    );
  }

  await t.test(
    'comes to its end, or begins anew, when its sender has been restarted',
    async (t) => {
      let wasIncomplete = false;
      const { chain, lost } = await broken(8, 'SnapshotBegun', ({ cluster, head }, place) => {
        wasIncomplete = place.node?.state.incomplete === true;
        cluster.crash(head, true);
        cluster.start(head);
      });
      t.ok(wasIncomplete);
      await chain.serve(2);
      t.equal(lost.node?.state.incomplete, false);
      await t.resolves(chain.compare());
    },
  );
});

t.test('a base that was being made when the process ended is no base', async (t) => {
  const chain = new Chain(12);
  await chain.serve(2);
  await chain.write(40);
  const { head } = chain;
  const at = (): number => head.node?.state.kept.base.id.index ?? 0;
  await chain.until(() => at() > 10);
  const known = at();
  // Writes until chunks of a newer one stand in the store.
  const newer = (): boolean =>
    (head.disk?.durableKeys ?? []).some(
      (key) => key[0] === 'c'.charCodeAt(0) && Buffer.from(key).readBigUInt64BE(1) > known,
    );
  for (let i = 0; i < 60 && !newer() && at() === known; i += 1) await chain.write(1);
  chain.cluster.crash(head, true);
  chain.cluster.start(head);
  await chain.serve(2);
  await chain.write(20);
  await t.resolves(chain.compare());
  const base = head.node?.state.kept.base.id.index ?? 0;
  await chain.until(() => {
    const keys = head.disk?.durableKeys ?? [];
    const chunks = keys.filter((key) => key[0] === 'c'.charCodeAt(0));
    return chunks.every((key) => Buffer.from(key).readBigUInt64BE(1) >= base);
  });
});

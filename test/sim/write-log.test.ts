import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { ChainRecord } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import { SimCluster } from './cluster.js';
import { SeededRandom } from './schedule.js';

/** Runs the schedule until it is so. */
async function until(cluster: SimCluster, isSo: () => boolean): Promise<void> {
  const deadline = cluster.schedule.now + 60_000;
  while (!isSo()) {
    if (cluster.failure !== undefined) throw cluster.failure;
    if (cluster.schedule.now > deadline) throw new Error('it never came to be');
    await cluster.schedule.runUntil(cluster.schedule.now + 10, () => cluster.ghost.check());
  }
}

t.test(
  'an entry in the write log that no request made is forwarded, committed and acknowledged',
  async (t) => {
    const random = new SeededRandom(11);
    const cluster = new SimCluster({ coordinators: 3, nodes: 3, proxies: 1, random });
    cluster.startAll();
    await until(cluster, () => {
      const { members } = cluster.ghost.decided ?? { members: [] };
      return members.length === 3 && members.every((m) => m.state === MemberState.SERVING);
    });
    const view = cluster.ghost.decided;
    const head = cluster.of('node').find(({ id }) => id === view?.members[0]?.id);
    await until(cluster, () => head?.node?.state.active?.epoch === view?.epoch);
    const key = Buffer.from('foreign');
    const record = {
      $case: 'put',
      value: { key, value: Buffer.from('entry'), createRevision: 1, version: 1, lease: 0 },
    } as const;
    const payload = ChainRecord.encode({ record }).finish();
    const previous = head?.log?.last ?? { generation: 0, index: 0 };
    const entry = {
      generation: view?.epoch ?? 0,
      index: previous.index + 1,
      at: 1,
      request: undefined,
      trace: noBytes,
      payload,
      checksum: payloadChecksum(payload),
      isGroup: false,
    };
    // Straight into the log, past the core: the log alone drives what follows.
    head?.log?.append([encodeBlock({ chainId: 1, previous, entries: [entry] })]);
    const acknowledged: number[] = [];
    head?.node?.events$.subscribe((event) => {
      if (event.type === 'DownAcked') acknowledged.push(event.synced.index);
    });
    await until(cluster, () =>
      cluster
        .of('node')
        .every(({ node }) => node?.state.ledger.watermark.index === previous.index + 1),
    );
    t.equal(cluster.ghost.committed.length, previous.index + 1, 'it is committed');
    t.equal(acknowledged.at(-1), previous.index + 1, 'the successor acknowledged it to the head');
    for (const { id, node } of cluster.of('node')) {
      const asked = node?.execute({
        id: 1,
        timeoutMs: 1_000,
        trace: noBytes,
        operation: { $case: 'get', value: { key, node: id } },
      });
      let value = '';
      void asked?.then(({ result }) => {
        if (result?.$case === 'get') value = Buffer.from(result.value.value).toString();
      });
      await until(cluster, () => value !== '');
      t.equal(value, 'entry', id);
    }
  },
);

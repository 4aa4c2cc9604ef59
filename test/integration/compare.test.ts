import { spawn } from 'node:child_process';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import type { KeychainError } from '../../src/base/errors.js';
import { decodeObject, encodeObject } from '../../src/chain/objects.js';
import type { View } from '../../src/gen/keychaindb/v1/coordinator.js';
import { objectKey } from '../../src/log/keys.js';
import { seal, unseal } from '../../src/log/record.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { type StatusReport, statusReport } from '../../src/proxy/status.js';
import { clusterVerbs } from '../../src/retry/cluster-verbs.js';
import { Lab } from '../../tools/lab/cluster.js';
import { differencesFromReplay } from '../../tools/lab/inspect.js';
import { Load } from '../../tools/lab/load.js';
import { Recorder } from '../../tools/lab/recorder.js';

/* R18 with real processes and stores. */

const all = ['node-1', 'node-2'];

/** Two nodes and, so that one that stands still stops every change, two coordinators. */
async function started(compareInterval: string): Promise<Lab> {
  process.env['KEYCHAINDB_COMPARE_INTERVAL'] = compareInterval;
  process.env['KEYCHAINDB_COMPARE_SHARE'] = '0.5';
  const lab = await Lab.start({ nodes: 2, coordinators: 2 });
  t.teardown(() => lab.stop());
  return lab;
}

/** As one coordinator answers, whether or not the others do. */
async function statusAt(lab: Lab, id: string): Promise<StatusReport> {
  const verbs = clusterVerbs({ addresses: [lab.named(id).grpc], clock: systemClock });
  try {
    const [chain, cluster] = [await verbs.chainStatus(5_000), await verbs.status(5_000)];
    return statusReport(chain, cluster);
  } finally {
    verbs.close();
  }
}

async function statusUntil(
  lab: Lab,
  isSo: (report: StatusReport) => boolean,
): Promise<StatusReport> {
  const deadline = performance.now() + 90_000;
  for (;;) {
    let last: unknown;
    try {
      const report = await statusAt(lab, 'coordinator-1');
      if (isSo(report)) return report;
      last = report;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(JSON.stringify(last));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

type Change = (record: Uint8Array, stored: Uint8Array) => Uint8Array;

const alter: Change = (record, stored) => {
  const object = decodeObject(unseal(record, stored));
  return seal(record, encodeObject({ ...object, value: Buffer.from('altered') }));
};
const flip: Change = (_, stored) => stored.map((byte, i) => (i === 3 ? byte ^ 0xff : byte));

/** Changes what is stored under a key at a node that doesn't run. */
async function change(lab: Lab, id: string, key: string, by: Change): Promise<void> {
  const engine = await RocksEngine.open(lab.named(id).dataDir);
  const record = objectKey(Buffer.from(key));
  const value = by(record, (await engine.get(record)) ?? new Uint8Array(0));
  await engine.write([{ type: 'put', key: record, value }], { sync: true });
  await engine.close();
}

/** Kills a node, changes what is stored under a key of its store, and starts it again with these flags. */
async function restartWith(
  lab: Lab,
  id: string,
  key: string,
  by: Change,
  ...flags: readonly string[]
): Promise<void> {
  await lab.kill(id);
  await lab.serving(all.filter((other) => other !== id));
  await change(lab, id, key, by);
  const [command = '', ...args] = lab.named(id).argv;
  lab.adopt(id, spawn(command, [...args, ...flags], { stdio: 'ignore' }));
  await lab.serving(all);
}

t.test('amid steady writes every pass finds equal states', async (t) => {
  const lab = await started('50ms');
  const recorder = new Recorder();
  const load = new Load({
    clients: [lab.client({ timeoutMs: 20_000 })],
    readsPerSecond: 50,
    writesPerSecond: 100,
    recorder,
  });
  await load.prepare();
  const storesOf = ({ members }: View): readonly string[] =>
    members.map(({ id, storeId }) => `${id} ${Buffer.from(storeId).toString('hex')}`).sort();
  const stores = storesOf(await lab.serving(all));
  load.start();
  const seen = new Set<string>();
  const wrong: unknown[] = [];
  await statusUntil(lab, ({ nodes, problems }) => {
    wrong.push(...problems.filter(({ kind }) => /differs|damaged/.test(kind)));
    for (const { id, comparedRevision, role } of nodes) {
      if (role !== 'head') seen.add(`${id} ${comparedRevision}`);
    }
    return seen.size >= 10;
  });
  t.same((await load.stop()).staleReads, []);
  t.same(wrong, []);
  t.same(storesOf(await lab.serving(all, 90_000)), stores, 'nobody was synced anew');
});

t.test('what is wrong in a store is found, shown, and mended', async (t) => {
  const lab = await started('1440m');
  const client = lab.client({ timeoutMs: 20_000 });
  for (let i = 0; i < 100; i += 1) await client.put(`key-${i}`, `value-${i}`);
  const at2 = async (key: string): Promise<string> =>
    Buffer.from((await client.get(key, { node: 'node-2' }))?.value ?? []).toString();
  const storeOf = async (id: string): Promise<string> => {
    const { members } = await lab.serving(all);
    return Buffer.from(members.find((m) => m.id === id)?.storeId ?? []).toString('hex');
  };

  t.test('an object that was altered, with a right checksum', async (t) => {
    const before = await storeOf('node-2');
    await restartWith(lab, 'node-2', 'key-7', alter, '--compare-interval', '20s');
    t.equal(await at2('key-7'), 'altered', 'no checksum sees it');
    // Without a majority nobody is taken out, and what was found stays to be seen.
    lab.signal('coordinator-2', 'SIGSTOP');
    const { problems } = await statusUntil(lab, (report) =>
      report.problems.some(({ kind }) => kind === 'state-differs'),
    );
    const found = problems.find(({ kind }) => kind === 'state-differs');
    t.match(found, { id: 'node-2', message: /differs from that of node-1/ });
    t.match(found?.command, /synced anew/);
    lab.signal('coordinator-2', 'SIGCONT');
    await lab.until('node-2 is out', ({ members }) => !members.some((m) => m.id === 'node-2'));
    await lab.serving(all);
    t.not(await storeOf('node-2'), before, 'it is no copy of the old store');
    t.equal(await at2('key-7'), 'value-7');
    t.same(await differencesFromReplay(lab), []);
  });

  t.test('a record that a read finds damaged', async (t) => {
    const before = await storeOf('node-2');
    await restartWith(lab, 'node-2', 'key-9', flip);
    // It is refused; who asks again is answered when the node has come back.
    t.match(await at2('key-9').catch((error: KeychainError) => error.reason), /value-9|CORRUPT/);
    await lab.until('another store serves', ({ members }) => {
      const own = members.find(({ id }) => id === 'node-2');
      return own !== undefined && Buffer.from(own.storeId).toString('hex') !== before;
    });
    await lab.serving(all);
    t.not(await storeOf('node-2'), before, 'it is no copy of the old store');
    t.equal(await at2('key-9'), 'value-9');
    t.same(await differencesFromReplay(lab), []);
  });

  t.test('where it is the last that serves it stays, and says so', async (t) => {
    await lab.kill('node-1');
    await lab.serving(['node-2']);
    await lab.kill('node-2');
    await change(lab, 'node-2', 'key-9', flip);
    lab.start('node-2');
    await lab.serving(['node-2']);
    const { problems } = await statusUntil(lab, (report) => {
      // It is refused, whoever asks, and however often.
      void client.get('key-9', { timeoutMs: 2_000 }).catch(() => undefined);
      return report.problems.some(({ kind }) => kind === 'store-damaged');
    });
    await t.rejects(client.get('key-9', { timeoutMs: 2_000 }));
    const found = problems.find(({ kind }) => kind === 'store-damaged');
    t.match(found, { id: 'node-2', passing: false, message: /key-9/ });
    t.match(found?.command, /keychaindb chain add/);
    t.equal(await at2('key-8'), 'value-8', 'the rest is served on');
    // When another one serves it is synced anew.
    const before = (await lab.serving(['node-2'])).members[0]?.incarnation ?? 0;
    lab.start('node-1');
    await lab.until('node-2 serves anew', ({ members }) => {
      const own = members.find(({ id }) => id === 'node-2');
      return members.length === 2 && own !== undefined && own.incarnation > before;
    });
    await lab.serving(all);
    t.equal(await at2('key-9'), 'value-9');
  });
});

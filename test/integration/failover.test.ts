import { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import t from 'tap';
import { KVClient } from '../../src/gen/keychaindb/v1/kv.js';
import { Lab, servingIds } from '../../tools/lab/cluster.js';
import { differencesFromReplay } from '../../tools/lab/inspect.js';
import { Load } from '../../tools/lab/load.js';
import { Recorder } from '../../tools/lab/recorder.js';
import { checkHistory } from '../history/linearizability.js';

for (const position of ['head', 'middle', 'tail'] as const) {
  t.test(`the death of the ${position} loses no write and fails no read`, async (t) => {
    const lab = await Lab.start();
    t.teardown(() => lab.stop());
    const recorder = new Recorder();
    const clients = [lab.client()];
    const load = new Load({ clients, readsPerSecond: 300, writesPerSecond: 60, recorder });
    await load.prepare();
    load.start();
    const ids = servingIds(await lab.serving(['node-1', 'node-2', 'node-3']));
    const victim = ids[{ head: 0, middle: 1, tail: 2 }[position]] ?? '';
    await lab.kill(victim);
    await lab.serving(ids.filter((id) => id !== victim));
    lab.start(victim);
    await lab.serving(ids);
    const report = await load.stop();
    t.same(report.failedReads, []);
    t.same(report.failedWrites, []);
    t.same(report.staleReads, []);
    t.match(checkHistory(recorder.operations), { ok: true });
    t.same(await differencesFromReplay(lab), []);
  });
}

/** Of a node, as the proxy reports it: milliseconds since it was heard; null where it never was. */
async function silenceOf(lab: Lab, id: string): Promise<number | null> {
  const answer = await fetch(`http://${lab.of('proxy')[0]?.http}/v1/status`);
  const { nodes } = (await answer.json()) as { nodes: { id: string; silentMs: number | null }[] };
  return nodes.find((node) => node.id === id)?.silentMs ?? null;
}

/** Resolves when the node's silence, as the proxy reports it, is so. */
async function untilSilence(lab: Lab, id: string, isSo: (ms: number) => boolean): Promise<void> {
  for (;;) {
    const silence = await silenceOf(lab, id);
    if (silence !== null && isSo(silence)) return;
  }
}

t.test('a process that is gone is taken out without the detection time', async (t) => {
  // Longer than the test may take.
  const lab = await Lab.start({ args: ['--detection-ms', '60000'] });
  t.teardown(() => lab.stop());
  const client = lab.client({ timeoutMs: 20_000 });
  await client.put('who', 'all');
  await lab.kill('node-2');
  await client.put('who', 'two');
  const view = await lab.serving(['node-1', 'node-3']);
  t.same(servingIds(view), ['node-1', 'node-3']);
});

t.test('a node that stands still for many leases keeps its place, and reads wait', async (t) => {
  const lab = await Lab.start({ args: ['--detection-ms', '30000'] });
  t.teardown(() => lab.stop());
  const client = lab.client({ timeoutMs: 30_000 });
  await client.put('who', 'all');
  const before = await lab.serving(['node-1', 'node-2', 'node-3']);
  lab.signal('node-2', 'SIGSTOP');
  await untilSilence(lab, 'node-2', (ms) => ms > 2_000);
  const read = client.get('who');
  lab.signal('node-2', 'SIGCONT');
  await untilSilence(lab, 'node-2', (ms) => ms < 1_000);
  t.equal(Buffer.from((await read)?.value ?? []).toString(), 'all');
  const after = await lab.serving(['node-1', 'node-2', 'node-3']);
  t.equal(after.epoch, before.epoch);
});

t.test('a chain serves down to its last node', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const recorder = new Recorder();
  const clients = [lab.client()];
  const load = new Load({ clients, readsPerSecond: 200, writesPerSecond: 40, recorder });
  await load.prepare();
  load.start();
  await lab.kill('node-1');
  await lab.serving(['node-2', 'node-3']);
  await lab.kill('node-3');
  await lab.serving(['node-2']);
  lab.start('node-1');
  lab.start('node-3');
  await lab.serving(['node-1', 'node-2', 'node-3']);
  const report = await load.stop();
  t.same([...report.failedReads, ...report.failedWrites, ...report.staleReads], []);
  t.match(checkHistory(recorder.operations), { ok: true });
  t.same(await differencesFromReplay(lab), []);
});

t.test('a whole cluster that is killed while it writes has every acknowledged write', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const client = lab.client({ timeoutMs: 60_000 });
  const acknowledged = new Map<string, string>();
  const writers = Array.from({ length: 32 }, async (_, writer) => {
    for (let i = 0; ; i += 1) {
      const key = `killed/${writer}/${i}`;
      try {
        await client.put(key, `${i}`, { timeoutMs: 1_000 });
      } catch {
        return;
      }
      acknowledged.set(key, `${i}`);
    }
  });
  while (acknowledged.size < 2_000) await new Promise((resolve) => setTimeout(resolve, 5));
  const ids = lab.processes.map(({ id }) => id);
  await Promise.all(ids.map((id) => lab.kill(id)));
  await Promise.all(writers);
  for (const id of ids) lab.start(id);
  await lab.serving(['node-1', 'node-2', 'node-3']);
  const missing: string[] = [];
  for (const [key, value] of acknowledged) {
    const read = await client.get(key);
    if (Buffer.from(read?.value ?? []).toString() !== value) missing.push(key);
  }
  t.ok(acknowledged.size >= 2_000);
  t.same(missing, []);
  t.same(await differencesFromReplay(lab), []);
});

interface Hammered {
  asked: number;
  answered: number;
  stale: number;
}

/**
 * Reads at one node without pause: a burst that waits in the socket of a stopped process, then eight readers that
 * go on until they have asked often enough. Counts answers, and those that are lower than `floor`.
 */
function hammer(address: string, key: Buffer, floor: number) {
  const stub = new KVClient(address, ChannelCredentials.createInsecure());
  const seen: Hammered = { asked: 0, answered: 0, stale: 0 };
  const read = async (timeoutMs: number): Promise<void> => {
    seen.asked += 1;
    const value = await new Promise<string | undefined>((resolve) => {
      const deadline = new Date(Date.now() + timeoutMs);
      stub.get({ key, node: '' }, new Metadata(), { deadline }, (error, response) =>
        resolve(error === null ? Buffer.from(response.value).toString() : undefined),
      );
    });
    if (value === undefined) return;
    seen.answered += 1;
    if (Number(value) < floor) seen.stale += 1;
  };
  const burst = Array.from({ length: 400 }, () => read(10_000));
  return {
    async goOn(): Promise<Hammered> {
      const until = performance.now() + 4_000;
      const readers = Array.from({ length: 8 }, async () => {
        for (let i = 0; i < 150 || performance.now() < until; i += 1) await read(100);
      });
      await Promise.all([...burst, ...readers]);
      stub.close();
      return seen;
    },
  };
}

for (const isCutOff of [false, true]) {
  const how = isCutOff ? 'cut off from its coordinators' : 'with its coordinators reachable';
  t.test(`a node that was stopped answers nothing stale when it goes on, ${how}`, async (t) => {
    const lab = await Lab.start();
    t.teardown(() => lab.stop());
    const client = lab.client();
    await client.put('moves', '0');
    const stopped = 'node-2';
    lab.signal(stopped, 'SIGSTOP');
    const since = performance.now();
    await lab.serving(['node-1', 'node-3']);
    let newest = 0;
    // The chain moves on for as long as the node is stopped: five seconds.
    while (performance.now() - since < 5_000) {
      newest += 1;
      await client.put('moves', `${newest}`);
    }
    if (isCutOff) for (const { id } of lab.of('coordinator')) lab.signal(id, 'SIGSTOP');
    const reads = hammer(lab.named(stopped).grpc, Buffer.from('moves'), newest);
    lab.signal(stopped, 'SIGCONT');
    const { stale, answered, asked } = await reads.goOn();
    t.comment(`${answered} of ${asked} reads were answered`);
    t.equal(stale, 0);
    if (isCutOff) for (const { id } of lab.of('coordinator')) lab.signal(id, 'SIGCONT');
    await lab.serving(['node-1', 'node-2', 'node-3']);
    const read = await client.get('moves', { node: stopped });
    t.equal(Buffer.from(read?.value ?? []).toString(), `${newest}`);
    t.same(await differencesFromReplay(lab), []);
  });
}

import t from 'tap';
import { Lab, servingIds } from '../../tools/lab/cluster.js';
import { differencesFromReplay } from '../../tools/lab/inspect.js';
import { Load } from '../../tools/lab/load.js';

/** Resolves when the load has been answered so many times more. */
async function answeredMore(load: Load, reads: number, writes: number): Promise<void> {
  const before = load.answered;
  for (;;) {
    const now = load.answered;
    if (now.reads - before.reads >= reads && now.writes - before.writes >= writes) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

t.test('with all coordinators dead not one read or write fails', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const load = new Load({ clients: [lab.client()], readsPerSecond: 300, writesPerSecond: 60 });
  await load.prepare();
  load.start();
  await answeredMore(load, 100, 20);
  const ids = lab.of('coordinator').map(({ id }) => id);
  await Promise.all(ids.map((id) => lab.kill(id)));
  await answeredMore(load, 900, 180);
  for (const id of ids) lab.start(id);
  // The chain can change again.
  await lab.serving(['node-1', 'node-2', 'node-3']);
  await lab.kill('node-2');
  await lab.serving(['node-1', 'node-3']);
  lab.start('node-2');
  await lab.serving(['node-1', 'node-2', 'node-3']);
  const report = await load.stop();
  t.same(report.failedReads, []);
  t.same(report.failedWrites, []);
  t.same(report.staleReads, []);
  t.same(await differencesFromReplay(lab), []);
});

t.test('with the Raft leader dead membership can be changed, at any coordinator', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const client = lab.client();
  const { leader } = await client.status();
  await lab.kill(leader);
  const rest = lab.of('coordinator').filter(({ id }) => id !== leader);
  // Each of the two is asked: one of them is a follower.
  for (const [index, { grpc }] of rest.entries()) {
    const direct = lab.client({ endpoints: [grpc] });
    await direct.addMember(`spare-${index}`, `127.0.0.1:${index + 1}`);
    const view = await direct.members();
    t.ok(view.others.some(({ id }) => id === `spare-${index}`));
    await direct.removeMember(`spare-${index}`);
  }
  lab.start(leader);
  await lab.until('the chain serves', (view) => servingIds(view).length === 3);
  t.same(await differencesFromReplay(lab), []);
});

t.test('an operator takes a node out and adds it again while it runs', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const client = lab.client();
  await client.put('key', 'value');
  await client.removeMember('node-1');
  await lab.serving(['node-2', 'node-3']);
  t.equal(Buffer.from((await client.get('key'))?.value ?? []).toString(), 'value');
  await client.put('key', 'newer');
  await client.addMember('node-1', lab.named('node-1').grpc);
  await lab.serving(['node-1', 'node-2', 'node-3']);
  const read = await client.get('key', { node: 'node-1' });
  t.equal(Buffer.from(read?.value ?? []).toString(), 'newer');
  t.same(await differencesFromReplay(lab), []);
});

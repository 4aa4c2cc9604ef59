import tap from 'tap';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import { Lab, servingIds } from '../../tools/lab/cluster.js';
import { differencesFromReplay } from '../../tools/lab/inspect.js';
import { Load } from '../../tools/lab/load.js';
import { Recorder } from '../../tools/lab/recorder.js';
import { checkHistory } from '../history/linearizability.js';
import { refusal } from '../refusal.js';

const all = ['node-1', 'node-2', 'node-3'];

async function loaded(t: Pick<typeof tap, 'teardown' | 'comment' | 'match' | 'same'>) {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const recorder = new Recorder();
  const client = lab.client();
  const load = new Load({ clients: [client], readsPerSecond: 300, writesPerSecond: 200, recorder });
  await load.prepare();
  load.start();
  const failures = async () => {
    const { failedReads, failedWrites, staleReads, ...gaps } = await load.stop();
    t.comment(JSON.stringify(gaps));
    t.match(checkHistory(recorder.operations), { ok: true });
    t.same(await differencesFromReplay(lab), []);
    return [...failedReads, ...failedWrites, ...staleReads];
  };
  return { lab, client, failures };
}

for (const position of ['head', 'middle', 'tail'] as const) {
  tap.test(`draining the ${position} under load fails no request`, async (t) => {
    const { lab, client, failures } = await loaded(t);
    const { members } = await lab.serving(all);
    const ids = members.map(({ id }) => id);
    const place = { head: 0, middle: 1, tail: 2 }[position];
    const { id: victim = '', incarnation = 0 } = members[place] ?? {};
    await client.drainMember(victim);
    await client.drainMember(victim);
    // The process lives on, under another incarnation, and is not taken in.
    const waits = await lab.until('it waits', ({ others: [other] }) => {
      return other?.state === MemberState.WAITING && other.incarnation > incarnation;
    });
    t.match(waits.others, [{ id: victim, drained: true }]);
    t.same(
      servingIds(waits),
      ids.filter((id) => id !== victim),
    );
    await client.addMember(victim, lab.named(victim).grpc);
    await lab.serving(ids);
    t.same(await failures(), []);
  });
}

tap.test('turning the chain round, and again, under load fails no request', async (t) => {
  const { lab, client, failures } = await loaded(t);
  let ids: readonly string[] = [];
  for (let round = 0; round < 6; round += 1) {
    const { members, epoch } = await lab.serving(all);
    const [first = '', ...rest] = members.map(({ id }) => id);
    ids = round % 2 === 0 ? [...rest.reverse(), first] : [...rest, first];
    await client.reorderChain(ids, { expectedEpoch: epoch });
    await lab.until('in order', (view) => servingIds(view).join() === ids.join());
    // The new tail commits: a write of this epoch is acknowledged.
    await client.put('round', `${round}`);
    t.equal(Buffer.from((await client.get('round'))?.value ?? []).toString(), `${round}`);
  }
  const [first = '', ...rest] = ids;
  await t.rejects(client.reorderChain(rest), refusal('BAD_REQUEST'));
  await t.rejects(
    client.reorderChain([...rest, first], { expectedEpoch: 1 }),
    refusal('STALE_EPOCH'),
  );
  t.same(await failures(), []);
});

tap.test('a rolling restart under load fails no request', async (t) => {
  const { lab, failures } = await loaded(t);
  const ids = servingIds(await lab.serving(all));
  for (const id of ids) {
    lab.signal(id, 'SIGTERM');
    await lab.gone(id);
    const view = await lab.serving(ids.filter((other) => other !== id));
    t.match(view.others, [{ id, drained: true }]);
    lab.start(id);
    const { others } = await lab.serving(ids);
    t.same(others, []);
  }
  t.same(await failures(), []);
});

tap.test('the last serving node is not drained, and ends all the same', async (t) => {
  const lab = await Lab.start({ nodes: 1 });
  t.teardown(() => lab.stop());
  const client = lab.client();
  await client.put('key', 'value');
  await t.rejects(client.drainMember('node-1'), refusal('LAST_SERVING'));
  lab.signal('node-1', 'SIGTERM');
  await lab.gone('node-1');
  lab.start('node-1');
  await lab.serving(['node-1']);
  t.equal(Buffer.from((await client.get('key'))?.value ?? []).toString(), 'value');
});

tap.test(
  'a chain whose serving nodes are gone goes on with an old copy, where they are named',
  async (t) => {
    const lab = await Lab.start();
    t.teardown(() => lab.stop());
    const client = lab.client({ timeoutMs: 20_000 });
    await client.put('key', 'old');
    await client.drainMember('node-3');
    await lab.serving(['node-1', 'node-2']);
    await client.put('key', 'new');
    await client.put('lost', 'value');
    await t.rejects(client.recoverChain('node-3', ['node-1', 'node-2']), refusal('LAST_SERVING'));
    await Promise.all([lab.kill('node-1'), lab.kill('node-2')]);
    await lab.until('they are silent', (view) =>
      view.members.every(({ state }) => state === MemberState.LASTSRV),
    );
    await t.rejects(client.recoverChain('node-3', []), {
      ...refusal('LAST_SERVING'),
      message: /keychaindb chain recover node-3 --lose node-1,node-2/,
    });
    await client.recoverChain('node-3', ['node-1', 'node-2']);
    await client.recoverChain('node-3', ['node-1', 'node-2']);
    const view = await lab.serving(['node-3']);
    t.equal(view.lineage, 2);
    const text = async (key: string) =>
      Buffer.from((await client.get(key))?.value ?? []).toString();
    t.equal(await text('key'), 'old');
    t.equal(await text('lost'), '');
    await client.put('key', 'newest');
    // They come back with what was given up: it is wiped, and they are synced from the chain.
    lab.start('node-1');
    lab.start('node-2');
    await lab.serving(all);
    for (const node of all) {
      const read = await client.get('key', { node });
      t.equal(Buffer.from(read?.value ?? []).toString(), 'newest', node);
      t.equal(await client.get('lost', { node }), undefined, node);
    }
    t.same(await differencesFromReplay(lab), []);
  },
);

tap.test('a spare waits until the chain is too short', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const client = lab.client();
  await client.removeMember('node-3');
  await client.addMember('node-3', lab.named('node-3').grpc, { spare: true });
  await client.setChainLength(2);
  const waits = await lab.until(
    'it waits',
    ({ others }) => others[0]?.state === MemberState.WAITING,
  );
  t.match(waits.others, [{ id: 'node-3', spare: true, note: /long enough/ }]);
  await lab.kill('node-1');
  await lab.serving(['node-2', 'node-3']);
  lab.start('node-1');
  await lab.serving(all);
  t.same(await differencesFromReplay(lab), []);
});

import t from 'tap';
import { activationDue } from '../../src/chain/activation.js';
import { downMessage } from '../../src/chain/link.js';
import { startState } from '../../src/chain/start.js';
import { type Packet, PureCluster, promise, timing, view } from './pure-cluster.js';

t.test(
  'CRAQ §2.3: a write at the head is read at every node once it is acknowledged',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    const w = c.put('a', 'k', 'v1');
    t.equal(c.writeOf(w), 'committed 1');
    for (const id of ['a', 'b', 'c']) t.equal(c.readOf(c.get(id, 'k')), 'v1', `read at ${id}`);
    t.equal(c.node('a').state.counters.queriesSent, 0, 'a clean read asks nobody');
  },
);

t.test('CRAQ §2.3: a dirty read asks the tail and returns what it says is committed', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1');
  c.hold = (p) => p.to === 'c' && p.text === 'blocks';
  const w = c.put('a', 'k', 'v2');
  t.equal(c.writeOf(w), 'waits');
  t.equal(c.readOf(c.get('a', 'k')), 'v1', 'v2 is staged and not committed');
  t.equal(c.node('a').state.counters.queriesSent, 1);
  c.hold = (p) => p.text === 'ack';
  const blocks = c.held.splice(0);
  for (const p of blocks) c.give(p.to, p.input(c.now));
  c.run();
  t.equal(c.writeOf(w), 'waits', 'the watermark has not come up yet');
  t.equal(c.readOf(c.get('a', 'k')), 'v2', 'the tail has committed v2');
  c.release();
  t.equal(c.writeOf(w), 'committed 2');
});

t.test('R14: a read that came after the query left is not answered by it', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1');
  c.hold = (p) => (p.to === 'c' && p.text === 'blocks') || p.text === 'watermarkAnswer';
  const w = c.put('a', 'k', 'v2');
  const early = c.get('a', 'k');
  t.equal(c.readOf(early), 'waits', 'its answer says 1 and is under way');
  // v2 is committed at the tail and read there before the second read begins.
  for (const p of c.held.filter((q) => q.text === 'blocks')) c.give(p.to, p.input(c.now));
  c.hold = (p) => p.text === 'watermarkAnswer' || p.text === 'ack';
  c.run();
  t.equal(c.readOf(c.get('c', 'k')), 'v2');
  const late = c.get('a', 'k');
  const answers = c.held.filter((q) => q.text === 'watermarkAnswer');
  c.hold = (p) => p.text === 'ack';
  for (const p of answers) c.give(p.to, p.input(c.now));
  t.equal(c.readOf(late), 'waits', 'the first answer is too old for it');
  c.run();
  t.equal(c.readOf(late), 'v2');
  t.equal(c.writeOf(w), 'waits');
});

t.test('R4: without a lease a strong read waits, it is not answered', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1');
  c.hold = (p) => p.text === 'promiseGrant' && p.from === 'c';
  c.pass(timing.leaseMs + 100);
  const read = c.get('a', 'k');
  t.equal(c.readOf(read), 'waits', 'the promise of c has run out at a');
  t.equal(c.readOf(c.get('c', 'k')), 'v1', 'c has the promises of a and b');
  c.hold = () => false;
  c.pass(timing.heartbeatMs * 2);
  t.equal(c.readOf(read), 'v1', 'it is answered when the lease runs again');
});

for (const [dead, rest] of [
  ['a', 'b c'],
  ['b', 'a c'],
  ['c', 'a b'],
] as const) {
  t.test(`${dead} of {a b c} dies: nothing acknowledged is lost, writes go on`, async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    for (let i = 0; i < 20; i += 1) c.put('a', `k${i}`, `v${i}`);
    c.crash(dead);
    const next = view(2, rest, dead);
    const [head = '', tail = ''] = rest.split(' ');
    c.show(next, head, tail);
    const early = c.get(head, 'k3');
    t.equal(c.readOf(early), 'v3', 'clean reads go on at once: the dead one is not needed (R4)');
    t.equal(c.node(head).state.active?.epoch, 1, 'its promise is waited out first (R3)');
    const due = activationDue(c.node(head).state) ?? 0;
    t.ok(due > c.now && due <= c.now + promise, 'the moment is known');
    c.pass(due - c.now - 1);
    t.equal(c.node(head).state.active?.epoch, 1);
    c.pass(due - c.now);
    t.equal(c.node(head).state.active?.epoch, 2, 'and nothing else is waited for');
    t.equal(activationDue(c.node(head).state), undefined);
    c.pass(promise + 20);
    t.equal(c.node(head).state.active?.epoch, 2);
    const w = c.put(head, 'k3', 'new');
    t.equal(c.writeOf(w), 'committed 21');
    for (const id of [head, tail]) {
      t.equal(c.readOf(c.get(id, 'k3')), 'new');
      t.equal(c.readOf(c.get(id, 'k19')), 'v19');
    }
  });
}

t.test(
  'the tail dies with a write staged above it: the new tail commits it before it serves',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    c.hold = (p) => p.to === 'c' && p.text === 'blocks';
    const w = c.put('a', 'k', 'v1');
    c.crash('c');
    c.show(view(2, 'a b', 'c'), 'a', 'b');
    const read = c.get('b', 'k');
    c.pass(100);
    t.equal(c.readOf(read), 'waits', 'only the dead tail knows whether it showed the value');
    c.pass(promise);
    t.equal(c.writeOf(w), 'committed 1');
    t.equal(c.readOf(read), 'v1');
  },
);

t.test(
  'the head dies with a write that nobody else has: it is cut when it comes back',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    c.put('a', 'k', 'v1');
    c.hold = (p) => p.text === 'blocks';
    const request = c.request();
    const w = c.put('a', 'k', 'lost', request);
    t.equal(c.writeOf(w), 'waits');
    const old = c.node('a');
    c.crash('a');
    c.held.splice(0);
    c.hold = () => false;
    c.show(view(2, 'b c', 'a'), 'b', 'c');
    c.pass(promise + 20);
    const again = c.put('b', 'k', 'lost', request);
    t.equal(c.writeOf(again), 'committed 2', 'the retry runs once, at the new head');
    const back = c.start('a', 2);
    back.log = old.log;
    back.objects = old.objects;
    Object.assign(back.state.ledger, old.state.ledger);
    for (const [epoch, members] of [
      [3, 'b c a2~sync'],
      [4, 'b c a2~join'],
      [5, 'b c a2'],
    ] as const) {
      c.show(view(epoch, members), 'a', 'b', 'c');
      c.pass(100);
    }
    t.same(back.state.ledger.last, { generation: 2, index: 2 }, 'the lost entry was cut');
    t.equal(back.state.authority, true, 'it is the tail');
    t.equal(c.readOf(c.get('a', 'k')), 'lost');
  },
);

t.test('R9: a JOINING member gates the commit, so a report cannot go stale', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1');
  c.start('c');
  c.show(view(2, 'a b c~sync'), 'a', 'b', 'c');
  c.pass(50);
  t.same(
    c.node('c').state.ledger.last,
    { generation: 1, index: 1 },
    'it is fed from the first block',
  );
  t.equal(c.writeOf(c.put('a', 'k', 'v2')), 'committed 2', 'SYNCING counts for nothing');
  c.show(view(3, 'a b c~join'), 'a', 'b', 'c');
  c.pass(50);
  t.equal(c.node('a').state.active?.epoch, 3);
  c.hold = (p) => p.from === 'c' && p.text === 'ack';
  const w = c.put('a', 'k', 'v3');
  t.equal(c.writeOf(w), 'waits', 'the tail commits only what the JOINING member has');
  t.equal(c.readOf(c.get('c', 'k')), 'NOT_SERVING');
  c.release();
  t.equal(c.writeOf(w), 'committed 3');
  c.show(view(4, 'a b c'), 'a', 'b', 'c');
  c.pass(50);
  t.equal(c.readOf(c.get('c', 'k')), 'v3');
});

t.test('R2: a removed node stops answering for ever and says so', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1');
  const next = view(2, 'a b', 'c');
  c.show(next, 'c');
  t.match(c.node('c').stopped, { wipe: false });
  t.equal(c.readOf(c.get('c', 'k')), 'NOT_SERVING');
  c.show(next, 'a', 'b');
  c.pass(20);
  t.equal(c.node('a').state.active?.epoch, 2, 'R3: its confirmed stop ends the wait');
});

t.test(
  'R3: a promise to a removed node that lives is waited out before anything is committed without it',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    c.put('a', 'k', 'old');
    // c hears nobody but a stale reader; a and b move on.
    c.hold = (p) => p.to === 'c' || p.from === 'c';
    c.show(view(2, 'a b', 'c'), 'a', 'b');
    const w = c.put('a', 'k', 'new');
    let served = 0;
    while (c.writeOf(w) === 'waits') {
      const read = c.get('c', 'k');
      if (c.readOf(read) === 'old') served += 1;
      c.pass(10);
    }
    t.ok(served > 0, 'c answered from its lease for a while');
    t.equal(c.readOf(c.get('c', 'k')), 'waits', 'and not any more when the write was acknowledged');
  },
);

t.test(
  'R5: a process that promised takes part in nothing before its old promises have run out',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b'));
    c.put('a', 'k', 'v1');
    const old = c.node('a');
    const back = c.start('a', 2);
    Object.assign(back.state.ledger, old.state.ledger);
    Object.assign(back.state, { leaseMaxMs: timing.leaseMs, bootWaitUntil: c.now + promise });
    back.log = old.log;
    back.objects = old.objects;
    c.hold = (p) => p.to === 'b' || p.from === 'b';
    c.show(view(2, 'a2', 'b'), 'a');
    c.pass(promise - 50);
    t.equal(back.state.active, undefined);
    c.pass(100);
    t.equal(back.state.active?.epoch, 2);
    t.equal(back.state.authority, true);
    t.equal(c.readOf(c.get('a', 'k')), 'v1');
  },
);

t.test('R12: the same request twice is one entry with one outcome', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  const request = c.request();
  t.equal(c.writeOf(c.put('a', 'k', 'v', request)), 'committed 1');
  t.equal(c.writeOf(c.put('a', 'k', 'v', request)), 'committed 1');
  t.equal(c.node('a').state.ledger.last.index, 1);
  c.hold = (p) => p.text === 'ack';
  const next = { ...c.request() };
  const first = c.put('a', 'k', 'w', next);
  const second = c.put('a', 'k', 'w', next);
  t.equal(c.writeOf(second), 'waits', 'a retry that meets its staged write waits for the commit');
  c.release();
  t.equal(c.writeOf(first), 'committed 2');
  t.equal(c.writeOf(second), 'committed 2');
});

t.test('R7: without the token the tail answers no query and commits nothing', async (t) => {
  const c = new PureCluster();
  c.start('a');
  c.start('b');
  c.hold = (p) => p.text === 'hello';
  c.show(view(1, 'a b'), 'a', 'b');
  c.pass(50);
  t.equal(c.node('b').state.authority, false);
  t.equal(c.writeOf(c.put('a', 'k', 'v')), 'waits');
  c.release();
  c.pass(20);
  t.equal(c.node('b').state.authority, true);
});

t.test('R5: a store without a record of its promises waits as if it had promised', async (t) => {
  const c = new PureCluster();
  c.start('a').state = startState({ ...c.node('a').state.self }, 1, timing, c.now);
  c.show(view(1, 'a'), 'a');
  t.equal(c.node('a').state.active, undefined, 'what it held may be lost');
  c.pass(promise + 20);
  t.equal(c.node('a').state.active?.epoch, 1);
});

t.test(
  'a view that names another store under this name and incarnation is not about this process',
  async (t) => {
    const c = new PureCluster();
    const said: string[] = [];
    c.hold = (p) => {
      said.push(p.text);
      return false;
    };
    const { state } = c.start('a');
    c.node('a').state = { ...state, self: { ...state.self, storeId: new Uint8Array([7]) } };
    c.show(view(1, 'a b'), 'a');
    c.pass(promise);
    t.equal(c.node('a').state.active, undefined, 'it is not a member: an empty store would serve');
    t.match(c.node('a').stopped, { wipe: false });
    t.notOk(said.includes('stopped'), 'nor does it confirm the stop of the other one');
  },
);

t.test(
  'R14: a reader without a lease asks the tail nothing; it asks when it has one',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    c.put('a', 'k', 'v1');
    const isKept = (p: Packet): boolean =>
      (p.to === 'c' && p.text === 'blocks') || (p.text === 'promiseGrant' && p.from === 'b');
    c.hold = (p) => isKept(p) || p.text.startsWith('watermark');
    c.put('a', 'k', 'v2');
    const read = c.get('a', 'k');
    // The promise of b runs out; an answer that came then could not be used.
    c.pass(timing.leaseMs + 100);
    c.hold = isKept;
    const asked = c.node('a').state.counters.queriesSent;
    c.pass(500);
    t.equal(
      c.node('a').state.counters.queriesSent,
      asked,
      'not once more while it lacks a promise',
    );
    t.equal(c.readOf(read), 'waits');
    c.hold = (p) => p.to === 'c' && p.text === 'blocks';
    c.pass(timing.heartbeatMs * 3);
    t.equal(c.readOf(read), 'v1');
  },
);

t.test('another lineage: the store that is named goes on, the others are wiped', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1');
  for (const id of ['c', 'd']) {
    c.start(id);
    c.show(view(2, 'a b', id), id);
  }
  const recovered = { ...view(3, 'c', 'a b d'), lineage: 2 };
  c.show(recovered, 'a', 'b', 'c', 'd');
  for (const id of ['a', 'b', 'd']) t.match(c.node(id).stopped, { wipe: true }, id);
  t.equal(c.node('c').stopped, undefined);
  c.pass(promise);
  t.equal(c.node('c').state.active?.epoch, 3);
  t.ok(c.node('c').state.authority);
});

for (const order of ['b a c', 'c b a', 'c a b'] as const) {
  t.test(`R6, R7: {a b c} becomes {${order}} with a write that nobody else has`, async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    c.put('a', 'k', 'v1');
    c.hold = (p) => p.from === 'a' && p.text === 'blocks';
    const lost = c.put('a', 'k', 'v2');
    c.hold = () => false;
    const next = view(2, order);
    const [head = ''] = order.split(' ');
    const rest = ['a', 'b', 'c'].filter((id) => id !== head);
    c.show(next, head);
    const written = c.put(head, 'k', 'v3');
    c.show(next, ...rest);
    c.pass(timing.heartbeatMs * 2);
    t.match(c.writes.get(lost), { reason: 'OUTCOME_UNKNOWN' }, 'the old head cut it');
    t.match(c.writes.get(written), { type: 'committed' });
    const tails = ['a', 'b', 'c'].filter((id) => c.node(id).state.authority);
    t.same(tails, [order.at(-1)], 'the old tail has no authority any more');
    for (const id of ['a', 'b', 'c']) t.equal(c.readOf(c.get(id, 'k')), 'v3', id);
  });
}

t.test(
  'R11: what a new link says first of the syncs above goes down the chain, though no block comes with it',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b c'));
    const [a, b] = [c.node('a'), c.node('b')];
    c.slowDisks.add('a');
    const w = c.put('a', 'k', 'v');
    const [block] = a.log;
    if (block === undefined || a.feed === undefined) throw new Error('it was not written');
    // The block goes ahead of the sync.
    a.feed.after = block.end;
    const message = downMessage(a.state);
    c.give('b', { type: 'PredecessorSaid', message, blocks: [block], chunks: [], now: c.now });
    c.run();
    t.equal(c.node('c').state.ledger.synced.index, 1);
    // That it is synced is lost with the link.
    c.hold = (p) => p.from === 'a' && p.to === 'b';
    c.sync('a');
    c.run();
    c.held.splice(0);
    c.hold = () => false;
    c.slowDisks.clear();
    t.equal(c.writeOf(w), 'waits');
    c.give('a', { type: 'DownLinkClosed', link: a.feed.link, now: c.now });
    c.give('b', { type: 'UpLinkClosed', session: b.state.up?.session ?? 0, now: c.now });
    c.pass(timing.heartbeatMs);
    t.equal(c.writeOf(w), 'committed 1');
  },
);

t.test('what was asked for before a suspension was noticed is no lease after it', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1');
  c.hold = (p) => p.text === 'promiseGrant' && p.to === 'a';
  c.pass(timing.heartbeatMs * 2);
  const before = c.held.splice(0);
  t.ok(before.length > 0);
  c.now += 5;
  c.give('a', { type: 'Ticked', now: c.now, wall: Math.floor(c.now) + 3_600_000 });
  c.run();
  for (const p of before) c.give(p.to, p.input(c.now));
  const read = c.get('a', 'k');
  t.equal(c.readOf(read), 'waits', 'nobody knows how long it was away');
  c.release();
  c.pass(timing.heartbeatMs * 2);
  t.equal(c.readOf(read), 'v1', 'what it asks for from then on counts');
});

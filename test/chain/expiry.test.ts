import t from 'tap';
import {
  crowdedSilenceMs,
  expiredInEntryMax,
  expiryMs,
  sessionSilenceMs,
  sessionsMax,
} from '../../src/chain/limits.js';
import { PureCluster, view } from './pure-cluster.js';

/** The wall clock of `id` is ahead of the monotonic one by so much, at a tick that looks for silent clients. */
function tick(c: PureCluster, id: string, aheadMs: number): void {
  c.now += expiryMs;
  c.give(id, { type: 'Ticked', now: c.now, wall: Math.floor(c.now) + aheadMs });
  c.run();
}

function clientId(number: number): Uint8Array {
  const id = Buffer.alloc(16);
  id.writeUInt32BE(number);
  return id;
}

const request = (client: number, seq = 1) => ({
  clientId: clientId(client),
  seq,
  answeredBelow: 1,
});

t.test(
  'a client that was silent for an hour is forgotten at every node, and refused',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b'));
    c.put('a', 'k', 'v1', request(1));
    tick(c, 'a', sessionSilenceMs - 2 * expiryMs);
    t.equal(c.node('a').state.ledger.sessions.size, 1, 'not yet');
    tick(c, 'a', sessionSilenceMs);
    for (const id of ['a', 'b']) {
      t.equal(c.node(id).state.ledger.sessions.size, 0, `no session at ${id}`);
      t.equal(c.node(id).state.ledger.expired.size, 1, `known as expired at ${id}`);
    }
    t.equal(
      c.writeOf(c.put('a', 'k', 'v1', request(1))),
      'SESSION_EXPIRED',
      'it does not run again',
    );
  },
);

t.test('a chain that always has writes under way forgets silent clients too', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1', request(1));
  c.slowDisks.add('b');
  const write = c.put('a', 'k', 'v2', request(2));
  tick(c, 'a', sessionSilenceMs);
  tick(c, 'a', sessionSilenceMs);
  const { staged } = c.node('a').state.ledger;
  t.same(
    staged.map(({ entries }) => entries.map(({ record }) => record.$case)),
    [['put'], ['sessionsExpired']],
    'one entry names it, however often the head looks',
  );
  c.sync('b');
  c.run();
  t.equal(c.writeOf(write), 'committed 2');
  t.same([...c.node('b').state.ledger.sessions.keys()].length, 1, 'who wrote just now stays');
});

t.test(
  'of too many clients those go that were silent longest, none that may still be trying',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a'));
    const excess = expiredInEntryMax + 10;
    let token = 1_000_000;
    const write = (from: number, to: number): void => {
      const writes = Array.from({ length: to - from }, (_, i) => ({
        token: token++,
        operation: { type: 'put' as const, key: clientId(from + i), value: Buffer.from('v') },
        request: request(from + i),
        trace: new Uint8Array(0),
        deadline: c.now + 5_000,
        stored: undefined,
      }));
      c.give('a', { type: 'WritesReceived', writes, now: c.now, wall: Math.floor(c.now) });
    };
    const { ledger } = c.node('a').state;
    write(0, excess);
    c.now += 1;
    for (let n = excess; n < sessionsMax + excess; n += 8_192) {
      write(n, Math.min(n + 8_192, sessionsMax + excess));
    }
    t.equal(ledger.sessions.size, sessionsMax + excess);
    tick(c, 'a', 0);
    t.equal(ledger.sessions.size, sessionsMax + excess, 'all were heard just now');
    tick(c, 'a', crowdedSilenceMs);
    t.equal(ledger.sessions.size, sessionsMax + 10, 'as many as one entry names');
    c.give('a', { type: 'Ticked', now: c.now, wall: Math.floor(c.now) + crowdedSilenceMs });
    t.equal(ledger.sessions.size, sessionsMax, 'the others at the next tick');
    t.notOk(ledger.expired.has(Buffer.from(clientId(excess)).toString('latin1')));
    tick(c, 'a', crowdedSilenceMs);
    t.equal(ledger.sessions.size, sessionsMax, 'no more than that');
  },
);

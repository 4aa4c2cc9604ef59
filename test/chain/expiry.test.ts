import t from 'tap';
import { fromMapKey, toMapKey } from '../../src/base/bytes.js';
import {
  commitThrough,
  emptyLedger,
  type StoreChanges,
  sortExpired,
  stageBlock,
} from '../../src/chain/fold.js';
import {
  crowdedSilenceMs,
  expiredInEntryMax,
  expiredSessionsMax,
  expiryMs,
  sessionSilenceMs,
  sessionsMax,
} from '../../src/chain/limits.js';
import { rememberSession } from '../../src/chain/node-store.js';
import { ChainRecord, type EntryId, SessionRecord } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { sessionKey } from '../../src/log/keys.js';
import { PureCluster, promise, view } from './pure-cluster.js';

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

function expiryBlock(previous: EntryId, at: number, clientIds: readonly Uint8Array[]): LogBlock {
  const record = { $case: 'sessionsExpired' as const, value: { clientIds: [...clientIds] } };
  const payload = ChainRecord.encode({ record }).finish();
  const entry = {
    generation: 1,
    index: previous.index + 1,
    at,
    request: undefined,
    trace: new Uint8Array(0),
    payload,
    checksum: payloadChecksum(payload),
    isGroup: false,
  };
  return encodeBlock({ chainId: 1, previous, entries: [entry] });
}

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

t.test('a write that comes after the expiry of its client was staged is refused', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1', request(1));
  c.slowDisks.add('b');
  tick(c, 'a', sessionSilenceMs);
  t.equal(c.writeOf(c.put('a', 'k', 'v2', request(1, 2))), 'SESSION_EXPIRED');
  t.equal(c.writeOf(c.put('a', 'k', 'v1', request(1))), 'committed 1', 'its outcome is known yet');
  c.sync('b');
  c.run();
  t.equal(c.node('b').state.ledger.sessions.size, 0);
  t.equal(c.node('a').objects.get(toMapKey(Buffer.from('k')))?.version, 1);
});

t.test('an expiry that is cut with its entry never was', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1', request(1));
  c.hold = (p) => p.from === 'a' && p.text === 'blocks';
  tick(c, 'a', sessionSilenceMs);
  t.equal(c.node('a').state.ledger.expiring.size, 1);
  c.show(view(2, 'b c a'), 'a', 'b', 'c');
  c.pass(2 * promise);
  const { ledger } = c.node('a').state;
  t.same([ledger.expiring.size, ledger.expired.size, ledger.sessions.size], [0, 0, 1]);
});

t.test(
  'no more expiries are remembered than a bound, in memory, in the store and after a start',
  async (t) => {
    const ledger = emptyLedger();
    const records = new Map<string, SessionRecord>();
    const changes: StoreChanges = {
      object: () => undefined,
      outcome: () => undefined,
      session: (id, record) => {
        if (record === undefined) records.delete(id);
        else records.set(id, record);
      },
    };
    const each = 8_192;
    // Later ones have smaller ids: the order of the keys is not the order of time.
    for (let n = 0; n < expiredSessionsMax + 2 * each; n += each) {
      const clientIds = Array.from({ length: each }, (_, i) => clientId(1_000_000 - n - each + i));
      stageBlock(ledger, expiryBlock(ledger.last, n + 1, clientIds));
      commitThrough(ledger, ledger.last, changes);
    }
    t.equal(ledger.expired.size, expiredSessionsMax);
    t.equal(records.size, expiredSessionsMax);
    t.notOk(ledger.expired.has(toMapKey(clientId(1_000_000 - each))), 'the oldest is forgotten');
    const started = emptyLedger();
    for (const [id, record] of [...records].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const value = SessionRecord.encode(record).finish();
      rememberSession(started, sessionKey(fromMapKey(id)), value);
    }
    sortExpired(started);
    t.equal(started.sessions.size, 0);
    t.same([...started.expired.keys()], [...ledger.expired.keys()], 'oldest first, as before');
  },
);

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

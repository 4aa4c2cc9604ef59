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
  looksInSilence,
  marksInSilence,
  sessionSilenceMs,
  sessionsMax,
} from '../../src/chain/limits.js';
import { rememberSession } from '../../src/chain/node-store.js';
import {
  ChainRecord,
  type EntryId,
  Outcome,
  SessionRecord,
} from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { outcomeKey, sessionKey } from '../../src/log/keys.js';
import { PureCluster, promise, view } from './pure-cluster.js';

const lookMs = sessionSilenceMs / looksInSilence;
/** A head notices a silence up to so much later. */
const lateMs = sessionSilenceMs / marksInSilence + lookMs;

/** Time passes at `id`, with ticks that look for silent clients. */
function pass(c: PureCluster, id: string, milliseconds: number): void {
  for (let left = milliseconds; left > 0; left -= lookMs) {
    c.now += Math.min(left, lookMs);
    c.give(id, { type: 'Ticked', now: c.now, wall: c.wall });
    c.run();
  }
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
    pass(c, 'a', sessionSilenceMs - 1);
    t.equal(c.node('a').state.ledger.sessions.size, 1, 'not yet');
    pass(c, 'a', lateMs);
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

t.test(
  'a wall clock that is set ahead expires nobody: a repeated request has its recorded outcome',
  async (t) => {
    const c = new PureCluster();
    c.serve(view(1, 'a b'));
    c.put('a', 'k', 'v1', request(1));
    c.wallAheadMs = sessionSilenceMs;
    pass(c, 'a', 2 * lateMs);
    c.wallAheadMs = 24 * sessionSilenceMs;
    pass(c, 'a', 2 * lateMs);
    t.equal(c.writeOf(c.put('a', 'k', 'v1', request(1))), 'committed 1');
    t.equal(c.node('b').objects.get(toMapKey(Buffer.from('k')))?.version, 1, 'it ran once');
  },
);

t.test('a write from a time when the wall clock was ten years ahead expires as any', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1', request(1));
  c.wallAheadMs = 10 * 365 * 24 * 3_600_000;
  c.put('a', 'k', 'v2', request(2));
  c.wallAheadMs = 0;
  pass(c, 'a', sessionSilenceMs / 2);
  c.put('a', 'k', 'v3', request(3));
  pass(c, 'a', sessionSilenceMs / 2 + lateMs);
  for (const id of ['a', 'b']) {
    const { sessions, expired } = c.node(id).state.ledger;
    t.same([...sessions.keys()], [toMapKey(clientId(3))], `who wrote within the hour, at ${id}`);
    t.equal(expired.size, 2);
  }
});

t.test('a new head waits a whole silence before it expires anybody', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1', request(1));
  pass(c, 'a', sessionSilenceMs - 2 * lateMs);
  for (const [epoch, members] of [
    [2, 'b a'],
    [3, 'a b'],
  ] as const) {
    const head = members.slice(0, 1);
    c.show(view(epoch, members), 'a', 'b');
    c.pass(2 * promise);
    t.equal(c.node(head).state.active?.epoch, epoch);
    pass(c, head, sessionSilenceMs - 2 * promise - 1);
    t.equal(c.node(head).state.ledger.sessions.size, 1, `not yet in epoch ${epoch}`);
  }
  pass(c, 'a', 2 * promise + lateMs);
  t.equal(c.node('b').state.ledger.sessions.size, 0);
});

t.test('a head that stays one in another view knows what it has seen', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b c'));
  c.put('a', 'k', 'v1', request(1));
  pass(c, 'a', sessionSilenceMs - lateMs);
  c.show(view(2, 'a c'), 'a', 'b', 'c');
  c.pass(2 * promise);
  pass(c, 'a', 2 * lateMs);
  t.equal(c.node('c').state.ledger.sessions.size, 0);
});

t.test('marks of what was committed are as many as a silence has, however long it goes', (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a'));
  pass(c, 'a', 3 * sessionSilenceMs);
  const { marks } = c.node('a').state.silence;
  t.ok(marks.length <= marksInSilence + 2, `${marks.length} marks`);
  t.ok((marks[0]?.now ?? c.now) <= c.now - sessionSilenceMs, 'one of them is old enough');
  t.end();
});

t.test('a start knows the newest outcome of a client, whatever the order of its numbers', (t) => {
  const ledger = emptyLedger();
  const remembered = (seq: number, revision: number): void => {
    const value = Outcome.encode({ revision, generation: 1, existed: false }).finish();
    rememberSession(ledger, outcomeKey(clientId(1), seq), value);
  };
  remembered(1, 7);
  remembered(2, 5);
  t.equal(ledger.sessions.get(toMapKey(clientId(1)))?.lastRevision, 7);
  t.end();
});

t.test('a chain that always has writes under way forgets silent clients too', async (t) => {
  const c = new PureCluster();
  c.serve(view(1, 'a b'));
  c.put('a', 'k', 'v1', request(1));
  c.slowDisks.add('b');
  const write = c.put('a', 'k', 'v2', request(2));
  pass(c, 'a', sessionSilenceMs + 2 * lateMs);
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
  pass(c, 'a', sessionSilenceMs + lateMs);
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
  pass(c, 'a', sessionSilenceMs + lateMs);
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
      c.give('a', { type: 'WritesReceived', writes, now: c.now, wall: c.wall });
    };
    const { ledger } = c.node('a').state;
    write(0, excess);
    pass(c, 'a', lookMs);
    for (let n = excess; n < sessionsMax + excess; n += 8_192) {
      write(n, Math.min(n + 8_192, sessionsMax + excess));
    }
    t.equal(ledger.sessions.size, sessionsMax + excess);
    c.wallAheadMs = sessionSilenceMs;
    pass(c, 'a', crowdedSilenceMs - lookMs - 1);
    t.equal(ledger.sessions.size, sessionsMax + excess, 'all may still be trying');
    for (let ticks = 0; ledger.expired.size === 0 && ticks < 10; ticks += 1) pass(c, 'a', lookMs);
    t.equal(ledger.sessions.size, sessionsMax + 10, 'as many as one entry names');
    pass(c, 'a', 1);
    t.equal(ledger.sessions.size, sessionsMax, 'the others at the next tick');
    const writers = Array.from({ length: excess }, (_, i) => toMapKey(clientId(i)));
    t.ok(
      writers.every((client) => ledger.expired.has(client)),
      'those who wrote first',
    );
    pass(c, 'a', crowdedSilenceMs);
    t.equal(ledger.sessions.size, sessionsMax, 'no more than that');
  },
);

import t from 'tap';
import type { KeyValue } from '../../src/chain/messages.js';
import type { Session } from '../../src/chain/state.js';
import { objectDigest, StateHash } from '../../src/chain/state-hash.js';

/* The hash of a state: the same for the same state, whatever led to it, and another for any other. */

const key = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const object: KeyValue = { value: key('v'), createRevision: 1, modRevision: 2, version: 2 };
const session = (answeredBelow: number, revision: number, existed = false): Session => ({
  outcomes: new Map([[5, { revision, generation: 1, existed }]]),
  staged: new Map(),
  answeredBelow,
  lastRevision: revision,
  lastAt: 1,
});
const watermark = { generation: 1, index: 9 };
const none = new Map<string, Session>();

function hashOf(
  objects: readonly (readonly [string, KeyValue])[],
  sessions: ReadonlyMap<string, Session> = none,
  at = watermark,
): string {
  const hash = new StateHash();
  for (const [name, found] of objects) hash.add(objectDigest(key(name), found));
  return hash.with({ watermark: at, sessions: new Map(sessions) });
}

t.test('the order in which objects came doesn’t matter, nor what came and went', async (t) => {
  const a = ['a', object] as const;
  const b = ['b', { ...object, value: key('w') }] as const;
  t.equal(hashOf([a, b]), hashOf([b, a]));
  const hash = new StateHash();
  const gone = objectDigest(key('gone'), object);
  hash.add(gone);
  hash.add(objectDigest(key('a'), object));
  hash.remove(gone);
  const copy = new StateHash();
  copy.addAll(hash);
  t.equal(hash.with({ watermark, sessions: none }), hashOf([a]));
  t.equal(copy.with({ watermark, sessions: none }), hashOf([a]));
});

t.test('anything that differs shows', async (t) => {
  const client = '\x01'.repeat(16);
  const states = [
    hashOf([]),
    hashOf([['a', object]]),
    hashOf([
      ['a', object],
      ['a', object],
    ]),
    hashOf([['av', { ...object, value: key('') }]]),
    hashOf([['b', object]]),
    hashOf([['a', { ...object, value: key('w') }]]),
    hashOf([['a', { ...object, createRevision: 2 }]]),
    hashOf([['a', { ...object, modRevision: 3 }]]),
    hashOf([['a', { ...object, version: 1 }]]),
    hashOf([['a', object]], none, { generation: 2, index: 9 }),
    hashOf([['a', object]], none, { generation: 1, index: 10 }),
    hashOf([['a', object]], new Map([[client, session(1, 3)]])),
    hashOf([['a', object]], new Map([[client, session(2, 3)]])),
    hashOf([['a', object]], new Map([[client, session(1, 4)]])),
    hashOf([['a', object]], new Map([[client, session(1, 3, true)]])),
    hashOf([['a', object]], new Map([['\x02'.repeat(16), session(1, 3)]])),
  ];
  t.equal(new Set(states).size, states.length);
  t.equal(
    hashOf([], new Map([[client, session(6, 3)]])),
    hashOf([], new Map([[client, { ...session(6, 3), outcomes: new Map() }]])),
    'an outcome below the window may be left over',
  );
});

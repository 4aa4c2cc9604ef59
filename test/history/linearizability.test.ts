import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SeededRandom } from '../sim/schedule.js';
import { formatOperation, parseHistory } from './file.js';
import { checkHistory } from './linearizability.js';
import type { HistoryOperation } from './operation.js';

const first = Number(process.env['KEYCHAINDB_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/** `put x 1-3 a`: from 1 to 3; `1-`: its outcome is unknown; `get x 1-3 -`: absent; `@7`: revision 7. */
function op(text: string): HistoryOperation {
  const [process = '', operation = '', time = '', ...rest] = text.split(' ');
  const [start = '', end = ''] = time.split('-');
  const at = rest.find((word) => word.startsWith('@'));
  const value = rest.find((word) => !word.startsWith('@'));
  const read = value === '-' ? null : value;
  const output = {
    ...(operation === 'get' && read !== undefined ? { value: read } : undefined),
    ...(at === undefined ? undefined : { revision: Number(at.slice(1)) }),
  };
  return {
    process,
    operation: operation as HistoryOperation['operation'],
    key: 'k',
    start: Number(start),
    ...(end === '' ? undefined : { end: Number(end) }),
    ...(operation === 'put' ? { input: value ?? '' } : undefined),
    output,
  };
}

const history = (...lines: string[]): HistoryOperation[] => lines.map(op);

/** What each history is, and why. */
const known: readonly (readonly [string, boolean, readonly string[]])[] = [
  ['nothing', true, []],
  ['an absent key is absent', true, ['a get 1-2 -']],
  ['a read sees the write before it', true, ['a put 1-2 x', 'b get 3-4 x']],
  ['a stale read', false, ['a put 1-2 x', 'a put 3-4 y', 'b get 5-6 x']],
  ['an acknowledged write is lost', false, ['a put 1-2 x', 'b get 3-4 -']],
  ['a value that nobody wrote', false, ['a put 1-2 x', 'b get 3-4 z']],
  ['a read of what is under way may see it', true, ['a put 1-9 x', 'b get 2-3 x', 'b get 4-5 x']],
  ['or not yet', true, ['a put 1-9 x', 'b get 2-3 -', 'b get 4-5 x']],
  [
    'but not the new one and then the old one',
    false,
    ['a put 1-9 x', 'b get 2-3 x', 'c get 4-5 -'],
  ],
  [
    'two writes at once are in one order for everybody',
    false,
    ['a put 1-9 x', 'b put 1-9 y', 'c get 10-11 x', 'c get 12-13 y'],
  ],
  ['concurrent reads may differ', true, ['a put 1-9 x', 'b get 2-8 -', 'c get 2-8 x']],
  ['what ends as another begins overlaps it', true, ['a put 1-2 x', 'b get 2-3 -']],
  ['deleted is absent', true, ['a put 1-2 x', 'a delete 3-4', 'b get 5-6 -']],
  ['what was deleted stays so', false, ['a put 1-2 x', 'a delete 3-4', 'b get 5-6 x']],
  ['an unknown write is never seen', true, ['a put 1- x', 'b get 3-4 -']],
  ['or late', true, ['a put 1- x', 'b get 3-4 -', 'b get 5-6 x']],
  ['but not taken back', false, ['a put 1- x', 'b get 3-4 x', 'b get 5-6 -']],
  ['nor before it was asked for', false, ['b get 1-2 x', 'a put 3- x']],
  [
    'an unknown delete may explain an absent key',
    true,
    ['a put 1-2 x', 'b delete 3-', 'c get 9-10 -'],
  ],
  ['an unknown write that the log has took effect', true, ['a put 1- x @4', 'b get 3-4 x @4']],
  [
    'and is not left out',
    false,
    ['a put 1- x @4', 'b put 5-6 y @9', 'c get 7-8 y @9', 'd put 9-10 z @3'],
  ],
  ['revisions rise', false, ['a put 1-2 x @5', 'a put 3-4 y @4']],
  ['a read shows the revision of the write', true, ['a put 1-2 x @5', 'b get 3-4 x @5']],
  ['and no other', false, ['a put 1-2 x @5', 'b get 3-4 x @6']],
  ['a read that was not answered says nothing', true, ['a put 1-2 x', 'b get 3-']],
  ['revisions rise over unknown ones', false, ['a put 1-2 x @5', 'a put 3-4 y', 'b get 5-6 y @4']],
  [
    'a write of unknown revision has the one that a read shows of it',
    false,
    ['a put 1-2 x', 'b get 3-4 x @5', 'b get 5-6 x @6'],
  ],
  [
    'and the writes after it a higher one',
    false,
    ['a put 1-2 x', 'b get 3-4 x @5', 'a put 5-6 y @4'],
  ],
  [
    'a read of the same value at another revision shows another write',
    true,
    ['a put 1-2 x @5', 'c put 1- x', 'b get 3-4 x @5', 'b get 5-6 x @6'],
  ],
  [
    'an unknown write has one place',
    false,
    ['a put 1- x', 'b get 2-3 x', 'c put 4-5 y', 'b get 6-7 x'],
  ],
  [
    'two of them have two',
    true,
    ['a put 1- x', 'd put 1- x', 'b get 2-3 x', 'c put 4-5 y', 'b get 6-7 x'],
  ],
  [
    'an unknown write that explains one read on one way is left for another on another way',
    true,
    ['r get 1-9 x', 'p put 2-9 x', 'u put 0- x', 'q put 2-9 y', 'v put 10-11 z', 't get 12-13 x'],
  ],
  ['the log has a write that nobody was answered', false, ['a put 5- x @4', 'b put 1-2 y @6']],
  ['though its revision was free', true, ['a put 5- x @7', 'b put 1-2 y @6', 'c get 6-7 y @6']],
  ['an absent key has nobody\u2019s revision', true, ['a delete 1-2 @5', 'b get 3-4 - @9']],
  ['a process sees what it wrote at the same moment', false, ['a put 1-2 x', 'a get 2-3 -']],
  ['and what it read at once, it read before', false, ['a get 2-2 x', 'a put 2-5 x']],
  ['the same value twice', true, ['a put 1-2 x', 'a put 3-4 y', 'a put 5-6 x', 'b get 7-8 x']],
];

for (const [name, isOk, lines] of known) {
  t.test(`${name}: ${isOk ? 'linearizable' : 'not'}`, async (t) => {
    const verdict = checkHistory(history(...lines));
    t.equal(verdict.ok, isOk);
    if (!verdict.ok) t.equal(verdict.kind, 'violation');
  });
}

t.test('keys are looked at alone', async (t) => {
  const other = { ...op('c get 3-4 -'), key: 'other' };
  t.ok(checkHistory([...history('a put 1-2 x'), other]).ok);
  const wrong = checkHistory([
    ...history('a put 1-2 x', 'b get 3-4 x'),
    { ...other, output: { value: 'x' } },
  ]);
  t.match(wrong, { ok: false, kind: 'violation', key: 'other' });
});

t.test('a history that is none is malformed', async (t) => {
  const cases: readonly (readonly [string, readonly HistoryOperation[]])[] = [
    ['ends before it starts', history('a put 3-2 x')],
    ['one operation at a time', history('a put 1-5 x', 'a put 2-3 y')],
    ['not used again', history('a put 1- x', 'a put 2-3 y')],
    ['has its value as input', [{ process: 'a', operation: 'put', key: 'k', start: 1, end: 2 }]],
    ['has a value, or null', [{ process: 'a', operation: 'get', key: 'k', start: 1, end: 2 }]],
    ['numbers of milliseconds', [{ ...op('a put 1-2 x'), start: Number.NaN }]],
    ['numbers of milliseconds', [{ ...op('a put 1-2 x'), end: Number.POSITIVE_INFINITY }]],
    ['whole number', history('a put 1-2 x @0.5')],
  ];
  for (const [message, operations] of cases) {
    const verdict = checkHistory(operations);
    t.match(verdict, { ok: false, kind: 'malformed', message: new RegExp(message) });
  }
});

interface Held {
  readonly value: string | null;
  readonly revision: number | undefined;
  readonly highest: number;
}

/** What a key holds after an operation, by the definition alone; undefined: it would have answered otherwise. */
function heldAfter(held: Held, { operation, input, output }: HistoryOperation): Held | undefined {
  const revision = output?.revision;
  if (operation === 'get') {
    if (output?.value !== held.value) return undefined;
    if (held.value === null || revision === undefined || revision === held.revision) return held;
    const isLearned = held.revision === undefined && revision > held.highest;
    return isLearned ? { ...held, revision, highest: revision } : undefined;
  }
  if (revision !== undefined && revision <= held.highest) return undefined;
  const value = operation === 'put' ? (input ?? '') : null;
  return { value, revision, highest: revision ?? held.highest };
}

function isRequired({ end, output }: HistoryOperation): boolean {
  return end !== undefined || output?.revision !== undefined;
}

function precedes(a: HistoryOperation, b: HistoryOperation): boolean {
  if (a.end === undefined) return false;
  if (a.end < b.start) return true;
  const isTie = a.process === b.process && a.end === b.start;
  return isTie && (a.start < b.start || b.end === undefined || a.end < b.end);
}

/** Every order of every choice of what is unknown: the definition itself. */
function isExplained(operations: readonly HistoryOperation[]): boolean {
  const go = (held: Held, left: readonly HistoryOperation[]): boolean => {
    if (!left.some(isRequired)) return true;
    return left.some((next) => {
      const others = left.filter((other) => other !== next);
      if (others.some((other) => precedes(other, next))) return false;
      const after = heldAfter(held, next);
      return after !== undefined && go(after, others);
    });
  };
  const asked = operations.filter((o) => o.operation !== 'get' || o.end !== undefined);
  return go({ value: null, revision: undefined, highest: -1 }, asked);
}

/** What had been asked and answered at a moment. */
function prefixOf(operations: readonly HistoryOperation[], until: number): HistoryOperation[] {
  return operations
    .filter(({ start }) => start <= until)
    .map(({ end, ...open }) => (end !== undefined && end <= until ? { ...open, end } : open));
}

/** Few values, whole times: much is equal. */
function smallHistory(random: SeededRandom): HistoryOperation[] {
  const count = 1 + random.int(7);
  const values = random.pick([['x'], ['x', 'y'], ['x', 'y', 'z']]);
  const revisions = random.pick([0, 0.3, 0.9]);
  const unknowns = random.pick([0, 0.25, 0.5]);
  const free = new Map<string, number>();
  return Array.from({ length: count }, (_, i) => {
    const operation = random.pick(['get', 'get', 'put', 'put', 'delete'] as const);
    const shared = `s${random.int(3)}`;
    const process = free.get(shared) === Number.POSITIVE_INFINITY ? `p${i}` : shared;
    const start = Math.max(free.get(process) ?? 0, random.int(10));
    const end = random.chance(unknowns) ? undefined : start + random.int(6);
    free.set(process, end ?? Number.POSITIVE_INFINITY);
    const value = random.pick(values);
    const revision = random.chance(revisions) ? { revision: 1 + random.int(5) } : undefined;
    const shown = operation === 'get' ? { value: random.chance(0.3) ? null : value } : undefined;
    return {
      process,
      operation,
      key: 'k',
      start,
      ...(end === undefined ? undefined : { end }),
      ...(operation === 'put' ? { input: value } : undefined),
      output: { ...shown, ...revision },
    };
  });
}

/** What a register answers, some of it not known, and often one answer of it changed. */
function nearlyRight(random: SeededRandom): HistoryOperation[] {
  const told = realHistory(random, { count: 2 + random.int(6), processes: 4, keys: 1 });
  const knownRevisions = random.pick([0, 0.5, 1]);
  const half = told.map((o, i): HistoryOperation => {
    const { end, output, ...asked } = o;
    const value = output?.value === undefined ? undefined : { value: output.value };
    const isLast = told.slice(i + 1).every(({ process }) => process !== o.process);
    const isOpen = isLast && random.chance(0.5);
    return {
      ...asked,
      ...(isOpen || end === undefined ? undefined : { end }),
      output: random.chance(knownRevisions) ? { ...output } : { ...value },
    };
  });
  if (random.chance(0.3)) return half;
  const changed = random.int(half.length);
  const values = half.flatMap(({ input }) => input ?? []);
  return half.map((o, i) => {
    if (i !== changed) return o;
    if (o.operation !== 'get') return { ...o, output: { revision: random.int(half.length + 2) } };
    return { ...o, output: { ...o.output, value: random.pick([null, ...values]) } };
  });
}

for (const [name, make, count] of [
  ['random small histories', smallHistory, 6_000],
  ['small histories that are nearly right', nearlyRight, 3_000],
] as const) {
  t.test(`${name}: the same verdict as trying every order`, async (t) => {
    t.comment(`KEYCHAINDB_SEED=${first}`);
    let linearizable = 0;
    for (let seed = first; seed < first + count; seed += 1) {
      const operations = make(new SeededRandom(seed));
      const expected = isExplained(operations);
      if (expected) linearizable += 1;
      const verdict = checkHistory(operations);
      if (verdict.ok === expected && (verdict.ok || verdict.kind === 'violation')) continue;
      t.fail(`KEYCHAINDB_SEED=${seed}`, { operations, expected, verdict });
      return;
    }
    const part = linearizable / count;
    t.ok(part > 0.1 && part < 0.95, `${linearizable} of ${count} are linearizable`);
  });
}

t.test('what is shown is the shortest prefix that no order explains', async (t) => {
  t.comment(`KEYCHAINDB_SEED=${first}`);
  for (let seed = first; seed < first + 1_500; seed += 1) {
    const operations = smallHistory(new SeededRandom(seed));
    const verdict = checkHistory(operations);
    if (verdict.ok) continue;
    const ends = operations.flatMap(({ end }) => end ?? []).sort((a, b) => a - b);
    const until = ends.find((end) => !isExplained(prefixOf(operations, end)));
    const expected = operations.filter(({ start }) => start <= (until ?? Number.POSITIVE_INFINITY));
    const isSame =
      verdict.operations.length === expected.length &&
      expected.every((operation) => verdict.operations.includes(operation));
    if (isSame) continue;
    t.fail(`KEYCHAINDB_SEED=${seed}`, { operations, expected, verdict });
    return;
  }
});

t.test(
  'of a long history the end of the prefix is shown, and who wrote what it shows',
  async (t) => {
    const writes = Array.from({ length: 100 }, (_, i) => op(`a put ${i}-${i} v${i}`));
    const stale = op('b get 200-201 v7');
    const verdict = checkHistory([op('c get 300-301 v99'), stale, ...writes]);
    t.match(verdict, { ok: false, kind: 'violation', message: /first 101 of 102 .* until 201 ms/ });
    const shown = verdict.ok ? [] : verdict.operations;
    t.equal(shown[0], writes[7]);
    t.equal(shown.at(-1), stale);
    t.equal(shown.length, 25);
  },
);

interface Shape {
  readonly count: number;
  readonly processes: number;
  readonly keys: number;
}

/** What clients of a real register see. */
function realHistory(random: SeededRandom, { count, processes, keys }: Shape): HistoryOperation[] {
  const free = Array.from({ length: processes }, () => 0);
  const values = new Map<string, { readonly value: string; readonly revision: number }>();
  const begun = Array.from({ length: count }, (_, i) => {
    const process = i % processes;
    const start = (free[process] ?? 0) + random.float();
    const effect = start + random.float();
    const end = effect + random.float();
    free[process] = end + 0.001;
    const key = `key-${random.int(keys)}`;
    const isPut = random.chance(0.5);
    return { process: `p${process}`, key, start, effect, end, value: `v${i}`, isPut };
  });
  begun.sort((a, b) => a.effect - b.effect);
  return begun.map(({ effect, value, isPut, ...asked }, i) => {
    const revision = i + 1;
    if (!isPut) {
      return { ...asked, operation: 'get', output: values.get(asked.key) ?? { value: null } };
    }
    values.set(asked.key, { value, revision });
    return { ...asked, operation: 'put', input: value, output: { revision } };
  });
}

function withoutRevisions(operations: readonly HistoryOperation[]): HistoryOperation[] {
  return operations.map((o) =>
    o.operation === 'get'
      ? { ...o, output: { value: o.output?.value ?? null } }
      : { ...o, output: {} },
  );
}

/** One read, late in the history, shows the value that the key had long before. */
function withStaleRead(operations: readonly HistoryOperation[]): HistoryOperation[] {
  const late = operations.findIndex(
    ({ operation }, i) => i > operations.length * 0.75 && operation === 'get',
  );
  const old = operations.find((o) => o.operation === 'put' && o.key === operations[late]?.key);
  const value = old?.input ?? null;
  return operations.map((o, i) => (i === late ? { ...o, output: { value } } : o));
}

for (const shape of [
  { count: 20_000, processes: 50, keys: 20 },
  { count: 30_000, processes: 10, keys: 200 },
  { count: 10_000, processes: 12, keys: 1 },
]) {
  const { count, processes, keys } = shape;
  t.test(`${count} operations of ${processes} processes on ${keys} keys`, async (t) => {
    t.comment(`KEYCHAINDB_SEED=${first}`);
    const operations = realHistory(new SeededRandom(first), shape);
    const bare = withoutRevisions(operations);
    t.match(checkHistory(operations), { ok: true, operations: count });
    t.match(checkHistory(bare), { ok: true }, 'also where no revisions are known');
    t.match(checkHistory(withStaleRead(operations)), { ok: false, kind: 'violation' });
    t.match(checkHistory(withStaleRead(bare)), { ok: false, kind: 'violation' });
  });
}

t.test('many writes of unknown outcome', async (t) => {
  const unknown = Array.from({ length: 200 }, (_, i) => op(`u${i} put ${i}- v${i}`));
  t.ok(checkHistory([...unknown, op('r get 500-501 v7'), op('r get 502-503 v190')]).ok);
  t.notOk(checkHistory([...unknown, op('r get 100-101 v150')]).ok, 'read before it was written');
  const reads = unknown.map((_, i) => op(`r get ${500 + 2 * i}-${501 + 2 * i} v${(i * 7) % 200}`));
  const bounds = { stepsMax: 20_000 };
  t.match(checkHistory([...unknown, ...reads], bounds), { ok: true }, 'each of them is read once');
  const again = op('r get 1000-1001 v7');
  t.match(checkHistory([...unknown, ...reads, again], bounds), { ok: false, kind: 'violation' });
  const logged = unknown.map((o, i) => ({ ...o, output: { revision: 1 + ((i * 7) % 200) } }));
  t.match(checkHistory([...logged, op('r get 500-501 v0 @1')], bounds), { ok: true });
});

t.test('many writes at once', async (t) => {
  const writes = Array.from({ length: 40 }, (_, i) => op(`w${i} put 1-9 v${i}`));
  const bounds = { stepsMax: 20_000 };
  t.match(checkHistory([...writes, op('r get 10-11 v0')], bounds), { ok: true });
  t.match(checkHistory([...writes, op('r get 10-11 v0'), op('r get 12-13 v1')], bounds), {
    ok: false,
    kind: 'violation',
  });
  const revised = writes.map((o, i) => ({ ...o, output: { revision: 40 - i } }));
  t.match(checkHistory([...revised, op('r get 10-11 v0 @40')], bounds), { ok: true });
});

t.test('a history beyond the bound counts as failed, never as passed', async (t) => {
  const operations = realHistory(new SeededRandom(first), { count: 500, processes: 10, keys: 20 });
  t.match(checkHistory(operations, { stepsMax: 100 }), { ok: false, kind: 'bound' });
});

t.test('a history file is read as it was written', async (t) => {
  const operations = history('a put 1-2 x @5', 'b get 3-4 -', 'c delete 5-', 'd put 6- "\n');
  const lines = operations.map(formatOperation);
  t.same(parseHistory([...lines, '']), operations);
  const wrong: readonly (readonly [string, RegExp])[] = [
    ['{', /line 2: not JSON/],
    ['7', /line 2: not an object/],
    ['{"process":1}', /line 2: process/],
    ['{"process":"a","operation":"cas"}', /line 2: operation/],
    ['{"process":"a","operation":"get"}', /line 2: key/],
    ['{"process":"a","operation":"put","key":"k","input":7}', /line 2: input/],
    ['{"process":"a","operation":"get","key":"k","start":"1"}', /line 2: start/],
    ['{"process":"a","operation":"get","key":"k","start":1}', /line 2: end/],
    ['{"process":"a","operation":"get","key":"k","start":1,"end":2,"unknown":true}', /2: unknown/],
    ['{"process":"a","operation":"get","key":"k","start":1,"end":2,"output":7}', /2: output/],
    [
      '{"process":"a","operation":"put","key":"k","start":1,"end":2,"output":{"revision":"7"}}',
      /line 2: output.revision/,
    ],
    [
      '{"process":"a","operation":"get","key":"k","start":1,"end":2,"output":{"value":7}}',
      /output.value/,
    ],
  ];
  for (const [line, message] of wrong) {
    t.throws(() => parseHistory([lines[0] ?? '', line]), message);
  }
});

t.test('check-history says what a file is by its exit code', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'history-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const tool = fileURLToPath(new URL('../../tools/check-history.js', import.meta.url));
  const run = (name: string, lines: readonly string[]) => {
    const path = join(dir, name);
    writeFileSync(path, lines.join('\n'));
    return spawnSync(process.execPath, [tool, path], { encoding: 'utf8' });
  };
  const good = run('good', history('a put 1-2 x', 'b get 3-4 x').map(formatOperation));
  t.match(good, { status: 0, stdout: /2 operations on 1 keys: linearizable/ });
  const help = spawnSync(process.execPath, [tool, '--help'], { encoding: 'utf8' });
  t.match(help, { status: 0, stdout: /usage: check-history FILE/ });
  t.equal(spawnSync(process.execPath, [tool]).status, 2);
  t.equal(spawnSync(process.execPath, [tool, 'one', 'two']).status, 2);
  const input = formatOperation(op('a put 1-2 x'));
  const piped = spawnSync(process.execPath, [tool, '-'], { encoding: 'utf8', input });
  t.match(piped, { status: 0, stdout: /1 operations on 1 keys: linearizable/ });
  const bad = run('bad', history('a put 1-2 x', 'b get 3-4 -').map(formatOperation));
  t.match(bad, { status: 1, stdout: /violation at key k/ });
  t.match(run('none', ['hello']), { status: 2, stderr: /line 1: not JSON/ });
  t.equal(spawnSync(process.execPath, [tool, join(dir, 'missing')]).status, 2);
});

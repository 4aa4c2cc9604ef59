import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SeededRandom } from '../sim/schedule.js';
import { formatOperation, parseHistory } from './file.js';
import { applied, checkHistory } from './linearizability.js';
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
  ];
  for (const [message, operations] of cases) {
    const verdict = checkHistory(operations);
    t.match(verdict, { ok: false, kind: 'malformed', message: new RegExp(message) });
  }
});

/** Every order of every choice of what is unknown: the definition itself. */
function bruteForce(operations: readonly HistoryOperation[]): boolean {
  const relevant = operations.filter((o) => o.operation !== 'get' || o.end !== undefined);
  const isRequired = (o: HistoryOperation): boolean =>
    o.end !== undefined || o.output?.revision !== undefined;
  const orders = (
    state: Parameters<typeof applied>[0],
    left: readonly HistoryOperation[],
  ): boolean => {
    if (!left.some(isRequired)) return true;
    return left.some((next) => {
      const isFirst = left.every(
        (other) => !isRequired(other) || (other.end ?? Number.POSITIVE_INFINITY) >= next.start,
      );
      const after = isFirst ? applied(state, next) : undefined;
      return (
        after !== undefined &&
        orders(
          after,
          left.filter((other) => other !== next),
        )
      );
    });
  };
  return orders({ value: null, revision: undefined, highest: 0 }, relevant);
}

function smallHistory(random: SeededRandom): HistoryOperation[] {
  const count = 1 + random.int(7);
  return Array.from({ length: count }, (_, i) => {
    const operation = random.pick(['get', 'get', 'put', 'put', 'delete'] as const);
    const start = random.int(10);
    const isUnknown = random.chance(0.25);
    const value = random.pick(['x', 'y', 'z']);
    const revision = random.chance(0.3) ? { revision: 1 + random.int(5) } : undefined;
    const shown = operation === 'get' ? { value: random.chance(0.3) ? null : value } : undefined;
    return {
      process: `p${i}`,
      operation,
      key: 'k',
      start,
      ...(isUnknown ? undefined : { end: start + random.int(6) }),
      ...(operation === 'put' ? { input: value } : undefined),
      output: { ...shown, ...revision },
    };
  });
}

t.test('random small histories: the same verdict as trying every order', async (t) => {
  t.comment(`KEYCHAINDB_SEED=${first}`);
  let linearizable = 0;
  for (let seed = first; seed < first + 4_000; seed += 1) {
    const operations = smallHistory(new SeededRandom(seed));
    const expected = bruteForce(operations);
    if (expected) linearizable += 1;
    const verdict = checkHistory(operations);
    if (verdict.ok === expected) continue;
    t.fail(`KEYCHAINDB_SEED=${seed}`, { operations, expected, verdict });
    return;
  }
  t.ok(linearizable > 400 && linearizable < 3_600, `${linearizable} of 4000 are linearizable`);
});

/** What clients of a real register see. */
function realHistory(random: SeededRandom, count: number, processes: number): HistoryOperation[] {
  const free = Array.from({ length: processes }, () => 0);
  const values = new Map<string, { readonly value: string; readonly revision: number }>();
  const begun = Array.from({ length: count }, (_, i) => {
    const process = i % processes;
    const start = (free[process] ?? 0) + random.float();
    const effect = start + random.float();
    const end = effect + random.float();
    free[process] = end + 0.001;
    const key = `key-${random.int(20)}`;
    return {
      process: `p${process}`,
      key,
      start,
      effect,
      end,
      value: `v${i}`,
      isPut: random.chance(0.5),
    };
  });
  begun.sort((a, b) => a.effect - b.effect);
  return begun.map(({ process, key, start, end, value, isPut }, i) => {
    if (isPut) {
      values.set(key, { value, revision: i + 1 });
      return {
        process,
        operation: 'put',
        key,
        start,
        end,
        input: value,
        output: { revision: i + 1 },
      };
    }
    const output = values.get(key) ?? { value: null };
    return { process, operation: 'get', key, start, end, output };
  });
}

t.test('a long history with many at once is ordered; with one stale read it is not', async (t) => {
  const operations = realHistory(new SeededRandom(first), 20_000, 50);
  t.ok(checkHistory(operations).ok);
  const bare = operations.map((o) =>
    o.operation === 'get'
      ? { ...o, output: { value: o.output?.value ?? null } }
      : { ...o, output: {} },
  );
  t.ok(checkHistory(bare).ok, 'also where no revisions are known');
  const late = operations.findIndex((o, i) => i > 15_000 && o.operation === 'get');
  const stale = operations.map((o, i) => (i === late ? { ...o, output: { value: null } } : o));
  t.match(checkHistory(stale), { ok: false, kind: 'violation' });
});

t.test('many writes of unknown outcome', async (t) => {
  const unknown = Array.from({ length: 200 }, (_, i) => op(`u${i} put ${i}- v${i}`));
  t.ok(checkHistory([...unknown, op('r get 500-501 v7'), op('r get 502-503 v190')]).ok);
  t.notOk(checkHistory([...unknown, op('r get 100-101 v150')]).ok, 'read before it was written');
});

t.test('a history beyond the bound counts as failed, never as passed', async (t) => {
  const operations = realHistory(new SeededRandom(first), 500, 10);
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
    ['{"process":"a","operation":"get","key":"k","start":1}', /line 2: end/],
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
  const bad = run('bad', history('a put 1-2 x', 'b get 3-4 -').map(formatOperation));
  t.match(bad, { status: 1, stdout: /violation at key k/ });
  t.match(run('none', ['hello']), { status: 2, stderr: /line 1: not JSON/ });
  t.equal(spawnSync(process.execPath, [tool, join(dir, 'missing')]).status, 2);
});

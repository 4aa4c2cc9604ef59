import fc from 'fast-check';
import t from 'tap';
import {
  childContext,
  spanIdOf,
  traceIdNamed,
  writeNamed,
  writeTraceId,
} from '../../src/telemetry/span-ids.js';
import {
  contextOf,
  forced,
  formatTraceparent,
  isSampled,
  parentIdOf,
  parseTraceId,
  parseTraceparent,
  traceIdOf,
} from '../../src/telemetry/trace-context.js';
import { textOf } from '../../src/telemetry/write-spans.js';

const trace = '0af7651916cd43dd8448eb211c80319c';
const span = 'b7ad6b7169203331';
const random = { bytes: (n: number) => new Uint8Array(n).fill(7), float: () => 0.5 };

t.test('a traceparent is read and written as W3C says', async (t) => {
  const context = parseTraceparent(`00-${trace}-${span}-01`);
  t.equal(context.byteLength, 25);
  t.equal(traceIdOf(context), trace);
  t.equal(parentIdOf(context), span);
  t.ok(isSampled(context));
  t.equal(formatTraceparent(context), `00-${trace}-${span}-01`);
  t.notOk(isSampled(parseTraceparent(`00-${trace}-${span}-00`)));
  t.notOk(isSampled(parseTraceparent(`00-${trace}-${span}-fe`)), 'other flags are not ours');
  t.equal(traceIdOf(parseTraceparent(`cc-${trace}-${span}-01-more`)), trace, 'a newer version');
});

t.test('one that is malformed counts as absent', async (t) => {
  const wrong = [
    undefined,
    '',
    'nonsense',
    `00-${trace}-${span}`,
    `00-${trace}-${span}-01-more`,
    `ff-${trace}-${span}-01`,
    `00-${'0'.repeat(32)}-${span}-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${trace}-${span}-1`,
  ];
  for (const header of wrong) t.equal(parseTraceparent(header).byteLength, 0, String(header));
});

t.test('what is forced keeps its trace, or gets one', async (t) => {
  const given = forced(parseTraceparent(`00-${trace}-${span}-00`), random);
  t.equal(formatTraceparent(given), `00-${trace}-${span}-01`);
  const made = forced(new Uint8Array(0), random);
  t.equal(traceIdOf(made), '07'.repeat(16));
  t.equal(parentIdOf(made), '', 'no span caused it');
  t.ok(isSampled(made));
});

t.test('bytes of another length are no context', async (t) => {
  for (const length of [0, 1, 24, 26]) {
    const bytes = new Uint8Array(length).fill(1);
    t.notOk(isSampled(bytes));
    t.equal(traceIdOf(bytes), '');
    t.equal(parentIdOf(bytes), '');
  }
});

t.test('a trace id is 32 hexadecimal digits, not all zero', async (t) => {
  t.equal(parseTraceId(` ${trace.toUpperCase()}\n`), trace);
  for (const text of ['', '12', '0'.repeat(32), 'g'.repeat(32), `${trace}0`]) {
    t.equal(parseTraceId(text), undefined, text);
  }
});

t.test('the write that names a trace is found again from its id', async (t) => {
  const clusterId = new Uint8Array(16).map((_, i) => i * 13);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: 0, max: 2 ** 48 - 1 }),
      fc.maxSafeNat(),
      (chainId, generation, index) => {
        const name = { chainId, id: { generation, index } };
        const id = writeTraceId(clusterId, name);
        if (!/^[0-9a-f]{32}$/.test(id)) return false;
        return JSON.stringify(writeNamed(clusterId, id)) === JSON.stringify(name);
      },
    ),
  );
  t.pass();
});

t.test('ids of neighbours and of other clusters have nothing in common', async (t) => {
  const seen = new Set<string>();
  for (const cluster of [
    new Uint8Array(16),
    new Uint8Array(16).fill(1),
    new Uint8Array(16).fill(9),
  ]) {
    for (let index = 1; index <= 1_000; index += 1) {
      seen.add(writeTraceId(cluster, { chainId: 1, id: { generation: 5, index } }).slice(16));
    }
  }
  t.equal(seen.size, 3_000);
  const spans = new Set<string>();
  for (let index = 1; index <= 20_000; index += 1) {
    spans.add(spanIdOf(trace, 5, index, 'node-1', 'hop'));
    spans.add(spanIdOf(trace, 5, index, 'node-2', 'hop'));
  }
  t.equal(spans.size, 40_000);
  t.match(traceIdNamed('view', 1), /^[0-9a-f]{32}$/);
});

t.test('a child belongs to the trace of its parent and is recorded like it', async (t) => {
  const context = contextOf(trace, span, true);
  const child = childContext(context, 'route', 1);
  t.equal(traceIdOf(child), trace);
  t.ok(isSampled(child));
  t.not(parentIdOf(child), span);
  t.not(parentIdOf(child), parentIdOf(childContext(context, 'route', 2)));
});

t.test('keys and values show as text where they are, cut between characters', async (t) => {
  t.equal(textOf(Buffer.from('grün'), 64), 'grün');
  t.equal(textOf(Buffer.from('grün'), 3), 'gr…');
  t.equal(textOf(new Uint8Array([0xff, 0]), 64), '0xff00');
  t.equal(textOf(new Uint8Array(0), 64), '');
});

import t from 'tap';
import { jaegerJson } from '../../src/telemetry/jaeger-json.js';
import { type Span, SpanKind, spanOf } from '../../src/telemetry/span.js';
import { timeOf, waterfall } from '../../src/telemetry/waterfall.js';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const origin = 1_700_000_000_000_000;

function span(
  spanId: string,
  parentId: string,
  name: string,
  instance: string,
  fromUs: number,
  forUs: number,
  rest: Partial<Span> = {},
): Span {
  const service = `keychaindb-${instance.split('-')[0]}`;
  return {
    ...spanOf(
      { service, instance },
      {
        traceId,
        spanId,
        parentId,
        name,
        kind: SpanKind.INTERNAL,
        startUs: origin + fromUs,
        endUs: origin + fromUs + forUs,
        attributes: {},
      },
    ),
    ...rest,
  };
}

const putGolden = `trace ${traceId}  2.40 ms, 5 spans of 4 processes
keychaindb.v1.KV/Put  proxy-1     +0 µs  2.40 ms  ███████████████████████████████
└─ chain.write        node-1    +300 µs  1.90 ms     █████████████████████████▍  epoch=7
   ├─ rocksdb.write   node-1    +310 µs   290 µs      ███▊
   └─ chain.apply     node-2    +800 µs   900 µs            ███████████▉
      └─ chain.apply  node-3   +1.20 ms     0 µs                 ▌  ✗ lost
`;

const write: readonly Span[] = [
  span('04', '03', 'chain.apply', 'node-2', 800, 900),
  span('01', '', 'keychaindb.v1.KV/Put', 'proxy-1', 0, 2_400),
  span('02', '01', 'chain.write', 'node-1', 300, 1_900),
  span('05', '02', 'rocksdb.write', 'node-1', 310, 290),
  span('03', '02', 'chain.forward', 'node-1', 700, 1_000),
  span('06', '04', 'chain.commit', 'node-2', 1_500, 0),
];

t.test('a write is drawn depth first, by time, to scale', async (t) => {
  t.equal(
    waterfall(write, { width: 90 }),
    `trace ${traceId}  2.40 ms, 6 spans of 3 processes
keychaindb.v1.KV/Put      proxy-1     +0 µs  2.40 ms  ████████████████████████████████████
└─ chain.write            node-1    +300 µs  1.90 ms      █████████████████████████████
   ├─ rocksdb.write       node-1    +310 µs   290 µs      █████
   └─ chain.forward       node-1    +700 µs  1.00 ms            ███████████████▌
      └─ chain.apply      node-2    +800 µs   900 µs              █████████████▌
         └─ chain.commit  node-2   +1.50 ms     0 µs                        ▌
`,
  );
});

t.test('no line is wider than asked, and names that are too long are cut', async (t) => {
  const long = span('07', '01', 'a.name.that.is.much.longer.than.there.is.room', 'node-1', 0, 5);
  for (const width of [60, 72, 100]) {
    const told = { error: 'e'.repeat(90), attributes: { 'keychaindb.members': 'm'.repeat(90) } };
    const failed = span('08', '02', 'chain.refuse', 'a-process-with-a-long-name', 0, 2_400, told);
    for (const attributes of [false, true]) {
      const lines = waterfall([...write, long, failed], { width, attributes }).split('\n');
      for (const line of lines) t.ok([...line].length <= width, line);
      t.match(lines[0], '8 spans of 4 processes', 'the title too');
      t.match(lines.join('\n'), /✗ e+…/);
    }
  }
  t.match(waterfall([...write, long], { width: 60 }), '…');
});

t.test('an error stands behind its bar, attributes where they are asked for', async (t) => {
  const failed = span('08', '', 'chain.refuse', 'node-1', 0, 10, {
    error: 'NOT_HEAD',
    attributes: { 'keychaindb.epoch': 7 },
  });
  t.match(waterfall([failed], { width: 80 }), / {2}✗ NOT_HEAD\n$/);
  t.notMatch(waterfall([failed], { width: 80 }), 'epoch');
  t.match(waterfall([failed], { width: 80, attributes: true }), 'epoch=7');
});

t.test('a put through a proxy and three nodes, one of which failed', async (t) => {
  const spans = [
    span('01', '', 'keychaindb.v1.KV/Put', 'proxy-1', 0, 2_400),
    span('02', '01', 'chain.write', 'node-1', 300, 1_900, {
      attributes: { 'keychaindb.epoch': 7 },
    }),
    span('03', '02', 'chain.apply', 'node-2', 800, 900),
    span('04', '03', 'chain.apply', 'node-3', 1_200, 0, { error: 'lost' }),
    span('05', '02', 'rocksdb.write', 'node-1', 310, 290),
  ];
  t.equal(waterfall(spans, { width: 90, attributes: true }), putGolden);
});

t.test('a child is drawn where its clock puts it, also outside of its parent', async (t) => {
  const early = span('0d', '01', 'chain.write', 'node-1', -600, 300);
  const [title, parent, child] = waterfall([...write.slice(1, 2), early], { width: 90 }).split(
    '\n',
  );
  t.match(title, '3.00 ms');
  t.match(parent, /\+600 µs {2}2\.40 ms {2} +█/);
  t.match(child, / \+0 µs +300 µs {2}█/);
});

t.test('spans without length are seen, also where the trace has none', async (t) => {
  for (const at of [0, 1_200, 2_400]) {
    const mark = span('0e', '01', 'chain.commit', 'node-1', at, 0);
    const line = waterfall([...write.slice(1, 2), mark], { width: 90 }).split('\n')[2];
    t.match(line, /[▏▎▍▌▋▊▉█]$/, `at ${at} µs`);
  }
  const only = span('0e', '', 'chain.commit', 'node-1', 0, 0);
  t.match(waterfall([only], { width: 60 }), /0 µs, 1 span of 1 process\n.*▏\n$/);
});

t.test('what spans say stays on their lines and steers no terminal', async (t) => {
  const odd = span('0f', '', 'a\u001b[2Jb\nc', 'node-1\r', 0, 5, {
    error: 'one\ntwo\u202e',
    attributes: { key: '\u009b1m', list: [1] as unknown as string },
  });
  const text = waterfall([odd], { width: 100, attributes: true });
  t.equal(text.split('\n').length, 3);
  t.notMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Bidi_Control}]/u);
  t.match(text, 'list=[1]');
});

t.test('wide characters and marks keep the columns below each other', async (t) => {
  const names = ['書き込み', 'gru\u0308n', 'plain.name', '🔑 key'];
  const spans = names.map((name, i) => span(`1${i}`, '', name, 'node-1', 0, 5));
  // Each character of two columns as two, marks as none.
  const shown = waterfall(spans, { width: 80 })
    .replaceAll(/[書き込み🔑]/gu, 'xx')
    .replaceAll('\u0308', '');
  const [, ...lines] = shown.trimEnd().split('\n');
  t.strictSame(new Set(lines.map((line) => line.indexOf('node-1'))), new Set([12]));
});

t.test('a chain of parents as long as the list, and a long list, are drawn', async (t) => {
  const deep = Array.from({ length: 20_000 }, (_, i) =>
    span(`d${i}`, i === 0 ? '' : `d${i - 1}`, 'chain.apply', 'node-1', i, 5),
  );
  t.equal(waterfall(deep, { width: 80 }).split('\n').length, 20_002);
  const long = Array.from({ length: 150_000 }, (_, i) => span(`l${i}`, '', 'a', 'node-1', i, 5));
  t.equal(waterfall(long, { width: 80 }).split('\n').length, 150_002);
});

t.test('a span without its parent is a root', async (t) => {
  const lines = waterfall(
    write.filter(({ spanId }) => spanId !== '02'),
    { width: 90 },
  ).split('\n');
  t.match(lines[2], /^rocksdb\.write/);
  t.match(lines[3], /^chain\.forward/);
  const lost = span('20', 'gone', 'chain.write', 'node-1', 500, 300);
  const early = span('21', '20', 'chain.apply', 'node-2', 100, 300);
  const skewed = waterfall([lost, early], { width: 90 }).split('\n');
  t.match(skewed[2], /^└─ chain\.apply/, 'what is below it stays there, whatever clocks say');
});

t.test('every span is drawn once, also twins and rings', async (t) => {
  const [first] = write;
  const ring = [span('0a', '0b', 'a', 'node-1', 0, 1), span('0b', '0a', 'b', 'node-1', 1, 1)];
  const own = span('0c', '0c', 'c', 'node-1', 2, 1);
  const text = waterfall([...write, ...(first === undefined ? [] : [first]), ...ring, own], {
    width: 90,
  });
  t.equal(text.trimEnd().split('\n').length, 1 + 6 + 2 + 1);
  const hung = span('0f', '0b', 'd', 'node-1', 0.5, 1);
  const [, a, b, d] = waterfall([...ring, hung], { width: 90 }).split('\n');
  t.match(a, /^a /);
  t.match(b, /^└─ b /);
  t.match(d, /^ {3}└─ d /, 'the last one below a ring has the last guide');
});

t.test('each trace is drawn by itself; of none there is nothing', async (t) => {
  const other = span('01', '', 'raft.election', 'node-1', 0, 5, { traceId: 'f'.repeat(32) });
  t.equal(waterfall([...write, other], { width: 80 }).match(/^trace /gm)?.length, 2);
  t.equal(waterfall([], { width: 80 }), '');
});

t.test('times are read at a glance', async (t) => {
  const shown = [0, 0.4, 412.3, 999.4, 999.6, 1_350, 999_960, 2_040_000].map(timeOf);
  t.strictSame(shown, [
    '0 µs',
    '0 µs',
    '412 µs',
    '999 µs',
    '1.00 ms',
    '1.35 ms',
    '1.00 s',
    '2.04 s',
  ]);
});

t.test(
  "Jaeger's file has a process for each instance, parents, links, tags of every type",
  async (t) => {
    const failed = span('09', '01', 'chain.route', 'proxy-1', 5, 10, {
      kind: SpanKind.CLIENT,
      error: 'lost',
      attributes: { text: 'x', whole: 3, part: 0.5, flag: true },
      links: [{ traceId: 'e'.repeat(32), spanId: 'ee' }],
    });
    const { data } = JSON.parse(jaegerJson([...write, failed]));
    t.equal(data.length, 1);
    t.strictSame(Object.keys(data[0].processes), ['p1', 'p2', 'p3']);
    t.match(data[0].processes.p2, {
      serviceName: 'keychaindb-node',
      tags: [{ key: 'service.instance.id', type: 'string', value: 'node-1' }],
    });
    const found = data[0].spans.find(({ spanID }: { spanID: string }) => spanID === '09');
    t.match(found, {
      traceID: traceId,
      spanID: '09',
      operationName: 'chain.route',
      startTime: origin + 5,
      duration: 10,
      references: [
        { refType: 'CHILD_OF', traceID: traceId, spanID: '01' },
        { refType: 'FOLLOWS_FROM', traceID: 'e'.repeat(32), spanID: 'ee' },
      ],
    });
    t.strictSame(found.tags, [
      { key: 'span.kind', type: 'string', value: 'client' },
      { key: 'text', type: 'string', value: 'x' },
      { key: 'whole', type: 'int64', value: 3 },
      { key: 'part', type: 'float64', value: 0.5 },
      { key: 'flag', type: 'bool', value: true },
      { key: 'error', type: 'bool', value: true },
      { key: 'otel.status_code', type: 'string', value: 'ERROR' },
      { key: 'otel.status_description', type: 'string', value: 'lost' },
    ]);
  },
);

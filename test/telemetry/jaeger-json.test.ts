import t from 'tap';
import { jaegerJson } from '../../src/telemetry/jaeger-json.js';
import { type Attributes, type Span, SpanKind, spanOf } from '../../src/telemetry/span.js';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const origin = 1_700_000_000_000_000;

function span(
  spanId: string,
  parentId: string,
  name: string,
  instance: string,
  fromUs: number,
  forUs: number,
  attributes: Attributes = {},
): Span {
  return spanOf(
    { service: `keychaindb-${instance.split('-')[0]}`, instance },
    {
      traceId,
      spanId,
      parentId,
      name,
      kind: SpanKind.SERVER,
      startUs: origin + fromUs,
      endUs: origin + fromUs + forUs,
      attributes,
    },
  );
}

const put = span('01', '', 'keychaindb.v1.KV/Put', 'proxy-1', 0, 2_400);
const head = span('02', '01', 'chain.write', 'node-1', 300.25, 1_899.5);
const middle = span('03', '02', 'chain.apply', 'node-2', 700, 1_000);
const tail = span('04', '03', 'chain.apply', 'node-3', 900, 500);

// biome-ignore lint/suspicious/noExplicitAny: what JSON.parse gives.
function parsed(spans: readonly Span[]): readonly any[] {
  return JSON.parse(jaegerJson(spans)).data;
}

const golden = `{
  "data": [
    {
      "traceID": "0af7651916cd43dd8448eb211c80319c",
      "spans": [
        {
          "traceID": "0af7651916cd43dd8448eb211c80319c",
          "spanID": "01",
          "operationName": "keychaindb.v1.KV/Put",
          "references": [],
          "startTime": 1700000000000000,
          "duration": 2400,
          "tags": [
            {
              "key": "span.kind",
              "type": "string",
              "value": "server"
            }
          ],
          "logs": [],
          "processID": "p1",
          "warnings": null
        },
        {
          "traceID": "0af7651916cd43dd8448eb211c80319c",
          "spanID": "02",
          "operationName": "chain.write",
          "references": [
            {
              "refType": "CHILD_OF",
              "traceID": "0af7651916cd43dd8448eb211c80319c",
              "spanID": "01"
            },
            {
              "refType": "FOLLOWS_FROM",
              "traceID": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
              "spanID": "ee"
            }
          ],
          "startTime": 1700000000000300,
          "duration": 1900,
          "tags": [
            {
              "key": "span.kind",
              "type": "string",
              "value": "internal"
            },
            {
              "key": "keychaindb.epoch",
              "type": "int64",
              "value": 7
            },
            {
              "key": "error",
              "type": "bool",
              "value": true
            },
            {
              "key": "otel.status_code",
              "type": "string",
              "value": "ERROR"
            },
            {
              "key": "otel.status_description",
              "type": "string",
              "value": "NOT_HEAD"
            }
          ],
          "logs": [],
          "processID": "p2",
          "warnings": null
        }
      ],
      "processes": {
        "p1": {
          "serviceName": "keychaindb-proxy",
          "tags": [
            {
              "key": "service.instance.id",
              "type": "string",
              "value": "proxy-1"
            }
          ]
        },
        "p2": {
          "serviceName": "keychaindb-node",
          "tags": [
            {
              "key": "service.instance.id",
              "type": "string",
              "value": "node-1"
            }
          ]
        }
      }
    }
  ]
}
`;

t.test('a put through a proxy and a node is this file', async (t) => {
  const failed: Span = {
    ...span('02', '01', 'chain.write', 'node-1', 300.25, 1_899.5, { 'keychaindb.epoch': 7 }),
    kind: SpanKind.INTERNAL,
    links: [{ traceId: 'e'.repeat(32), spanId: 'ee' }],
    error: 'NOT_HEAD',
  };
  t.equal(jaegerJson([put, failed]), golden);
});

t.test('every instance is a process, and a span names its own', async (t) => {
  const [trace] = parsed([put, head, middle, tail]);
  t.strictSame(
    trace.spans.map((each: { processID: string }) => {
      const { serviceName, tags } = trace.processes[each.processID];
      return [serviceName, tags[0].value];
    }),
    [
      ['keychaindb-proxy', 'proxy-1'],
      ['keychaindb-node', 'node-1'],
      ['keychaindb-node', 'node-2'],
      ['keychaindb-node', 'node-3'],
    ],
  );
});

t.test('times are whole microseconds, also of a span without length', async (t) => {
  const [trace] = parsed([head, span('05', '02', 'chain.commit', 'node-1', 5, 0)]);
  for (const { startTime, duration } of trace.spans) {
    t.ok(Number.isSafeInteger(startTime) && Number.isSafeInteger(duration));
  }
  t.equal(trace.spans.find(({ spanID }: { spanID: string }) => spanID === '05').duration, 0);
});

t.test('a span that ends before it began has no negative length', async (t) => {
  const [trace] = parsed([{ ...head, endUs: head.startUs - 10 }]);
  t.equal(trace.spans[0].duration, 0);
});

t.test('a parent that is missing is named all the same, as is a ring', async (t) => {
  const ring = [span('0a', '0b', 'a', 'node-1', 0, 1), span('0b', '0a', 'b', 'node-1', 1, 1)];
  const [trace] = parsed([...ring, tail]);
  t.strictSame(
    trace.spans.map(({ references }: { references: { spanID: string }[] }) =>
      references.map(({ spanID }) => spanID),
    ),
    [['0b'], ['0a'], ['03']],
  );
});

t.test('each trace is an element of its own, with its own processes', async (t) => {
  const other: Span = { ...head, traceId: 'f'.repeat(32), parentId: '' };
  const data = parsed([put, other, middle]);
  t.strictSame(
    data.map(({ traceID, spans }) => [traceID, spans.length]),
    [
      [traceId, 2],
      ['f'.repeat(32), 1],
    ],
  );
  t.strictSame(Object.keys(data[1].processes), ['p1']);
});

t.test('of no spans there is a file without traces', async (t) => {
  t.equal(jaegerJson([]), '{\n  "data": []\n}\n');
});

t.test('text that is not ASCII stays as it is', async (t) => {
  const [trace] = parsed([span('06', '', '書く → grün', 'node-ü', 0, 1, { key: 'Schlüssel ✗' })]);
  t.equal(trace.spans[0].operationName, '書く → grün');
  t.equal(trace.processes.p1.tags[0].value, 'node-ü');
  t.ok(trace.spans[0].tags.some(({ value }: { value: unknown }) => value === 'Schlüssel ✗'));
});

t.test('the file is the same in whatever order processes answered', async (t) => {
  const spans = [put, head, middle, tail];
  const first = jaegerJson(spans);
  t.equal(jaegerJson([...spans].reverse()), first);
  t.equal(jaegerJson([tail, put, middle, head]), first);
});

t.test('a span that two processes told of is written once', async (t) => {
  const other: Span = { ...put, traceId: 'f'.repeat(32) };
  const data = parsed([put, head, put, other]);
  t.strictSame(
    data.map(({ spans }) => spans.length),
    [2, 1],
    'the same id in another trace is another span',
  );
});

t.test('a kind that is not told, and values that JSON has not, harm nothing', async (t) => {
  const attributes = { nothing: null, list: [1, 'b'], nan: Number.NaN };
  const [trace] = parsed([{ ...put, kind: SpanKind.UNSPECIFIED, attributes }]);
  t.strictSame(trace.spans[0].tags, [
    { key: 'nothing', type: 'string', value: 'null' },
    { key: 'list', type: 'string', value: '[1,"b"]' },
    { key: 'nan', type: 'string', value: 'NaN' },
  ]);
});

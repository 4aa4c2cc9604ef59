import { capEach } from '../cpu-cap.js';
import { drive } from '../generators/driver.js';
import type { Generated, Latency } from '../generators/generator.js';
import { h2load } from '../generators/h2load.js';
import { keyOf } from '../generators/keys.js';
import { median } from '../median.js';
import { type Figures, type Found, ms, ratio } from '../report.js';
import type { Settings } from '../settings.js';
import type { Keychaindb } from '../systems/keychaindb.js';
import { countsOf, type Door, metricsText, protocolOf } from '../systems/system.js';
import { type Trial, trial } from '../trial.js';
import { fill, freshValue, ownCluster, planOf, released } from './contenders.js';

/** CRAQ (Terrace & Freedman, USENIX ATC 2009), figure 5: medians for values of 500 bytes, operations a second. */
const paper = {
  reads: { 1: undefined, 3: 59_882, 5: 99_466, 7: 138_833 },
  readsAtTail: 20_552,
  writes: { 1: undefined, 3: 5_514, 5: 4_999, 7: 4_538 },
  /** Figures 6 to 8: 3 nodes, reads of the key that is written at saturation. */
  mixed: { own: 39_873, atTail: 20_430 },
} as const;

type Length = keyof typeof paper.reads;
const lengths: readonly Length[] = [1, 3, 5, 7];

interface Scaled {
  readonly length: Length;
  readonly isCapped: boolean;
  readonly reads: number;
  readonly readsAtTail: number;
  readonly writes: number;
  /** Reads of the key that is being written at saturation, and the writes meanwhile. */
  readonly mixedReads: number;
  readonly mixedReadsAtTail: number;
  readonly mixedWrites: number;
  /** Part of the reads of the mixed load that asked the tail. */
  readonly dirtyPart: number;
  /** Microseconds of CPU of the nodes for each clean read. */
  readonly cpuMicros: number;
}

/** Reads as the chain grows, each node with the same small share of a CPU: the paper's table beside ours. */
export async function* scaling(settings: Settings): AsyncGenerator<Found> {
  const { share } = settings;
  const all: Scaled[] = [];
  for (const length of lengths) all.push(await scaled(length, share, settings));
  const first = all[0];
  const rows = all.map((row) => {
    const own = paper.reads[row.length];
    return [
      `${row.length}`,
      `${Math.round(row.reads)}`,
      ratio(row.reads / row.readsAtTail),
      ratio(first === undefined ? undefined : row.reads / first.reads / row.length),
      own === undefined ? '' : `${own}, ${ratio(own / paper.readsAtTail)}`,
      `${Math.round(row.writes)}`,
      paper.writes[row.length] === undefined ? '' : `${paper.writes[row.length]}`,
      `${Math.round(row.mixedReads)}, ${ratio(row.mixedReads / row.reads)}`,
      row.length === 3 ? `${paper.mixed.own}, ${ratio(paper.mixed.own / paper.reads[3])}` : '',
      `${Math.round(row.mixedReadsAtTail)}, ${ratio(row.mixedReadsAtTail / row.readsAtTail)}`,
      `${Math.round(row.dirtyPart * 100)} %`,
      `${Math.round(row.cpuMicros)} µs`,
    ];
  });
  const isCapped = all.every((row) => row.isCapped);
  yield {
    title: `Reads as the chain grows (h2load at the nodes, ${settings.valueBytes} bytes)`,
    header: [
      'nodes',
      'clean reads/s',
      'to reads at the tail only',
      'of linear',
      'CRAQ paper',
      'writes/s',
      'paper',
      'reads/s of a key written at saturation',
      'paper',
      'the same at the tail only',
      'dirty',
      "nodes' CPU per clean read",
    ],
    rows,
    notes: [
      isCapped
        ? `Each node is capped to ${share * 100} % of a CPU by a cgroup.`
        : 'This machine lets us make no cgroups: nodes share its CPUs, so what grows with the chain is not throughput; look at the CPU per read.',
    ],
    data: all,
    figures: isCapped ? figuresOf(all) : {},
  };
  yield await latencies(settings);
}

/** The least part of linear that any length reached, and what is left of a chain of three's reads beside writes. */
function figuresOf(all: readonly Scaled[]): Figures {
  const [first] = all;
  const three = all.find(({ length }) => length === 3);
  if (first === undefined || three === undefined) return {};
  return {
    'reads, of linear': Math.min(...all.map(({ reads, length }) => reads / first.reads / length)),
    'reads beside writes of the key': three.mixedReads / three.reads,
  };
}

async function scaled(length: Length, share: number, settings: Settings): Promise<Scaled> {
  const own = await ownCluster(settings, { nodes: length });
  const nodes = own.lab.of('node');
  await fill(own.proxy, { ...settings, keys: 16 });
  const tail: Door = { ...own.nodes, grpc: own.nodes.grpc.slice(-1) };
  // Before the cap: code that is hot must be compiled.
  await readsAt(own.nodes, { ...settings, connections: 2 * length, seconds: 3 });
  await writesAt(own.proxy, settings);
  const release = await capEach(
    nodes.map(({ pid }) => pid),
    share,
  );
  const reads: Trial[] = [];
  const atTail: Trial[] = [];
  const writes: Trial[] = [];
  const mixed: Mixed[] = [];
  const mixedAtTail: Mixed[] = [];
  try {
    // As many in flight at each node, however many there are.
    const onEach = { ...settings, connections: 2 * length };
    const onTail = { ...settings, connections: 2 };
    for (let round = 0; round < settings.rounds; round += 1) {
      reads.push(await readsAt(own.nodes, onEach));
      atTail.push(await readsAt(tail, onTail));
      writes.push(await writesAt(own.proxy, settings));
      mixed.push(await mixedAt(own, own.nodes, onEach));
      mixedAtTail.push(await mixedAt(own, tail, onTail));
    }
  } finally {
    await release?.();
    await released(own);
  }
  const of = (trials: readonly Trial[]): number => median(trials.map((t) => t.perSecond));
  const row = {
    length,
    isCapped: release !== undefined,
    reads: of(reads),
    readsAtTail: of(atTail),
    writes: of(writes),
    mixedReads: median(mixed.map((m) => m.readsPerSecond)),
    mixedReadsAtTail: median(mixedAtTail.map((m) => m.readsPerSecond)),
    mixedWrites: median(mixed.map((m) => m.writesPerSecond)),
    dirtyPart: median(mixed.map((m) => m.dirtyPart)),
    cpuMicros: median(reads.map((t) => t.cpuByRole['node'] ?? 0)),
  };
  settings.say(
    `${length} nodes: ${Math.round(row.reads)} reads/s, ${Math.round(row.readsAtTail)} at the tail only, ${Math.round(row.writes)} writes/s`,
  );
  return row;
}

function readsAt(door: Door, settings: Settings): Promise<Trial> {
  return trial(door, () => readLoad(door, settings));
}

function readLoad(door: Door, settings: Settings): Promise<Generated> {
  const { getPath: path, get } = protocolOf(door);
  return h2load({ addresses: door.grpc, path, message: get(keyOf(0)), ...settings });
}

function writesAt(door: Door, settings: Settings): Promise<Trial> {
  return trial(door, () => writeLoad(door, settings));
}

function writeLoad(door: Door, settings: Settings): Promise<Generated> {
  const { putPath: path, put } = protocolOf(door);
  const message = put(keyOf(0), freshValue(settings.valueBytes));
  return h2load({ addresses: door.grpc, path, message, ...settings });
}

interface Mixed {
  readonly readsPerSecond: number;
  readonly writesPerSecond: number;
  readonly dirtyPart: number;
}

/** Reads at a door of the key that is written at saturation meanwhile. */
async function mixedAt(own: Keychaindb, door: Door, settings: Settings): Promise<Mixed> {
  const count = async () => ({
    ...(await tailQueries(own)),
    writes: (await own.proxy.counts())['OK'] ?? 0,
  });
  const before = await count();
  const [read, written] = await Promise.all([
    readLoad(door, settings),
    // One client with 50 outstanding, as in the paper.
    writeLoad(own.proxy, { ...settings, connections: 1, streams: 50 }),
  ]);
  const after = await count();
  const reads = after.reads - before.reads;
  return {
    readsPerSecond: reads / read.seconds,
    writesPerSecond: (after.writes - before.writes) / written.seconds,
    dirtyPart: (after.dirty - before.dirty) / Math.max(1, reads),
  };
}

/** Reads that the nodes answered OK, and those of them for which the tail was asked. */
async function tailQueries(
  own: Keychaindb,
): Promise<{ readonly reads: number; readonly dirty: number }> {
  const texts = await Promise.all(own.lab.of('node').map(({ http }) => metricsText(http)));
  const sum = (counts: Readonly<Record<string, number>>): number =>
    Object.values(counts).reduce((all, each) => all + each, 0);
  return {
    reads: sum(
      countsOf(
        texts,
        'keychaindb_requests_total',
        'verb',
        /code="OK".*verb="get"|verb="get".*code="OK"/,
      ),
    ),
    dirty: sum(countsOf(texts, 'keychaindb_tail_queries_sent_total', 'id', /./)),
  };
}

/** Figure 9 of the paper: milliseconds, median and 99th, 500 bytes, three nodes, without and under load. */
const paperLatency = {
  clean: ['0.49, 0.74', '1.49, 3.24'],
  dirty: ['0.98, 0.99', '2.98, 6.23'],
  write: ['2.05, 2.43', '5.75, 7.88'],
} as const;

async function latencies(settings: Settings): Promise<Found> {
  const own = await ownCluster(settings);
  try {
    await fill(own.proxy, { ...settings, keys: 16 });
    const keys = { choice: 'one', count: 1 } as const;
    const head: Door = { ...own.nodes, grpc: own.nodes.grpc.slice(0, 1) };
    const one = (door: Door, readPart: number) =>
      drive(
        { ...planOf(door, settings), connections: 1, loop: { inFlight: 1 }, readPart, keys },
        settings.node,
      );
    const dirtyOf = async (seconds: number): Promise<Latency | undefined> => {
      const writer = writeLoad(own.proxy, { ...settings, seconds, connections: 1, streams: 8 });
      const { dirtyLatency } = await one(head, 1);
      await writer;
      return dirtyLatency;
    };
    await one(own.proxy, 0.5);
    const alone = {
      clean: (await one(head, 1)).latency,
      dirty: await dirtyOf(settings.seconds),
      write: (await one(own.proxy, 0)).latency,
    };
    // Another key is loaded, so that the one that is measured stays clean.
    const loaded = async <T>(work: () => Promise<T>): Promise<T> => {
      const { getPath: path, get } = protocolOf(own.nodes);
      const seconds = settings.seconds + 1;
      const load = h2load({
        ...{ addresses: own.nodes.grpc, path, message: get(keyOf(1)) },
        ...{ connections: settings.connections, streams: settings.streams, seconds },
      });
      const done = await work();
      await load;
      return done;
    };
    const under = {
      clean: await loaded(async () => (await one(head, 1)).latency),
      dirty: await loaded(() => dirtyOf(settings.seconds)),
      write: await loaded(async () => (await one(own.proxy, 0)).latency),
    };
    const shown = (latency: Latency | undefined): string =>
      latency === undefined ? '' : `${ms(latency.p50)}, ${ms(latency.p99)}`;
    return {
      title: 'Latency in a chain of three: p50, p99',
      header: ['', 'alone', 'CRAQ paper (ms)', 'under load', 'CRAQ paper (ms)'],
      rows: (['clean', 'dirty', 'write'] as const).map((kind) => [
        kind === 'write' ? 'write, through the proxy' : `${kind} read, at the head`,
        shown(alone[kind]),
        paperLatency[kind][0],
        shown(under[kind]),
        paperLatency[kind][1],
      ]),
      notes: [
        'A read is dirty while a write of its key is on its way: here by a writer with eight in flight. Load: reads of another key at saturation.',
      ],
      data: { alone, under },
    };
  } finally {
    await released(own);
  }
}

/*
 * Saturates a cluster and prints what it did: operations per second, CPU per operation over all of its processes,
 * entries per synced batch and per link message, and whether anybody was taken out of the chain.
 * node dist/tools/meter.js [--seconds 10] [--writers 64] [--readers 64] [--nodes 3] [--only mixed]
 */
import { parseArgs } from 'node:util';
import type { KeychainClient } from '../src/client/client.js';
import { Lab, servingIds } from './lab/cluster.js';
import { inspectNode } from './lab/inspect.js';
import { usage } from './lab/usage.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    writers: { type: 'string', default: '64' },
    readers: { type: 'string', default: '64' },
    nodes: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
  },
});
const seconds = Number(values.seconds);
const writers = Number(values.writers);
const readers = Number(values.readers);
const value = Buffer.alloc(500, 'v');
const keys = 10_000;

const lab = await Lab.start({ nodes: Number(values.nodes) });
try {
  const client = lab.client();
  await inParallel(64, keys, (i) => client.put(`meter/${i}`, value));
  if (writers > 0 && values.only !== 'mixed') await measure('writes', writers, 0, client);
  if (readers > 0 && values.only !== 'mixed') await measure('reads', 0, readers, client);
  if (writers > 0 && readers > 0) await measure('mixed', writers, readers, client);
} finally {
  await lab.stop();
}

async function inParallel(
  width: number,
  count: number,
  work: (i: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

async function measure(
  name: string,
  writing: number,
  reading: number,
  client: KeychainClient,
): Promise<void> {
  const view = await lab.until(
    'everybody serves',
    (v) => servingIds(v).length === lab.of('node').length,
  );
  const before = await snapshot();
  const began = performance.now();
  const until = began + seconds * 1_000;
  let reads = 0;
  let writes = 0;
  let failed = 0;
  const loop = async (once: () => Promise<unknown>, done: () => void): Promise<void> => {
    while (performance.now() < until) {
      try {
        await once();
        done();
      } catch {
        failed += 1;
      }
    }
  };
  const key = (): string => `meter/${Math.floor(Math.random() * keys)}`;
  await Promise.all([
    ...Array.from({ length: writing }, () =>
      loop(
        () => client.put(key(), value),
        () => {
          writes += 1;
        },
      ),
    ),
    ...Array.from({ length: reading }, () =>
      loop(
        () => client.get(key()),
        () => {
          reads += 1;
        },
      ),
    ),
  ]);
  const elapsed = (performance.now() - began) / 1_000;
  const after = await snapshot();
  const now = await lab.until('a view', () => true);
  const operations = reads + writes;
  const micros = ((after.cpuMs - before.cpuMs) * 1_000) / operations;
  const perBatch = (after.entries - before.entries) / Math.max(1, after.batches - before.batches);
  const perMessage =
    (after.forwarded - before.forwarded) / Math.max(1, after.messages - before.messages);
  print(
    `${name}: ${Math.round(reads / elapsed)} reads/s, ${Math.round(writes / elapsed)} writes/s for ${Math.round(elapsed)} s, ` +
      `${failed} failed; ${Math.round(micros)} µs of CPU per operation over ${lab.processes.length} processes; ` +
      `${after.memoryMb} MB resident in all`,
  );
  if (writing > 0) {
    print(
      `  ${perBatch.toFixed(1)} entries per synced batch, ${perMessage.toFixed(1)} per link message`,
    );
  }
  print(
    `  taken out of the chain: ${now.epoch === view.epoch ? 'nobody' : `the epoch rose from ${view.epoch} to ${now.epoch}`}`,
  );
}

interface Snapshot {
  readonly cpuMs: number;
  readonly memoryMb: number;
  readonly batches: number;
  readonly entries: number;
  readonly messages: number;
  readonly forwarded: number;
}

async function snapshot(): Promise<Snapshot> {
  const nodes = await Promise.all(lab.of('node').map(({ grpc }) => inspectNode(grpc, false)));
  const sum = (of: (node: (typeof nodes)[number]) => number): number =>
    nodes.reduce((all, node) => all + of(node), 0);
  const processes = lab.processes.map(({ pid }) => usage(pid));
  return {
    cpuMs: processes.reduce((all, { cpuMs }) => all + cpuMs, 0),
    memoryMb: Math.round(processes.reduce((all, { memoryMb }) => all + memoryMb, 0)),
    batches: sum((node) => node.syncedBatches),
    entries: sum((node) => node.entriesAppended),
    messages: sum((node) => node.linkMessages),
    forwarded: sum((node) => node.entriesForwarded),
  };
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

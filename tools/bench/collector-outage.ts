/*
 * A collector that hangs, dies and returns under load. Two clusters under the same open load in turn, one without a
 * collector and one with, phase by phase: latencies of the phases side by side, spans lost, memory.
 * node dist/tools/bench/collector-outage.js [--seconds 15] [--writes 150] [--reads 300]
 */

import { createHistogram } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import type { KeychainClient } from '../../src/client/client.js';
import { Lab } from '../lab/cluster.js';
import { usage } from '../lab/usage.js';
import { startSink } from './sink.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '15' },
    writes: { type: 'string', default: '150' },
    reads: { type: 'string', default: '300' },
  },
});
const seconds = Number(values.seconds);

class Latencies {
  failed = 0;
  readonly #micros = createHistogram();

  add(ms: number): void {
    this.#micros.record(Math.max(1, Math.round(ms * 1_000)));
  }

  get text(): string {
    const ms = (micros: number): string => (micros / 1_000).toFixed(1);
    const { max } = this.#micros;
    return `${ms(this.#micros.percentile(50))}, ${ms(this.#micros.percentile(99))}, ${ms(max)} ms`;
  }
}

let sink = await startSink();
const port = Number(new URL(sink.url).port);
const phases: readonly (readonly [name: string, begin: () => Promise<void>])[] = [
  ['answers', async () => undefined],
  ['hangs', async () => sink.tell('hang')],
  ['is dead', () => sink.kill()],
  [
    'is back',
    async () => {
      sink = await startSink(port);
    },
  ],
];

const plain = await Lab.start();
const traced = await Lab.start({ args: ['--otlp', sink.url] });
try {
  const clients = { plain: plain.client(), traced: traced.client() };
  await Promise.all([load(clients.plain, 3), load(clients.traced, 3)]);
  print(
    '| the collector | write p50, p99, most: without one | with one | failed | spans sent | lost | waiting | memory of all |',
  );
  print('| --- | --- | --- | --- | --- | --- | --- | --- |');
  for (const [name, begin] of phases) {
    await begin();
    // In turn, so that neither has the machine to itself for longer.
    const without = new Latencies();
    const withOne = new Latencies();
    for (let part = 0; part < 3; part += 1) {
      await load(clients.plain, seconds / 3, without);
      await load(clients.traced, seconds / 3, withOne);
    }
    const { exported, dropped, queued } = await spans();
    const memory = traced.processes.reduce((all, { pid }) => all + usage(pid).memoryMb, 0);
    const failed = without.failed + withOne.failed;
    print(
      `| ${name} | ${without.text} | ${withOne.text} | ${failed} | ${exported} | ${dropped} | ${queued} | ${Math.round(memory)} MB |`,
    );
  }
} finally {
  await plain.stop();
  await traced.stop();
  await sink.kill();
}

/** An open loop: an operation begins when it is due, and its time counts from then. */
async function load(client: KeychainClient, forSeconds: number, into?: Latencies): Promise<void> {
  const running: Promise<void>[] = [];
  const began = performance.now();
  const run = async (
    due: number,
    work: () => Promise<unknown>,
    isWrite: boolean,
  ): Promise<void> => {
    try {
      await work();
      if (isWrite) into?.add(performance.now() - due);
    } catch {
      if (into !== undefined) into.failed += 1;
    }
  };
  await new Promise<void>((resolve) => {
    let writes = 0;
    let reads = 0;
    const timer = setInterval(() => {
      const elapsed = performance.now() - began;
      for (; (writes * 1_000) / Number(values.writes) < elapsed; writes += 1) {
        const due = began + (writes * 1_000) / Number(values.writes);
        running.push(run(due, () => client.put(`k/${writes % 500}`, 'x'.repeat(500)), true));
      }
      for (; (reads * 1_000) / Number(values.reads) < elapsed; reads += 1) {
        running.push(run(0, () => client.get(`k/${reads % 500}`), false));
      }
      if (elapsed < forSeconds * 1_000) return;
      clearInterval(timer);
      resolve();
    }, 2);
  });
  await Promise.all(running);
}

/** Sums over the processes of the traced cluster, from /metrics. */
async function spans(): Promise<Readonly<Record<'exported' | 'dropped' | 'queued', number>>> {
  const sums = { exported: 0, dropped: 0, queued: 0 };
  for (const { http } of traced.processes) {
    const text = await (await fetch(`http://${http}/metrics`)).text();
    const read = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
    sums.exported += read(/^keychaindb_spans_exported_total\{.*\} (\d+)/m);
    sums.dropped += read(/^keychaindb_spans_dropped_total\{.*\} (\d+)/m);
    sums.queued += read(/^keychaindb_queue_length\{queue="spans".*\} (\d+)/m);
  }
  return sums;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

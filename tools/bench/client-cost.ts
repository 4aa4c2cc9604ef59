/*
 * What an operation costs the client and the proxy that it asks: this client, whose operations share a stream, beside
 * one unary call for each, and beside clients of other builds; in turn within one run, on one cluster. CPU per
 * operation, and its ratio to the unary call of the same round. Reads and writes of 500 bytes, half and half.
 * node dist/tools/bench/client-cost.js [--rounds 5] [--operations 20000] [--in-flight 256] [--client client.js]… [--json]
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ChannelCredentials } from '@grpc/grpc-js';
import { connect } from '../../src/client/client.js';
import { KVClient } from '../../src/gen/keychaindb/v1/kv.js';
import { clientOptions, noMetadata } from '../../src/retry/grpc-call.js';
import { Lab } from '../lab/cluster.js';
import { cpuOf } from '../lab/usage.js';
import { median } from './median.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    operations: { type: 'string', default: '20000' },
    'in-flight': { type: 'string', default: '256' },
    client: { type: 'string', multiple: true, default: [] },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(values.rounds);
const operations = Number(values.operations);
const inFlight = Number(values['in-flight']);
const timeoutMs = 60_000;
const keys = 500;
const value = Buffer.alloc(500, 'v');

/** One kind of client. */
interface Subject {
  readonly name: string;
  get(key: string): Promise<unknown>;
  put(key: string): Promise<unknown>;
  close(): void;
  readonly clientMicros: number[];
  readonly proxyMicros: number[];
}

const lab = await Lab.start({ nodes: 1, coordinators: 1 });
try {
  const [proxy] = lab.of('proxy');
  if (proxy === undefined) throw new Error('the cluster has no proxy');
  const subjects = [unary(proxy.grpc), session('session', connect, proxy.grpc)];
  for (const path of values.client) {
    const module = (await import(resolve(path))) as { readonly connect: typeof connect };
    subjects.push(session(path, module.connect, proxy.grpc));
  }
  for (let key = 0; key < keys; key += 1) await subjects[0]?.put(`bench/${key}`);
  for (const subject of subjects) await run(subject, Math.ceil(operations / 4));
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < subjects.length; turn += 1) {
      const subject = subjects[(round + turn) % subjects.length];
      if (subject !== undefined) await measure(subject, proxy.pid);
    }
  }
  report(subjects);
  for (const subject of subjects) subject.close();
} finally {
  await lab.stop();
}

function unary(address: string): Subject {
  const client = new KVClient(address, ChannelCredentials.createInsecure(), clientOptions);
  const request = undefined;
  return {
    name: 'unary',
    get: (key) =>
      new Promise((done, fail) => {
        const deadline = new Date(Date.now() + timeoutMs);
        client.get(
          { key: Buffer.from(key), node: '' },
          noMetadata,
          { deadline },
          (error, response) => {
            if (error === null) done(response);
            else fail(error);
          },
        );
      }),
    put: (key) =>
      new Promise((done, fail) => {
        const deadline = new Date(Date.now() + timeoutMs);
        client.put(
          { key: Buffer.from(key), value, request },
          noMetadata,
          { deadline },
          (error, response) => {
            if (error === null) done(response);
            else fail(error);
          },
        );
      }),
    close: () => client.close(),
    clientMicros: [],
    proxyMicros: [],
  };
}

function session(name: string, dial: typeof connect, address: string): Subject {
  const client = dial({ endpoints: [address], timeoutMs });
  return {
    name,
    get: (key) => client.get(key),
    put: (key) => client.put(key, value),
    close: () => client.close(),
    clientMicros: [],
    proxyMicros: [],
  };
}

/** So many operations, so many at a time. */
async function run(subject: Subject, count: number): Promise<void> {
  let begun = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (begun < count) {
        const turn = begun;
        begun += 1;
        const key = `bench/${Math.floor(turn / 2) % keys}`;
        await (turn % 2 === 0 ? subject.put(key) : subject.get(key));
      }
    }),
  );
}

async function measure(subject: Subject, pid: number): Promise<void> {
  const proxyBefore = cpuOf([pid]);
  const before = process.cpuUsage();
  await run(subject, operations);
  const { user, system } = process.cpuUsage(before);
  subject.clientMicros.push((user + system) / operations);
  subject.proxyMicros.push(((cpuOf([pid]) - proxyBefore) * 1_000) / operations);
}

function report(subjects: readonly Subject[]): void {
  const [base] = subjects;
  const ratio = (own: readonly number[], of: readonly number[]): number =>
    median(own.map((micros, round) => micros / (of[round] ?? micros)));
  const rows = subjects.map(({ name, clientMicros, proxyMicros }) => ({
    name,
    clientMicros: median(clientMicros),
    proxyMicros: median(proxyMicros),
    clientRatio: ratio(clientMicros, base?.clientMicros ?? []),
    proxyRatio: ratio(proxyMicros, base?.proxyMicros ?? []),
  }));
  if (values.json) {
    print(JSON.stringify({ rounds, operations, inFlight, rows }));
    return;
  }
  print(`${inFlight} in flight, ${rounds} rounds of ${operations}`);
  print('| client | CPU of the client | CPU of the proxy | client, to unary | proxy, to unary |');
  print('| ------ | ----------------- | ---------------- | ---------------- | --------------- |');
  for (const { name, clientMicros, proxyMicros, clientRatio, proxyRatio } of rows) {
    const cpu = `${clientMicros.toFixed(1)} µs | ${proxyMicros.toFixed(1)} µs`;
    print(`| ${name} | ${cpu} | ${clientRatio.toFixed(3)} | ${proxyRatio.toFixed(3)} |`);
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

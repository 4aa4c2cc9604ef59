/*
 * Benchmarks: our cluster beside etcd and the floor of Node, in turn within one run.
 * npm run bench -- [PART…|--all] [--rounds 3] [--seconds 3] [--node PATH] [--json FILE] [--markdown] …: README.md here.
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { endCaps } from './cpu-cap.js';
import { endDrivers } from './generators/driver.js';
import { endTools } from './generators/tool.js';
import { goalTable } from './goals.js';
import { stopAll } from './parts/contenders.js';
import { chosen, runParts } from './parts/parts.js';
import { type Found, markdown } from './report.js';
import type { Settings } from './settings.js';
import { etcdVersion } from './systems/etcd.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    'warm-ups': { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    connections: { type: 'string', default: '6' },
    streams: { type: 'string', default: '16' },
    'value-bytes': { type: 'string', default: '500' },
    keys: { type: 'string', default: '10000' },
    workers: { type: 'string', default: '2' },
    node: { type: 'string', default: process.execPath },
    share: { type: 'string', default: '0.2' },
    'soak-minutes': { type: 'string', default: '10' },
    'sync-keys': { type: 'string', default: '100000' },
    'restart-keys': { type: 'string', default: '1000000' },
    all: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    json: { type: 'string' },
    profiles: { type: 'string' },
  },
});

const settings: Settings = {
  rounds: Number(values.rounds),
  warmUps: Number(values['warm-ups']),
  seconds: Number(values.seconds),
  connections: Number(values.connections),
  streams: Number(values.streams),
  valueBytes: Number(values['value-bytes']),
  keys: Number(values.keys),
  workers: Number(values.workers),
  node: values.node,
  share: Number(values.share),
  soakMinutes: Number(values['soak-minutes']),
  syncKeys: Number(values['sync-keys']),
  restartKeys: Number(values['restart-keys']),
  profiles: values.profiles,
  say: (text) => {
    process.stderr.write(`${text}\n`);
  },
};

const began = performance.now();
const found: Found[] = [];
let isStopping = false;
process.once('SIGINT', () => void interrupted());
process.once('SIGTERM', () => void interrupted());

const running = run();
await running;

async function run(): Promise<void> {
  try {
    const show = (part: Found): void => {
      found.push(part);
      process.stdout.write(`${markdown(part)}\n`);
    };
    const parts = chosen(positionals, values.all);
    const failed = await runParts(parts, settings, show, () => !isStopping);
    if (failed.length > 0) process.exitCode = 1;
    if (values.markdown) process.stdout.write(markdown(goalTable(found)));
  } catch (error) {
    if (!isStopping) {
      process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
      process.exitCode = 1;
    }
  } finally {
    await ended();
  }
}
if (values.json !== undefined) {
  const about = {
    node: values.node,
    etcd: etcdVersion() ?? null,
    cpus: cpus().map(({ model }) => model),
    seconds: Math.round((performance.now() - began) / 1_000),
  };
  await writeFile(values.json, `${JSON.stringify({ about, settings, parts: found }, null, 2)}\n`);
}

async function ended(): Promise<void> {
  endTools();
  endDrivers();
  await stopAll();
  await endCaps();
}

async function interrupted(): Promise<void> {
  isStopping = true;
  await ended();
  // What was under way fails now, and removes its folders.
  await Promise.race([running, new Promise((resolve) => setTimeout(resolve, 2_000))]);
  process.exit(130);
}

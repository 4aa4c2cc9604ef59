import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { grpcFrame } from '../frame.js';
import { type Generated, secondsOf, spread, together, wholeSeconds } from './generator.js';
import { runTools } from './tool.js';

/* h2load (nghttp2): a closed loop of one message that stays the same, over HTTP/2, at little CPU of its own. */

export interface H2loadPlan {
  /** host:port; one h2load for each, side by side. */
  readonly addresses: readonly string[];
  readonly path: string;
  readonly message: Uint8Array;
  /** In all, over all addresses. */
  readonly connections: number;
  /** Calls in flight on each connection. */
  readonly streams: number;
  readonly seconds: number;
}

export async function h2load(plan: H2loadPlan): Promise<Generated> {
  const dir = await mkdtemp(join(tmpdir(), 'keychaindb-h2load-'));
  try {
    const body = join(dir, 'body');
    await writeFile(body, grpcFrame(plan.message));
    const connections = spread(plan.connections, plan.addresses.length);
    const [outputs, cpuMs] = await runTools(
      plan.addresses.map((address, i) => h2loadLine(plan, address, connections[i] ?? 1, body)),
    );
    return { ...together(outputs.map(h2loadReport)), cpuMs };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

export function h2loadLine(
  { path, streams, seconds }: H2loadPlan,
  address: string,
  connections: number,
  body: string,
): readonly string[] {
  return [
    ...[
      'h2load',
      '-t',
      '1',
      '-c',
      `${connections}`,
      '-m',
      `${streams}`,
      '-D',
      wholeSeconds(seconds),
    ],
    ...['-d', body, '-H', 'content-type: application/grpc', '-H', 'te: trailers'],
    `http://${address}${path}`,
  ];
}

/** Reads what h2load prints at its end. */
export function h2loadReport(text: string): Generated {
  const seconds = /finished in ([\d.]+)(us|ms|s|m)\b/.exec(text);
  const requests = /requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored/.exec(text);
  if (seconds === null || requests === null) {
    throw new Error(`h2load said something else: ${text.slice(-300)}`);
  }
  return {
    seconds: secondsOf(seconds[1], seconds[2]),
    cpuMs: 0,
    answered: Number(requests[1]),
    // "failed" counts the errored ones too.
    failed: Number(requests[2]),
  };
}

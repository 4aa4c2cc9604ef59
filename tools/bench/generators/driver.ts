import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ProtocolName } from '../protocols.js';
import type { Generated } from './generator.js';
import type { KeyChoice } from './keys.js';

/** What our own generator does. It runs as a process of its own, so that its CPU can be told apart. */
export interface DriverPlan {
  /** `client`: through src/client; else unary calls of grpc-js. */
  readonly through: ProtocolName | 'client';
  readonly addresses: readonly string[];
  readonly connections: number;
  readonly seconds: number;
  /** Of a closed loop before it, which is not measured: its own code is compiled then. */
  readonly warmUpSeconds?: number;
  /** A closed loop with so many in flight, or an open one of so many a second. */
  readonly loop: { readonly inFlight: number } | { readonly perSecond: number };
  /** Part of the operations that reads, 0 to 1. */
  readonly readPart: number;
  readonly keys: { readonly choice: KeyChoice; readonly count: number };
  readonly valueBytes: number;
  /** The byte that values are made of: readers tell rounds apart by it. */
  readonly fill?: string;
  /** Writes every key once, and ends. */
  readonly fills?: boolean;
  /** Reads ask this node (GetRequest.node). */
  readonly node?: string;
}

export type DriverReport =
  | { readonly warm: true }
  | { readonly done: Generated & { readonly codes: Readonly<Record<string, number>> } }
  | { readonly error: string };

const worker = fileURLToPath(new URL('driver-worker.js', import.meta.url));
const running = new Set<ChildProcess>();

export function endDrivers(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** @param begin called when it is warm; it goes on when that is done */
export async function drive(
  plan: DriverPlan,
  execPath: string,
  begin: () => Promise<void> = async () => undefined,
): Promise<Generated & { readonly codes: Readonly<Record<string, number>> }> {
  const child = fork(worker, [], { execPath });
  running.add(child);
  try {
    const exited = once(child, 'exit').then((): DriverReport => ({ error: 'the generator ended' }));
    const report = async (message: DriverPlan | 'go'): Promise<DriverReport> => {
      const answer = once(child, 'message').then(([first]) => first as DriverReport);
      child.send(message);
      return Promise.race([answer, exited]);
    };
    let last = await report(plan);
    if ('warm' in last) {
      await begin();
      last = await report('go');
    }
    if ('done' in last) return last.done;
    throw new Error('error' in last ? last.error : 'the generator was warm twice');
  } finally {
    running.delete(child);
    child.kill('SIGKILL');
  }
}

/** A client that is gone in the middle of its work: SIGKILL after so long. */
export async function vanish(plan: DriverPlan, afterMs: number, execPath: string): Promise<void> {
  const child = fork(worker, [], { execPath });
  running.add(child);
  child.once('message', () => child.send('go'));
  child.send({ ...plan, warmUpSeconds: 0 });
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  running.delete(child);
}

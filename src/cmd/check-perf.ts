import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { connect, type KeychainClient, KeychainError } from '../client/client.js';
import { client, verb } from './client-command.js';
import { exitCodes } from './exit-codes.js';
import { flag } from './options.js';
import { judged, type PerfLoad, type PerfReport, perfLoads, WriteTimes } from './perf.js';
import { say } from './process.js';
import { table } from './table.js';
import type { ClientFlags } from './verbs.js';

/* `keychaindb check perf`: whether a cluster keeps up with a load, by the table and the rules of `etcdctl check perf`. */

export interface PerfFlags extends ClientFlags {
  readonly load: string;
  readonly prefix: string;
}

/** Keys are taken in turn, so that cleaning up takes seconds. */
const keysMax = 10_000;
const keyBytes = 256;
const valueBytes = 1_024;
/** Deletes in flight while it cleans up. */
const deletersMax = 64;

export function check(): Command {
  const command = new Command('check').description('whether a cluster is as it should be');
  command.addCommand(
    client('perf', 'write at a rate for 60 s, and tell whether the cluster keeps up')
      .addOption(
        flag('--load <size>', 's, m, l or xl: 150, 1000, 8000 or 15000 writes a second')
          .choices(Object.keys(perfLoads))
          .default('s'),
      )
      .addOption(
        flag('--prefix <text>', 'its keys begin so; those it wrote are deleted at the end').default(
          'keychaindb-check-perf/',
        ),
      )
      .action(verb((flags: PerfFlags) => checkPerf(flags, perfLoads, print))),
  );
  return command;
}

/** @param loads what `load` may name; a test has smaller ones */
export async function checkPerf(
  flags: PerfFlags,
  loads: Readonly<Record<string, PerfLoad>>,
  show: (text: string) => void,
): Promise<number> {
  const load = loads[flags.load];
  if (load === undefined) throw new KeychainError('BAD_REQUEST', `load: there is no ${flags.load}`);
  const { endpoints, timeout, output } = flags;
  const database = connect({ endpoints, timeoutMs: timeout });
  let isInterrupted = false;
  const interrupt = (): void => {
    isInterrupted = true;
  };
  process.once('SIGINT', interrupt);
  try {
    say(`${load.perSecond} writes a second by ${load.clients} clients for ${load.seconds} s`);
    const keys = Math.min(keysMax, load.perSecond * load.seconds);
    const keyAt = (index: number): string => `${flags.prefix}${index}/`.padEnd(keyBytes, 'k');
    const times = new WriteTimes();
    const seconds = await write(
      database,
      load,
      (i) => keyAt(i % keys),
      times,
      () => isInterrupted,
    );
    const written = Math.min(keys, times.count + times.failed + load.clients);
    const left = await clean(
      database,
      Array.from({ length: written }, (_, i) => keyAt(i)),
    );
    if (left > 0) say(`${left} keys that begin with ${flags.prefix} could not be deleted`);
    if (isInterrupted) return exitCodes.interrupted;
    const report = judged(load, times, seconds);
    show(
      output === 'json' ? `${JSON.stringify({ load: flags.load, ...report })}\n` : shown(report),
    );
    return report.passed ? exitCodes.ok : exitCodes.unhealthy;
  } finally {
    process.off('SIGINT', interrupt);
    database.close();
  }
}

/** Each client has one write in flight, and takes the next one when it is due. Seconds that it took. */
async function write(
  database: KeychainClient,
  load: PerfLoad,
  keyAt: (index: number) => string,
  times: WriteTimes,
  isOver: () => boolean,
): Promise<number> {
  const value = Buffer.alloc(valueBytes, 'v');
  const began = performance.now();
  const until = began + load.seconds * 1_000;
  let next = 0;
  const writer = async (): Promise<void> => {
    while (!isOver()) {
      const index = next;
      next += 1;
      const due = began + (index * 1_000) / load.perSecond;
      if (due >= until || performance.now() >= until) return;
      const early = due - performance.now();
      if (early > 0) await sleep(early);
      const sent = performance.now();
      try {
        await database.put(keyAt(index), value);
        times.took(performance.now() - sent);
      } catch {
        times.failed += 1;
      }
    }
  };
  await Promise.all(Array.from({ length: load.clients }, writer));
  return (performance.now() - began) / 1_000;
}

/** How many could not be deleted. */
async function clean(database: KeychainClient, keys: readonly string[]): Promise<number> {
  let next = 0;
  let left = 0;
  const deleter = async (): Promise<void> => {
    for (let key = keys[next]; key !== undefined; key = keys[next]) {
      next += 1;
      await database.delete(key).catch(() => {
        left += 1;
      });
    }
  };
  await Promise.all(Array.from({ length: deletersMax }, deleter));
  return left;
}

function shown({ checks, passed }: PerfReport): string {
  const rows = checks.map(({ name, value, bound, isMet }) => [
    isMet ? 'PASS' : 'FAIL',
    name,
    value,
    bound,
  ]);
  return table(['', 'WHAT', 'SEEN', 'WANTED'], [...rows, [passed ? 'PASS' : 'FAIL', 'all']]);
}

function print(text: string): void {
  process.stdout.write(text);
}

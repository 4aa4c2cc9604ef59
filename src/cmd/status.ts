import { pause, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { type StatusReport, statusReport } from '../proxy/status.js';
import { clusterVerbs } from '../retry/cluster-verbs.js';
import { coordinatorsTable } from './cluster-verbs.js';
import { exitCodes } from './exit-codes.js';
import { failed, say } from './process.js';
import { table } from './table.js';
import type { ClientFlags } from './verbs.js';

export interface StatusFlags extends ClientFlags {
  readonly watch?: boolean;
}

export interface WaitFlags extends ClientFlags {
  readonly for: WaitFor;
}

/** What `wait` waits for. */
export const waits = ['leader', 'serving', 'healthy'] as const;
export type WaitFor = (typeof waits)[number];

/** Milliseconds between two looks. */
const watchMs = 1_000;
const waitMs = 200;
/** Milliseconds that one look may take. */
const lookMs = 2_000;

type Look = () => Promise<{ readonly report: StatusReport; readonly table: string }>;

async function looking(
  flags: ClientFlags,
  timeoutMs: number,
  work: (look: Look) => Promise<number>,
): Promise<number> {
  const verbs = clusterVerbs({ addresses: flags.endpoints, clock: systemClock });
  try {
    return await work(async () => {
      const [chain, cluster] = await Promise.all([
        verbs.chainStatus(timeoutMs),
        verbs.status(timeoutMs),
      ]);
      const report = statusReport(chain, cluster);
      return { report, table: `${nodesTable(report)}\n${coordinatorsTable(cluster.coordinators)}` };
    });
  } catch (error) {
    return failed(error);
  } finally {
    verbs.close();
  }
}

/** Exit code 6 where something is wrong. */
export function status(flags: StatusFlags): Promise<number> {
  return looking(flags, flags.timeout, async (look) => {
    for (;;) {
      const { report, table: text } = await look();
      const isTerminal = flags.watch === true && process.stdout.isTTY;
      // Home, and everything below goes: what stays the same doesn't flicker.
      if (isTerminal) process.stdout.write('\u001b[H\u001b[J');
      if (flags.output === 'json') process.stdout.write(`${JSON.stringify(report)}\n`);
      else {
        process.stdout.write(`${headline(report)}\n\n${text}`);
        for (const { message, command } of report.problems) say(`problem: ${message}: ${command}`);
      }
      if (flags.watch !== true) return report.healthy ? exitCodes.ok : exitCodes.unhealthy;
      await pause(systemClock, watchMs);
    }
  });
}

function headline({ epoch, term, leader, healthy, problems }: StatusReport): string {
  const state = healthy
    ? 'healthy'
    : `${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`;
  return `${state}; epoch ${epoch}; coordinators led by ${leader || 'nobody'} in term ${term}`;
}

function nodesTable({ nodes }: StatusReport): string {
  const header = ['NODE', 'ADDRESS', 'STATE', 'ROLE', 'REVISION', 'WATERMARK', 'LAG', 'STAGED'];
  const shown = (value: string | number | null): string => (value === null ? '-' : String(value));
  return table(
    [...header, 'LEASE', 'INCARNATION', 'SINCE', 'VERSION'],
    nodes.map((n) => [
      ...[
        n.id,
        n.address,
        n.drained ? `${n.state} (drained)` : n.state,
        n.role,
        shown(n.revision),
        shown(n.watermark),
        shown(n.lag),
      ],
      ...[shown(n.stagedKeys), leaseOf(n.leaseMs), n.incarnation, n.since, n.version],
    ]),
  );
}

/** Of one that is alone there is no end. */
function leaseOf(leaseMs: number | null): string {
  if (leaseMs === null) return '-';
  if (leaseMs >= 1e9) return 'alone';
  return leaseMs === 0 ? 'none' : `${leaseMs} ms`;
}

/** Resolves with 0 when it is so; 6 where it isn't within --timeout, with what is wrong then. */
export function wait(flags: WaitFlags): Promise<number> {
  const until = systemClock.monotonic() + flags.timeout;
  return looking(flags, lookMs, async (look) => {
    let last = '';
    for (;;) {
      try {
        const { report } = await look();
        if (isSo(report, flags.for)) {
          if (flags.output === 'json') process.stdout.write(`${JSON.stringify(report)}\n`);
          else say(headline(report));
          return exitCodes.ok;
        }
        last = report.problems.map(({ message }) => message).join('; ');
      } catch (error) {
        last = KeychainError.from(error).message;
      }
      if (systemClock.monotonic() + waitMs >= until) {
        say(`not ${flags.for} within ${flags.timeout / 1_000} s: ${last}`);
        return exitCodes.unhealthy;
      }
      await pause(systemClock, waitMs);
    }
  });
}

export function isSo(report: StatusReport, wanted: WaitFor): boolean {
  switch (wanted) {
    case 'leader':
      return report.leader !== '';
    case 'serving':
      // A coordinator that has just started shows who serves before it hears them.
      return report.nodes.some((n) => n.state === 'SERVING' && n.activeEpoch !== null);
    case 'healthy':
      return report.healthy;
  }
}

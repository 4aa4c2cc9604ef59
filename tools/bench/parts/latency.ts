import { type DriverPlan, drive } from '../generators/driver.js';
import type { Latency } from '../generators/generator.js';
import { median } from '../median.js';
import { type Found, ms } from '../report.js';
import type { Settings } from '../settings.js';
import type { Door } from '../systems/system.js';
import { type Contenders, planOf } from './contenders.js';

const parts = [0.1, 0.5, 0.8] as const;

interface LatencyRow {
  readonly system: string;
  readonly kind: 'read' | 'write';
  readonly load: string;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
}

/**
 * One in flight, and open loops at parts of what each system can do by the same generator. Open loops count from the
 * time at which an operation was due.
 */
export async function latency(on: Contenders, settings: Settings): Promise<Found> {
  const doors = [on.own.proxy, ...(on.etcd === undefined ? [] : [on.etcd.leader])];
  const rows: LatencyRow[] = [];
  for (const kind of ['read', 'write'] as const) {
    const full = new Map<Door, number>();
    for (const door of doors) {
      const done = await drive(planFor(door, kind, settings), settings.node);
      full.set(door, done.answered / done.seconds);
    }
    const loads = [
      { name: '1 in flight', loop: () => ({ inFlight: 1 }) },
      ...parts.map((part) => ({
        name: `${part * 100} % of ${kind === 'read' ? 'its reads' : 'its writes'}`,
        loop: (door: Door) => ({ perSecond: Math.max(1, (full.get(door) ?? 0) * part) }),
      })),
    ];
    for (const { name, loop } of loads) {
      const seen = doors.map((): { latency: Latency; perSecond: number }[] => []);
      for (let round = 0; round < settings.rounds; round += 1) {
        for (const [index, door] of doors.entries()) {
          const plan = { ...planFor(door, kind, settings), loop: loop(door) };
          const done = await drive(plan, settings.node);
          if (done.latency !== undefined) {
            seen[index]?.push({ latency: done.latency, perSecond: done.answered / done.seconds });
          }
        }
      }
      for (const [index, door] of doors.entries()) {
        const own = seen[index] ?? [];
        const row = {
          system: door.name,
          kind,
          load: name,
          perSecond: median(own.map(({ perSecond }) => perSecond)),
          p50: median(own.map((one) => one.latency.p50)),
          p99: median(own.map((one) => one.latency.p99)),
        };
        rows.push(row);
        settings.say(`${kind}, ${name}, ${door.name}: ${ms(row.p50)}, ${ms(row.p99)}`);
      }
    }
  }
  return {
    title: 'Latency (our generator; open loops count from when an operation was due)',
    header: ['', 'load', 'system', 'operations/s', 'p50', 'p99'],
    rows: rows.map((row) => [
      row.kind,
      row.load,
      row.system,
      `${Math.round(row.perSecond)}`,
      ms(row.p50),
      ms(row.p99),
    ]),
    data: rows,
  };
}

function planFor(door: Door, kind: 'read' | 'write', settings: Settings): DriverPlan {
  return { ...planOf(door, settings), readPart: kind === 'read' ? 1 : 0 };
}

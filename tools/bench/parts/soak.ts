import { usage } from '../../lab/usage.js';
import { drive, vanish } from '../generators/driver.js';
import { type End, slowHttp, slowSession, slowUnary } from '../generators/slow-client.js';
import { median } from '../median.js';
import { protocols } from '../protocols.js';
import type { Found } from '../report.js';
import type { Settings } from '../settings.js';
import { unary } from '../systems/system.js';
import { fill, ownCluster, planOf, released } from './contenders.js';

/** Growth from the second quarter to the last one up to which a process counts as flat: a part, and MB. */
const flat = { part: 0.1, mb: 20 } as const;
const largeKey = 'soak/large';

/** Memory of every process at saturation, while clients read nothing and others vanish. */
export async function soak(settings: Settings): Promise<Found> {
  const own = await ownCluster(settings);
  const ends: End[] = [];
  try {
    await fill(own.proxy, settings);
    const [grpc = '', http = ''] = [own.proxy.grpc[0], own.proxy.http[0]];
    const large = Buffer.alloc(100_000, 'L');
    await unary(grpc, protocols.keychaindb.putPath, protocols.keychaindb.put(largeKey, large));
    const minutes = settings.soakMinutes;
    const seconds = minutes * 60;
    const plan = { ...planOf(own.proxy, settings), readPart: 0.5, seconds };
    const samples = new Map<string, number[]>(own.processes.map(({ id }) => [id, []]));
    const until = performance.now() + seconds * 1_000;
    const timer = setInterval(() => {
      for (const { id, pid } of own.processes) samples.get(id)?.push(usage(pid).memoryMb);
    }, 1_000);
    const slow = (): void => {
      for (const end of ends.splice(0)) end();
      for (let i = 0; i < 4; i += 1) {
        ends.push(slowUnary(grpc, largeKey, 50));
        ends.push(slowSession(grpc, largeKey, 100));
        ends.push(slowHttp(http, largeKey, 50));
      }
    };
    slow();
    // Slow ones give way to other slow ones, so that what a server keeps for one that is gone would show.
    const slowTimer = setInterval(slow, 10_000);
    const vanishing = async (): Promise<number> => {
      let count = 0;
      while (performance.now() < until - 2_000) {
        await vanish({ ...plan, loop: { inFlight: 64 } }, 1_500, settings.node);
        count += 1;
      }
      return count;
    };
    const [done, vanished] = await Promise.all([drive(plan, settings.node), vanishing()]);
    clearInterval(timer);
    clearInterval(slowTimer);
    const rows = own.processes.map(({ id }) => memoryOf(id, samples.get(id) ?? []));
    return {
      title: `Memory over ${minutes} minutes at saturation (resident, MB)`,
      header: ['process', '1st quarter', '2nd', '3rd', 'last', 'most', 'flat'],
      rows: rows.map(({ id, quarters, most, isFlat }) => [
        id,
        ...quarters.map((mb) => `${Math.round(mb)}`),
        `${Math.round(most)}`,
        isFlat ? 'yes' : 'no',
      ]),
      notes: [
        `${Math.round(done.answered / done.seconds)} operations/s, ${done.failed} failed (${JSON.stringify(done.codes)}); ${vanished} clients vanished; twelve clients at a time read nothing.`,
      ],
      data: { rows, operations: done, vanished },
      figures: { 'processes that grow': rows.filter(({ isFlat }) => !isFlat).length },
    };
  } finally {
    for (const end of ends) end();
    await released(own);
  }
}

export interface Memory {
  readonly id: string;
  /** Medians. */
  readonly quarters: readonly number[];
  readonly most: number;
  readonly isFlat: boolean;
}

/** Whether a process grew after it had its load for a quarter of the time. @param samples MB, evenly spaced */
export function memoryOf(id: string, samples: readonly number[]): Memory {
  const quarter = Math.max(1, Math.floor(samples.length / 4));
  const quarters = [0, 1, 2, 3].map((i) =>
    median(i === 3 ? samples.slice(3 * quarter) : samples.slice(i * quarter, (i + 1) * quarter)),
  );
  const [, second = 0, , last = 0] = quarters;
  const isFlat = last - second <= Math.max(flat.mb, second * flat.part);
  return { id, quarters, most: Math.max(...samples), isFlat };
}

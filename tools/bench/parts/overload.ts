import { drive } from '../generators/driver.js';
import { h2load } from '../generators/h2load.js';
import { keyOf } from '../generators/keys.js';
import { type Found, ms } from '../report.js';
import type { Settings } from '../settings.js';
import { type Counts, protocolOf } from '../systems/system.js';
import { difference } from '../trial.js';
import { fill, freshValue, ownCluster, planOf, released } from './contenders.js';

/** Calls in flight: more than a proxy lets wait (8,192). */
const inFlight = { connections: 100, streams: 100 } as const;

/** More calls at once than a proxy takes: what it answers, how fast, and whether it is well right afterwards. */
export async function overload(settings: Settings): Promise<Found> {
  const own = await ownCluster(settings);
  try {
    const door = own.proxy;
    await fill(door, settings);
    const protocol = protocolOf(door);
    const alone = {
      ...planOf(door, settings),
      connections: 1,
      loop: { inFlight: 1 },
      readPart: 0.5,
    };
    const before = await drive(alone, settings.node);
    const countsBefore = await door.counts();
    const message = protocol.put(keyOf(0), freshValue(settings.valueBytes));
    const probe = { ...alone, loop: { perSecond: 20 }, seconds: settings.seconds };
    const [flood, during] = await Promise.all([
      h2load({
        ...{ addresses: door.grpc, path: protocol.putPath, message },
        ...{ ...inFlight, seconds: settings.seconds },
      }),
      drive(probe, settings.node),
    ]);
    const counts: Counts = difference(await door.counts(), countsBefore);
    const after = await drive({ ...alone, seconds: 1, warmUpSeconds: 0 }, settings.node);
    const { OK: ok = 0, RESOURCE_EXHAUSTED: refused = 0, ...others } = counts;
    const row = (name: string, one: typeof before): readonly string[] => [
      name,
      `${one.answered}`,
      one.latency === undefined ? '' : `${ms(one.latency.p50)}, ${ms(one.latency.p99)}`,
      `${one.failed} ${JSON.stringify(one.codes)}`,
      one.failedLatency === undefined || one.failedLatency.count === 0
        ? ''
        : `${ms(one.failedLatency.p50)}, ${ms(one.failedLatency.p99)}`,
    ];
    return {
      title: `Overload: ${inFlight.connections * inFlight.streams} writes in flight at one proxy`,
      header: ['one client beside', 'OK', 'p50, p99', 'refused', 'p50, p99 of refusals'],
      rows: [
        row('before', before),
        row('while it is flooded', during),
        row('in the second after', after),
      ],
      notes: [
        `The flood: ${Math.round(ok / flood.seconds)} OK/s, ${Math.round(refused / flood.seconds)} RESOURCE_EXHAUSTED/s, others ${JSON.stringify(others)}.`,
      ],
      data: { before, during, after, counts },
      figures: {
        'refused for overload': refused,
        'failed in the second after an overload': after.failed,
      },
    };
  } finally {
    await released(own);
  }
}

import { alternate, type Case } from '../comparison.js';
import { drive } from '../generators/driver.js';
import { h2load } from '../generators/h2load.js';
import type { KeyChoice } from '../generators/keys.js';
import { comparisonTable, type Found } from '../report.js';
import type { Settings } from '../settings.js';
import { type Door, protocolOf } from '../systems/system.js';
import { trial } from '../trial.js';
import { type Contenders, freshValue, planOf } from './contenders.js';

/** Reads and writes mixed, over many keys, by our generator: unary calls at both. */
export async function* mixes(on: Contenders, settings: Settings): AsyncGenerator<Found> {
  for (const readPart of [0.95, 0.5]) {
    for (const choice of ['uniform', 'zipf'] satisfies KeyChoice[]) {
      const title = `${Math.round(readPart * 100)} % reads, ${choice} keys (our generator)`;
      settings.say(title);
      const cases = doors(on).map(([door, isPeer]): Case => {
        const plan = planOf(door, settings);
        const keys = { choice, count: settings.keys };
        return {
          name: door.name,
          isPeer,
          run: () =>
            trial(door, (begin) => drive({ ...plan, readPart, keys }, settings.node, begin)),
        };
      });
      const rows = await alternate(cases, settings, settings.say);
      yield comparisonTable(title, 'operations', rows);
    }
  }
}

/** Values of 16 bytes to 100 KB, one key. */
export async function* sizes(on: Contenders, settings: Settings): AsyncGenerator<Found> {
  for (const valueBytes of [16, 500, 5_000, 100_000]) {
    // Read after it was written with this size.
    for (const kind of ['writes', 'reads'] as const) {
      const title = `Unary ${kind}, values of ${valueBytes} bytes (h2load)`;
      settings.say(title);
      const cases = doors(on).map(([door, isPeer]): Case => {
        const protocol = protocolOf(door);
        const path = kind === 'reads' ? protocol.getPath : protocol.putPath;
        const run = () => {
          const key = `sized/${valueBytes}`;
          const message =
            kind === 'reads' ? protocol.get(key) : protocol.put(key, freshValue(valueBytes));
          return trial(door, () => h2load({ addresses: door.grpc, path, message, ...settings }));
        };
        return { name: door.name, isPeer, run };
      });
      const rows = await alternate(cases, settings, settings.say);
      yield comparisonTable(title, kind, rows);
    }
  }
}

export function doors({
  own,
  etcd,
}: Contenders): readonly (readonly [door: Door, isPeer: boolean])[] {
  return etcd === undefined
    ? [[own.proxy, false]]
    : [
        [own.proxy, false],
        [etcd.leader, true],
        [etcd.all, true],
      ];
}

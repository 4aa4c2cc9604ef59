import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { inspectNode } from '../../lab/inspect.js';
import { drive } from '../generators/driver.js';
import { h2load } from '../generators/h2load.js';
import { keyOf } from '../generators/keys.js';
import { type Found, ms, ratio } from '../report.js';
import type { Settings } from '../settings.js';
import { type Door, protocolOf } from '../systems/system.js';
import { fill, freshValue, ownCluster, planOf, released } from './contenders.js';

/** What an empty node that syncs costs the writes of a chain of two, and how fast it catches up. */
export async function sync(settings: Settings): Promise<Found> {
  const keys = settings.syncKeys;
  const own = await ownCluster(settings);
  const { lab, proxy } = own;
  try {
    settings.say(`writing ${keys} keys`);
    await fill(proxy, { ...settings, keys });
    const joiner = lab.named('node-3');
    const rest = ['node-1', 'node-2'];
    await lab.kill(joiner.id);
    await lab.serving(rest);
    for (const name of await readdir(joiner.dataDir)) {
      await rm(join(joiner.dataDir, name), { recursive: true });
    }
    const load = new WriteLoad(proxy, settings);
    await load.rateFor(settings.seconds);
    const before = await load.rateFor(settings.seconds * 2);
    const started = performance.now();
    lab.start(joiner.id);
    const during = await load.rateUntil(lab.serving([...rest, joiner.id], 300_000));
    const tookMs = performance.now() - started;
    const after = await load.rateFor(settings.seconds * 2);
    await load.end();
    const synced = (await inspectNode(joiner.grpc, false)).entriesAppended;
    const left = during / before;
    return {
      title: `A node of nothing joins, ${keys} keys of ${settings.valueBytes} bytes`,
      header: ['', ''],
      rows: [
        ['writes/s of two nodes before', `${Math.round(before)}`],
        ['writes/s while it syncs', `${Math.round(during)}, ${ratio(left)}`],
        ['writes/s of three nodes after', `${Math.round(after)}`],
        ['from its start until it serves', ms(tookMs)],
        ['keys caught up a second', `${Math.round(keys / (tookMs / 1_000))}`],
        ['entries that it appended', `${synced}`],
      ],
      data: { keys, before, during, after, tookMs, synced },
      figures: { 'writes beside a syncing node': left },
    };
  } finally {
    await released(own);
  }
}

/** Writes by h2load for as long as it is wanted. */
class WriteLoad {
  readonly #door: Door;
  #isWanted = true;
  readonly #running: Promise<void>;

  constructor(door: Door, settings: Settings) {
    this.#door = door;
    const { putPath: path, put } = protocolOf(door);
    const message = put(keyOf(0), freshValue(settings.valueBytes));
    const run = async (): Promise<void> => {
      while (this.#isWanted) {
        await h2load({ ...settings, addresses: door.grpc, path, message, seconds: 1 });
      }
    };
    this.#running = run();
    this.#running.catch(() => undefined);
  }

  rateFor(seconds: number): Promise<number> {
    return this.rateUntil(new Promise((resolve) => setTimeout(resolve, seconds * 1_000)));
  }

  async rateUntil(over: Promise<unknown>): Promise<number> {
    const [before, began] = [await this.#written(), performance.now()];
    await over;
    return ((await this.#written()) - before) / ((performance.now() - began) / 1_000);
  }

  async #written(): Promise<number> {
    return (await this.#door.counts())['OK'] ?? 0;
  }

  async end(): Promise<void> {
    this.#isWanted = false;
    await this.#running;
  }
}

/** How long a node with so many keys takes to be back: its process killed, started, and answering. */
export async function restart(settings: Settings): Promise<Found> {
  const keys = settings.restartKeys;
  const own = await ownCluster(settings, { nodes: 1 });
  const { lab, proxy } = own;
  try {
    settings.say(`writing ${keys} keys`);
    const began = performance.now();
    await fill(proxy, { ...settings, keys });
    const filledMs = performance.now() - began;
    const times: number[] = [];
    const last = {
      ...planOf(proxy, settings),
      seconds: 0.05,
      warmUpSeconds: 0,
      loop: { inFlight: 1 },
    };
    for (let round = 0; round < settings.rounds; round += 1) {
      await lab.kill('node-1');
      const killed = performance.now();
      lab.start('node-1');
      // A read through the proxy waits until the node serves.
      const answered = await drive(
        { ...last, keys: { choice: 'uniform', count: keys } },
        settings.node,
      );
      if (answered.answered === 0) throw new Error(`no answer: ${JSON.stringify(answered.codes)}`);
      times.push(performance.now() - killed);
    }
    const worst = Math.max(...times);
    return {
      title: `Restart of a node with ${keys} keys of ${settings.valueBytes} bytes`,
      header: ['', ''],
      rows: [
        ['writing them, keys/s', `${Math.round(keys / (filledMs / 1_000))}`],
        ['killed, started, answering', times.map(ms).join(', ')],
      ],
      data: { keys, times, filledMs },
      figures: { [`seconds to restart with ${keys} keys`]: worst / 1_000 },
    };
  } finally {
    await released(own);
  }
}

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const bits = 24;
/** Who starts a lab, and its clients: outside of the namespaces, at the bridge. */
export const outside = 'outside';

interface Place {
  readonly id: string;
  readonly address: string;
  readonly mac: string;
  /** Options of `ip` that name its namespace; none outside. */
  readonly at: readonly string[];
  readonly device: string;
}

/**
 * Network namespaces on one bridge of this machine, one for each process. What goes from one to another can be cut, each
 * direction by itself, and without a sign: the neighbour entry of the sender names a MAC address that nobody has.
 */
export class Network {
  readonly #prefix: string;
  readonly #places: readonly Place[];

  private constructor(prefix: string, places: readonly Place[]) {
    this.#prefix = prefix;
    this.#places = places;
  }

  /** Why there can't be one on this machine; undefined where there can. */
  static async obstacle(): Promise<string | undefined> {
    if (process.getuid?.() !== 0) return 'network namespaces need root';
    const name = `chaos-probe-${process.pid}`;
    try {
      await ip('netns', 'add', name);
      await ip('-n', name, 'link', 'add', 'probe', 'type', 'bridge');
      await ip('-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two');
      return undefined;
    } catch (error) {
      return `network namespaces: ${error instanceof Error ? error.message.trim() : String(error)}`;
    } finally {
      await ip('netns', 'del', name).catch(() => undefined);
    }
  }

  static async open(ids: readonly string[]): Promise<Network> {
    const prefix = `chaos${process.pid}`;
    const subnet = `10.213.${process.pid % 256}`;
    const bridge: Place = {
      id: outside,
      address: `${subnet}.254`,
      mac: mac(254),
      at: [],
      device: prefix,
    };
    const inside = ids.map((id, index) => ({
      id,
      address: `${subnet}.${index + 1}`,
      mac: mac(index + 1),
      at: ['-n', `${prefix}-${id}`],
      device: 'eth0',
    }));
    const network = new Network(prefix, [bridge, ...inside]);
    try {
      await network.#addBridge(bridge);
      for (const [index, place] of inside.entries()) await network.#add(place, index + 1);
    } catch (error) {
      await network.close();
      throw error;
    }
    return network;
  }

  address(id: string): string {
    return this.#place(id).address;
  }

  /** A command line that runs a command in the namespace of this process; it keeps its pid. */
  inside(id: string, argv: readonly string[]): readonly string[] {
    return ['ip', 'netns', 'exec', this.#namespace(id), ...argv];
  }

  /** Nothing that `from` sends reaches `to` any more. */
  cut(from: string, to: string): Promise<void> {
    return this.#pointAt(from, to, mac(255));
  }

  heal(from: string, to: string): Promise<void> {
    return this.#pointAt(from, to, this.#place(to).mac);
  }

  async close(): Promise<void> {
    for (const [index, { id }] of this.#places.entries()) {
      if (id === outside) continue;
      // A namespace lives on as long as a process in it: its cable goes first.
      await ip('link', 'del', this.#port(index)).catch(() => undefined);
      await ip('netns', 'del', this.#namespace(id)).catch(() => undefined);
    }
    await ip('link', 'del', this.#prefix).catch(() => undefined);
  }

  async #addBridge({ address, mac: hardware, device }: Place): Promise<void> {
    await ip('link', 'add', device, 'address', hardware, 'type', 'bridge');
    await ip('addr', 'add', `${address}/${bits}`, 'dev', device);
    await ip('link', 'set', device, 'up');
  }

  async #add({ id, address, mac: hardware, at, device }: Place, index: number): Promise<void> {
    const namespace = this.#namespace(id);
    const port = this.#port(index);
    await ip('netns', 'add', namespace);
    const peer = ['peer', 'name', device, 'address', hardware, 'netns', namespace];
    await ip('link', 'add', port, 'type', 'veth', ...peer);
    await ip('link', 'set', port, 'master', this.#prefix, 'up');
    await ip(...at, 'addr', 'add', `${address}/${bits}`, 'dev', device);
    await ip(...at, 'link', 'set', device, 'up');
    await ip(...at, 'link', 'set', 'lo', 'up');
  }

  async #pointAt(from: string, to: string, hardware: string): Promise<void> {
    const { at, device } = this.#place(from);
    const entry = [this.address(to), 'lladdr', hardware, 'dev', device, 'nud', 'permanent'];
    await ip(...at, 'neigh', 'replace', ...entry);
  }

  #place(id: string): Place {
    const found = this.#places.find((place) => place.id === id);
    if (found === undefined) throw new Error(`there is no place ${id}`);
    return found;
  }

  /** The end of the cable at the bridge. */
  #port(index: number): string {
    return `${this.#prefix}.${index}`;
  }

  #namespace(id: string): string {
    return `${this.#prefix}-${id}`;
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  await run('ip', args);
}

/** Locally administered addresses: nobody else's. */
function mac(last: number): string {
  return `02:00:00:00:00:${last.toString(16).padStart(2, '0')}`;
}

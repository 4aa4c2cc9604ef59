import { Lab, type LabOptions, type LabProcess } from '../../lab/cluster.js';
import { type Counts, countsOf, type Door, metricsText, type System } from './system.js';

/** Our cluster: by default three coordinators, three nodes, a proxy, as a user gets them. */
export class Keychaindb implements System {
  readonly name = 'keychaindb';
  readonly lab: Lab;

  private constructor(lab: Lab) {
    this.lab = lab;
  }

  static async start(options: LabOptions = {}): Promise<Keychaindb> {
    return new Keychaindb(await Lab.start(options));
  }

  get processes(): readonly LabProcess[] {
    return this.lab.processes;
  }

  get proxy(): Door {
    return this.#door('keychaindb, proxy', this.lab.of('proxy'));
  }

  /** Reads at every node in turn: a node's KV answers Get itself. */
  get nodes(): Door {
    return this.#door('keychaindb, nodes', this.lab.of('node'));
  }

  #door(name: string, asked: readonly LabProcess[]): Door {
    return {
      name,
      protocol: 'keychaindb',
      grpc: asked.map(({ grpc }) => grpc),
      http: asked.map(({ http }) => http),
      processes: this.processes,
      counts: () => counted(asked),
    };
  }

  stop(): Promise<void> {
    return this.lab.stop();
  }
}

async function counted(asked: readonly LabProcess[]): Promise<Counts> {
  const texts = await Promise.all(asked.map(({ http }) => metricsText(http)));
  return countsOf(texts, 'keychaindb_requests_total', 'code', /verb="(get|put)"/);
}

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Counts,
  countsOf,
  type Door,
  metricsText,
  type ServerProcess,
  type System,
} from './system.js';

const members = 3;
const readyMs = 20_000;

/** What `etcd --version` says first; undefined where there is none. */
export function etcdVersion(): string | undefined {
  const { stdout, status } = spawnSync('etcd', ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n')[0]?.replace('etcd Version: ', '') : undefined;
}

/** Three members of etcd on this machine, as Debian builds it, each with a real folder and synced writes. */
export class Etcd implements System {
  readonly name = 'etcd';
  readonly processes: readonly ServerProcess[];
  readonly #children: readonly ChildProcess[];
  readonly #addresses: readonly string[];
  readonly #dir: string;
  readonly #leader: number;

  private constructor(
    children: readonly ChildProcess[],
    addresses: readonly string[],
    dir: string,
    leader: number,
  ) {
    this.#children = children;
    this.#addresses = addresses;
    this.#dir = dir;
    this.#leader = leader;
    this.processes = children.map(({ pid = 0 }, i) => ({ id: nameOf(i), role: 'member', pid }));
  }

  static async start(): Promise<Etcd> {
    const dir = await mkdtemp(join(tmpdir(), 'keychaindb-bench-etcd-'));
    const ports = await freePorts(members * 2);
    const addresses = ports.slice(0, members).map((port) => `127.0.0.1:${port}`);
    const peers = ports.slice(members).map((port) => `http://127.0.0.1:${port}`);
    const cluster = peers.map((url, i) => `${nameOf(i)}=${url}`).join(',');
    const children = addresses.map((address, i) =>
      spawn(
        'setpriv',
        [
          // It knows no parent: the kernel ends it when whoever started it is gone.
          ...['--pdeathsig', 'KILL', 'etcd'],
          ...['--name', nameOf(i), '--data-dir', join(dir, nameOf(i))],
          ...['--listen-client-urls', `http://${address}`],
          ...['--advertise-client-urls', `http://${address}`],
          ...[
            '--listen-peer-urls',
            peers[i] ?? '',
            '--initial-advertise-peer-urls',
            peers[i] ?? '',
          ],
          ...['--initial-cluster', cluster, '--initial-cluster-state', 'new'],
          // As it comes, but for its log, and for the room that a long run needs.
          ...['--logger', 'zap', '--log-level', 'error', '--quota-backend-bytes', `${8 * 2 ** 30}`],
        ],
        { stdio: 'ignore' },
      ),
    );
    try {
      const leader = await ready(addresses);
      return new Etcd(children, addresses, dir, leader);
    } catch (error) {
      await end(children, dir);
      throw error;
    }
  }

  get leader(): Door {
    return this.#door('etcd, leader', [this.#addresses[this.#leader] ?? '']);
  }

  /** Connections spread over the members, as etcd's own client does. */
  get all(): Door {
    return this.#door('etcd, all members', this.#addresses);
  }

  #door(name: string, asked: readonly string[]): Door {
    return {
      name,
      protocol: 'etcd',
      grpc: asked,
      http: asked,
      processes: this.processes,
      counts: () => counted(this.#addresses),
    };
  }

  stop(): Promise<void> {
    return end(this.#children, this.#dir);
  }
}

async function end(children: readonly ChildProcess[], dir: string): Promise<void> {
  const running = children.filter((child) => child.exitCode === null && child.pid !== undefined);
  await Promise.all(
    running.map((child) => {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      return exited;
    }),
  );
  await rm(dir, { recursive: true, force: true });
}

function nameOf(index: number): string {
  return `etcd-${index + 1}`;
}

/** Which member leads, once there is one that all are healthy under. */
async function ready(addresses: readonly string[]): Promise<number> {
  const until = performance.now() + readyMs;
  while (performance.now() < until) {
    try {
      const texts = await Promise.all(addresses.map((address) => metricsText(address, 1)));
      const isWhole = texts.every((text) => /^etcd_server_has_leader 1$/m.test(text));
      const leader = texts.findIndex((text) => /^etcd_server_is_leader 1$/m.test(text));
      if (isWhole && leader >= 0) return leader;
    } catch {
      // It doesn't listen yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`etcd had no leader within ${readyMs} ms`);
}

async function counted(addresses: readonly string[]): Promise<Counts> {
  const texts = await Promise.all(addresses.map((address) => metricsText(address)));
  return countsOf(
    texts,
    'grpc_server_handled_total',
    'grpc_code',
    /grpc_method="(Range|Put)".*grpc_service="etcdserverpb.KV"/,
  );
}

/** Ports that are free now. */
async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(
    servers.map((server) => new Promise<void>((done) => server.listen(0, '127.0.0.1', done))),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

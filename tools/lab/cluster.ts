import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connect, type KeychainClient, type View } from '../../src/client/client.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';

/** A process of the cluster, as cluster.json names it. */
export interface LabProcess {
  readonly role: 'coordinator' | 'node' | 'proxy';
  readonly id: string;
  readonly grpc: string;
  readonly http: string;
  readonly dataDir: string;
  readonly argv: readonly string[];
  pid: number;
}

export interface LabOptions {
  readonly nodes?: number;
  readonly coordinators?: number;
  readonly proxies?: number;
  /** Of each proxy. */
  readonly workers?: number;
  /** Kept by the caller; without it a temporary folder that `stop` removes. */
  readonly dataDir?: string;
  readonly args?: readonly string[];
  /** Another version's binary that it begins with; what is started again runs the one that was built beside this. */
  readonly from?: string;
  /** The Node that runs the processes. */
  readonly execPath?: string;
  /** Besides this process' own. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The binary, as it was built beside this. */
export const main = fileURLToPath(new URL('../../src/cmd/main.js', import.meta.url));

/** A cluster of real processes on free ports of this machine: for integration tests and scripts. */
export class Lab {
  readonly processes: readonly LabProcess[];
  readonly dir: string;
  /** Milliseconds from the start of the demo until it was ready. */
  readonly readyMs: number;
  readonly #demo: ChildProcess | undefined;
  readonly #removesDir: boolean;
  readonly #started = new Map<string, ChildProcess>();
  readonly #clients: KeychainClient[] = [];

  private constructor(
    demo: ChildProcess | undefined,
    processes: readonly LabProcess[],
    dir: string,
    removesDir: boolean,
    readyMs: number,
  ) {
    this.#demo = demo;
    this.processes = processes;
    this.dir = dir;
    this.#removesDir = removesDir;
    this.readyMs = readyMs;
  }

  static async start(options: LabOptions = {}): Promise<Lab> {
    const dir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'keychaindb-')));
    const args = ['demo', '--json', '--data-dir', dir];
    args.push('--base-port', '0', '--grpc-port', '0', '--http-port', '0');
    args.push('--nodes', `${options.nodes ?? 3}`, '--coordinators', `${options.coordinators ?? 3}`);
    args.push('--proxies', `${options.proxies ?? 1}`);
    // An older version has no such flag.
    if (options.workers !== undefined) args.push('--workers', `${options.workers}`);
    args.push(...(options.args ?? []));
    const begun = performance.now();
    const demo = spawn(options.execPath ?? process.execPath, [options.from ?? main, ...args], {
      // Over IPC it notices when whoever started it is gone, and ends with all of its processes.
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: { ...process.env, ...options.env },
    });
    let errors = '';
    demo.stderr?.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const started = new Promise<string>((resolve, reject) => {
      if (demo.stdout !== null) createInterface({ input: demo.stdout }).once('line', resolve);
      demo.once('exit', (code) => reject(new Error(`the demo ended (${code}): ${errors}`)));
    });
    const line = await started.catch(async (error: unknown) => {
      if (options.dataDir === undefined) await removed(dir);
      throw error;
    });
    const begins = JSON.parse(line) as { processes: LabProcess[] };
    const processes = begins.processes.map((each) => ({
      ...each,
      argv: each.argv.map((word) => (word === options.from ? main : word)),
    }));
    const readyMs = performance.now() - begun;
    return new Lab(demo, processes, dir, options.dataDir === undefined, readyMs);
  }

  /** A lab without a demo: its processes run once `start` was called for each. `stop` leaves the folder. */
  static around(processes: readonly LabProcess[], dir: string): Lab {
    return new Lab(undefined, processes, dir, false, 0);
  }

  of(role: LabProcess['role']): readonly LabProcess[] {
    return this.processes.filter((process_) => process_.role === role);
  }

  named(id: string): LabProcess {
    const found = this.processes.find((process_) => process_.id === id);
    if (found === undefined) throw new Error(`there is no process ${id}`);
    return found;
  }

  /** A client of the proxies, or of other addresses; closed by `stop`. */
  client(
    options: { readonly endpoints?: readonly string[]; readonly timeoutMs?: number } = {},
  ): KeychainClient {
    const endpoints = options.endpoints ?? this.of('proxy').map(({ grpc }) => grpc);
    const { timeoutMs } = options;
    const client = connect(timeoutMs === undefined ? { endpoints } : { endpoints, timeoutMs });
    this.#clients.push(client);
    return client;
  }

  signal(id: string, signal: NodeJS.Signals): void {
    process.kill(this.named(id).pid, signal);
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(id: string): Promise<void> {
    this.signal(id, 'SIGKILL');
    await this.gone(id);
  }

  /** Resolves when the process is gone. */
  gone(id: string): Promise<void> {
    return gone(this.named(id).pid);
  }

  /** Starts a process again with the line that cluster.json names. Its messages go to `output`, a file. */
  start(id: string, output?: number): void {
    const process_ = this.named(id);
    const [command = '', ...args] = process_.argv;
    const stdio = ['ignore', output ?? 'ignore', output ?? 'inherit', 'ipc'] as const;
    const child = spawn(command, args, { stdio: [...stdio] });
    process_.pid = child.pid ?? 0;
    this.#started.set(id, child);
  }

  /** A process that was started beside: it is the lab's from now on. */
  adopt(id: string, child: ChildProcess): void {
    this.named(id).pid = child.pid ?? 0;
    this.#started.set(id, child);
  }

  /** Resolves when the view, as the coordinators show it, is as wanted. */
  async until(
    what: string,
    isSo: (view: View) => boolean | Promise<boolean>,
    timeoutMs = 30_000,
  ): Promise<View> {
    const client = this.client({
      endpoints: this.of('coordinator').map(({ grpc }) => grpc),
      timeoutMs: 2_000,
    });
    const deadline = performance.now() + timeoutMs;
    let last: unknown;
    while (performance.now() < deadline) {
      try {
        const view = await client.members();
        last = view;
        if (await isSo(view)) return view;
      } catch (error) {
        last = error;
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`not within ${timeoutMs} ms: ${what}; last: ${JSON.stringify(last)}`);
  }

  /** Resolves when exactly these nodes serve. */
  serving(ids: readonly string[], timeoutMs?: number): Promise<View> {
    const wanted = [...ids].sort().join();
    return this.until(
      `${wanted} serve`,
      (view) => servingIds(view).sort().join() === wanted && view.members.length === ids.length,
      timeoutMs,
    );
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    for (const process_ of this.processes) {
      try {
        process.kill(process_.pid, 'SIGCONT');
      } catch {
        // It is gone already.
      }
    }
    for (const child of this.#started.values()) child.kill('SIGKILL');
    await Promise.all([...this.#started.values()].map((child) => gone(child.pid ?? 0)));
    const demo = this.#demo;
    if (demo !== undefined && demo.exitCode === null) {
      const ended = new Promise((resolve) => demo.once('exit', resolve));
      demo.kill('SIGTERM');
      await ended;
    }
    if (this.#removesDir) await removed(this.dir);
  }
}

/** A process that is ending may write its last bytes yet. */
function removed(dir: string): Promise<void> {
  return rm(dir, { recursive: true, force: true, maxRetries: 5 });
}

export function servingIds(view: View): string[] {
  return view.members.filter((m) => m.state === MemberState.SERVING).map((m) => m.id);
}

/** Resolves when no process of this id runs any more. */
async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

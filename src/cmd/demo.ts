import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, open, rename, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Cancel, pause, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { CoordinatorService, MemberState, type View } from '../gen/keychaindb/v1/coordinator.js';
import { clusterVerbs } from '../retry/cluster-verbs.js';
import { Connections, dialServerStream } from '../wire/grpc-channel.js';
import { type Jaeger, startJaeger } from './jaeger.js';
import type { CacheFlags, CompactionFlags, LimitFlags, TimingFlags } from './options.js';
import { type ReadyNotice, say, untilStopped } from './process.js';
import { table } from './table.js';
import { type TelemetryFlags, telemetryArgs } from './telemetry-flags.js';

export interface DemoFlags
  extends TimingFlags,
    LimitFlags,
    CacheFlags,
    CompactionFlags,
    TelemetryFlags {
  readonly coordinators: number;
  readonly nodes: number;
  readonly proxies: number;
  /** Of each proxy. */
  readonly workers: number;
  readonly dataDir: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly basePort: number;
  readonly json: boolean;
  readonly jaeger: boolean;
}

/** One process of the demo, as it stands in cluster.json. */
interface DemoProcess {
  readonly role: 'coordinator' | 'node' | 'proxy';
  readonly id: string;
  pid: number;
  readonly grpc: string;
  readonly http: string;
  readonly dataDir: string;
  readonly argv: readonly string[];
}

/** Milliseconds until the whole cluster must be ready. */
const readyMs = 60_000;
/** Milliseconds that a proxy may take to answer. */
const answerMs = 5_000;
/** Milliseconds that processes may take to end before they are killed. */
const stopMs = 5_000;
/** glibc keeps what threads have freed, in an arena for each: a node would grow for as long as it is busy (decision 17). */
const fewArenas = { MALLOC_ARENA_MAX: '2' } as const;

/** Runs a whole cluster on this machine until it is told to stop. */
export async function runDemo(flags: DemoFlags): Promise<void> {
  const dir = resolve(flags.dataDir);
  await mkdir(dir, { recursive: true });
  const stopped = untilStopped();
  const jaeger = flags.jaeger ? await startDemoJaeger(flags, dir) : undefined;
  let demo: Demo | undefined;
  try {
    const planned = await plan({ ...flags, ...(jaeger && { otlp: jaeger.otlp }) }, dir);
    demo = new Demo(planned, dir);
    progress(`starting ${planned.length} processes in ${dir}`);
    const started = demo.start();
    const isReady = await Promise.race([started.then(() => true), stopped.then(() => false)]);
    if (isReady) {
      await writeClusterFile(dir, planned);
      const link = jaeger === undefined ? '' : await firstTrace(planned, jaeger);
      if (flags.json) process.stdout.write(`${JSON.stringify(clusterJson(planned))}\n`);
      else process.stdout.write(welcome(planned));
      if (link !== '') say(`The first write, hop by hop: ${link}`);
      await stopped;
    }
  } finally {
    await demo?.stop();
    await jaeger?.stop();
  }
}

/** Jaeger at its usual ports; where the demo takes any free ones, so does it. */
async function startDemoJaeger({ basePort }: DemoFlags, dir: string): Promise<Jaeger> {
  const [otlpPort = 0, pagePort = 0, grpcPort = 0] =
    basePort === 0 ? await freePorts(3) : [4318, 16_686, 16_685];
  const jaeger = await startJaeger({ dir, env: process.env, otlpPort, pagePort, grpcPort });
  progress(`Jaeger runs: ${jaeger.page}`);
  return jaeger;
}

/** Writes one key with a trace of its own; the page that shows it. */
async function firstTrace(processes: readonly DemoProcess[], { page }: Jaeger): Promise<string> {
  const proxy = processes.find(({ role }) => role === 'proxy');
  if (proxy === undefined) return '';
  const written = fetch(`http://${proxy.http}/v1/keys/demo/first-write`, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream', 'x-keychaindb-trace': '1' },
    body: 'follow me',
    signal: AbortSignal.timeout(answerMs),
  });
  const response = await written.catch(() => undefined);
  await response?.arrayBuffer().catch(() => undefined);
  if (response === undefined) return '';
  return `${page}/trace/${response.headers.get('x-keychaindb-trace-id') ?? ''}`;
}

function progress(text: string): void {
  say(`[${(performance.now() / 1_000).toFixed(1)} s] ${text}`);
}

function clusterJson(processes: readonly DemoProcess[]): object {
  return { ready: true, processes };
}

async function writeClusterFile(dir: string, processes: readonly DemoProcess[]): Promise<void> {
  const file = join(dir, 'cluster.json');
  await writeFile(`${file}.new`, `${JSON.stringify(clusterJson(processes), undefined, 2)}\n`);
  await rename(`${file}.new`, file);
}

/** Ids, ports and command lines. */
async function plan(flags: DemoFlags, dir: string): Promise<readonly DemoProcess[]> {
  const { coordinators, nodes, proxies, basePort, grpcPort, httpPort } = flags;
  const pairs = coordinators + nodes;
  const free = await freePorts(pairs * 2 + proxies * 2);
  let next = basePort;
  const takeBase = (): number => (basePort === 0 ? (free.pop() ?? 0) : next++);
  const roles = [
    ...names('coordinator', coordinators),
    ...names('node', nodes),
    ...names('proxy', proxies),
  ];
  let proxyIndex = 0;
  const placed = roles.map(({ role, id }) => {
    if (role !== 'proxy') {
      return { role, id, grpc: local(takeBase()), http: local(takeBase()) };
    }
    const index = proxyIndex++;
    const grpc = grpcPort === 0 ? (free.pop() ?? 0) : grpcPort + index;
    const http = httpPort === 0 ? (free.pop() ?? 0) : httpPort + index;
    return { role, id, grpc: local(grpc), http: local(http) };
  });
  const group = placed.filter(({ role }) => role === 'coordinator');
  const initialCluster = group.map(({ id, grpc }) => `${id}=${grpc}`).join(',');
  const addresses = group.map(({ grpc }) => grpc).join(',');
  const main = fileURLToPath(new URL('./main.js', import.meta.url));
  return placed.map((process_) => {
    const { role, id, grpc, http } = process_;
    const dataDir = role === 'proxy' ? '' : join(dir, id);
    const argv = [process.execPath, main, role, '--id', id, '--listen', grpc, '--http', http];
    if (dataDir !== '') argv.push('--data-dir', dataDir);
    if (role === 'coordinator') argv.push('--initial-cluster', initialCluster);
    else argv.push('--coordinators', addresses);
    argv.push(...timingArgs(flags), ...telemetryArgs(flags));
    if (role !== 'coordinator') argv.push(...limitArgs(flags));
    if (role === 'proxy') argv.push('--workers', `${flags.workers}`);
    if (role === 'node') argv.push(...compactionArgs(flags));
    if (role === 'node') argv.push('--object-cache-bytes', `${flags.objectCacheBytes}`);
    return { ...process_, pid: 0, dataDir, argv };
  });
}

function names(
  role: DemoProcess['role'],
  count: number,
): readonly { readonly role: DemoProcess['role']; readonly id: string }[] {
  return Array.from({ length: count }, (_, index) => ({ role, id: `${role}-${index + 1}` }));
}

function local(port: number): string {
  return `127.0.0.1:${port}`;
}

function timingArgs(flags: TimingFlags): readonly string[] {
  const { heartbeatMs, detectionMs, leaseMs, drift, electionMs } = flags;
  return [
    ...['--heartbeat-ms', `${heartbeatMs}`, '--detection-ms', `${detectionMs}`],
    ...['--lease-ms', `${leaseMs}`, '--drift', `${drift}`, '--election-ms', `${electionMs}`],
  ];
}

function limitArgs({ keyBytesMax, valueBytesMax }: LimitFlags): readonly string[] {
  return ['--key-bytes-max', `${keyBytesMax}`, '--value-bytes-max', `${valueBytesMax}`];
}

function compactionArgs(flags: CompactionFlags): readonly string[] {
  const { logBytesMax, logEntriesMax, compactionShare } = flags;
  const entries = logEntriesMax === undefined ? [] : ['--log-entries-max', `${logEntriesMax}`];
  const share = ['--compaction-share', `${compactionShare}`];
  return ['--log-bytes-max', `${logBytesMax}`, ...entries, ...share];
}

/** Ports that were free a moment ago, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<Server>((done, fail) => {
          const server = createServer();
          server.once('error', fail);
          server.listen(0, '127.0.0.1', () => done(server));
        }),
    ),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

class Demo {
  readonly #processes: readonly DemoProcess[];
  readonly #dir: string;
  readonly #children = new Map<string, ChildProcess>();
  /** Those that have said that they listen. */
  readonly #up = new Set<string>();
  /** Each resolves when its process has said so. */
  readonly #listening = new Map<string, Promise<void>>();
  #isStopping = false;
  #failed: (error: Error) => void = () => undefined;
  readonly #failure: Promise<never>;

  constructor(processes: readonly DemoProcess[], dir: string) {
    this.#processes = processes;
    this.#dir = dir;
    this.#failure = new Promise((_, reject) => {
      this.#failed = reject;
    });
    this.#failure.catch(() => undefined);
  }

  /**
   * Resolves when every process listens and every node serves. Nodes and proxies can do nothing before the coordinators
   * have a leader: they load while it is elected, and the coordinators load without them beside.
   */
  async start(): Promise<void> {
    const coordinators = this.#of('coordinator');
    await Promise.all(coordinators.map((process_) => this.#spawn(process_)));
    const listening = Promise.all(coordinators.map(({ id }) => this.#listening.get(id)));
    await this.#unlessFailed(
      within(listening, readyMs, notReady('not all coordinators listen', this.#dir)),
    );
    const others = this.#processes.filter(({ role }) => role !== 'coordinator');
    await Promise.all(others.map((process_) => this.#spawn(process_)));
    await this.#ready();
  }

  async #ready(): Promise<void> {
    const addresses = this.#of('coordinator').map(({ grpc }) => grpc);
    const verbs = clusterVerbs({ addresses, clock: systemClock });
    const connections = new Connections();
    try {
      await this.#unlessFailed(this.#addNodes(verbs));
      await this.#unlessFailed(this.#allServe(addresses, connections));
      await this.#unlessFailed(this.#proxiesAnswer());
    } finally {
      verbs.close();
      connections.close();
    }
  }

  #of(role: DemoProcess['role']): readonly DemoProcess[] {
    return this.#processes.filter((process_) => process_.role === role);
  }

  #unlessFailed<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failure]);
  }

  /** In order: the first one becomes the head. */
  async #addNodes(verbs: ReturnType<typeof clusterVerbs>): Promise<void> {
    for (const { id, grpc } of this.#of('node')) {
      // Adding is done once: where the leader changed meanwhile it is asked for again.
      while ((await this.#addNode(verbs, id, grpc)) === 'unknown');
    }
    progress('the coordinators have a leader');
  }

  async #addNode(
    verbs: ReturnType<typeof clusterVerbs>,
    id: string,
    address: string,
  ): Promise<'done' | 'unknown'> {
    try {
      await verbs.addMember({ id, address, spare: false, expectedEpoch: 0 }, readyMs);
      return 'done';
    } catch (thrown) {
      const error = KeychainError.from(thrown);
      if (error.reason === 'OUTCOME_UNKNOWN' && !this.#isStopping) return 'unknown';
      // At another address: it has not come from there yet.
      if (error.reason === 'MEMBER_EXISTS') return 'done';
      throw error;
    }
  }

  #allServe(addresses: readonly string[], connections: Connections): Promise<void> {
    const ids = this.#of('node').map(({ id }) => id);
    const dialer = dialServerStream(connections, 'views', CoordinatorService.watchViews);
    const all = new Promise<void>((resolve) => {
      let most = 0;
      const look = (view: View): void => {
        const serving = view.members.filter((m) => m.state === MemberState.SERVING);
        if (serving.length > most) {
          most = serving.length;
          progress(`${most} of ${ids.length} nodes serve`);
        }
        if (ids.every((id) => serving.some((m) => m.id === id))) resolve();
      };
      for (const address of addresses) {
        const channel = dialer.dial(address, { message: look, closed: () => undefined });
        channel.send({});
      }
    });
    return within(all, readyMs, notReady('not all nodes serve', this.#dir));
  }

  async #proxiesAnswer(): Promise<void> {
    for (const { id, http } of this.#of('proxy')) {
      const deadline = performance.now() + readyMs;
      while (performance.now() < deadline) {
        // One of its workers may answer while others start.
        if (!this.#up.has(id)) {
          await pause(systemClock, 20);
          continue;
        }
        if (await isReady(http)) break;
        await pause(systemClock, 20);
      }
      if (performance.now() >= deadline) throw notReady(`${id} does not answer`, this.#dir);
    }
  }

  async #spawn(process_: DemoProcess): Promise<void> {
    const { id, argv } = process_;
    const output = await open(join(this.#dir, `${id}.log`), 'a');
    const [command = '', ...args] = argv;
    // Told to stop meanwhile: nobody would end it.
    if (this.#isStopping) return output.close();
    const child = spawn(command, args, {
      stdio: ['ignore', output.fd, output.fd, 'ipc'],
      env: { ...fewArenas, ...process.env },
    });
    this.#children.set(id, child);
    process_.pid = child.pid ?? 0;
    const listens = new Promise<void>((resolve) => {
      child.on('message', (message) => {
        if (!(message as ReadyNotice).ready) return;
        this.#up.add(id);
        resolve();
      });
    });
    this.#listening.set(id, listens);
    child.on('exit', (code, signal) => {
      this.#children.delete(id);
      if (this.#isStopping) return;
      const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
      if (!this.#up.has(id)) {
        this.#failed(
          new KeychainError('INTERNAL', `${id} ${how} while starting: ${this.#dir}/${id}.log`),
        );
      }
      say(`${id} ${how}; it comes back with:\n  ${argv.map(quoted).join(' ')}`);
    });
    await output.close();
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    const children = [...this.#children.values()];
    const ended = children.map((child) => new Promise((done) => child.once('exit', done)));
    // All of them end: nobody has to leave the chain first, as at a SIGTERM.
    for (const child of children) child.kill('SIGINT');
    const timer = setTimeout(() => {
      for (const child of this.#children.values()) child.kill('SIGKILL');
    }, stopMs);
    await Promise.all(ended);
    clearTimeout(timer);
  }
}

/** Rejects with `late` where the work takes longer. */
async function within<T>(work: Promise<T>, milliseconds: number, late: KeychainError): Promise<T> {
  let cancel: Cancel = () => undefined;
  const over = new Promise<never>((_, reject) => {
    cancel = systemClock.after(milliseconds, () => reject(late));
  });
  return Promise.race([work, over]).finally(cancel);
}

function notReady(why: string, dir: string): KeychainError {
  return new KeychainError(
    'DEADLINE',
    `the cluster was not ready within ${readyMs / 1_000} s, ${why}: look into ${dir}/*.log`,
  );
}

async function isReady(http: string): Promise<boolean> {
  const signal = AbortSignal.timeout(answerMs);
  const response = await fetch(`http://${http}/readyz`, { signal }).catch(() => undefined);
  await response?.arrayBuffer().catch(() => undefined);
  return response?.status === 200;
}

function quoted(word: string): string {
  return /^[\w./:=,@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A table, and lines to copy. */
function welcome(processes: readonly DemoProcess[]): string {
  const rows = processes.map(({ role, id, pid, grpc, http }) => [id, role, `${pid}`, grpc, http]);
  const proxy = processes.find(({ role }) => role === 'proxy');
  const at = proxy?.grpc === '127.0.0.1:7400' ? '' : ` --endpoints ${proxy?.grpc ?? ''}`;
  return `${table(['ID', 'ROLE', 'PID', 'GRPC', 'HTTP'], rows)}
The cluster is ready. Try:

  npx keychaindb put${at} greeting hello
  npx keychaindb get${at} greeting
  npx keychaindb status${at}
  curl http://${proxy?.http ?? ''}/v1/keys/greeting

Ctrl-C ends it; its data stays.
`;
}

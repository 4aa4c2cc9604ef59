import cluster, { type Worker } from 'node:cluster';
import { fileURLToPath } from 'node:url';
import { type Cancel, systemClock } from '../base/clock.js';
import { type Logger, startLog } from '../telemetry/log.js';
import { exitCodes } from './exit-codes.js';
import { Gatherings } from './gatherings.js';
import { Handoffs } from './handoffs.js';
import { announce, say, untilStopped } from './process.js';
import type { ProxyFlags } from './proxy.js';
import type { FromPrimary, FromWorker } from './worker-messages.js';

/** Milliseconds before a worker that died is started again, the first time and at most. */
const pauseMsFirst = 100;
const pauseMsLongest = 10_000;
/** Milliseconds after which a worker that dies is taken for one that died for the first time. */
const calmMs = 60_000;

/**
 * Runs the workers of one proxy until it is told to stop; the exit code. This process opens the addresses, gives each
 * connection to the next worker, and does nothing else (docs/decisions/0014).
 */
export async function runWorkers(flags: ProxyFlags): Promise<number> {
  const log = startLog({ service: 'keychaindb-proxy', instance: flags.id }, flags.logLevel);
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({
    exec: fileURLToPath(new URL('./worker.js', import.meta.url)),
    // Nobody reads them: they tell a worker's proxy in a list of processes.
    args: process.argv.slice(2),
    serialization: 'advanced',
  });
  const workers = new Workers(flags, log);
  const started = await workers.start();
  if (typeof started === 'number') return started;
  announce(log, started.grpc, started.http);
  const why = await untilStopped();
  log.info({ why }, `${why}: the workers finish what they took`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      workers.kill();
      // Nobody listens to it any more.
      process.kill(process.pid, signal);
    });
  }
  return workers.stop();
}

interface Addresses {
  readonly grpc: string;
  readonly http: string;
}

/** One of them, from its start to its end. */
interface RunningWorker {
  readonly index: number;
  readonly process: Worker;
  readonly begunAt: number;
  listens: boolean;
  /** It is given no more connections. */
  isLeaving: boolean;
}

class Workers {
  readonly #flags: ProxyFlags;
  readonly #log: Logger;
  readonly #gatherings: Gatherings;
  readonly #handoffs = new Handoffs(systemClock);
  readonly #running = new Map<number, RunningWorker>();
  /** Deaths in a row, by index. */
  readonly #deaths = new Map<number, number>();
  readonly #restarts = new Map<number, Cancel>();
  #addresses: Addresses | undefined;
  /** What the present ones were told to listen on: port 0 is one port for all that were told so, while one of them lives. */
  #told: Pick<ProxyFlags, 'listen' | 'http'>;
  #phase: 'starting' | 'serving' | 'stopping' = 'starting';
  #exitCode: number = exitCodes.ok;
  #changed: () => void = () => undefined;

  constructor(flags: ProxyFlags, log: Logger) {
    this.#flags = flags;
    this.#log = log;
    this.#told = { listen: flags.listen, http: flags.http };
    this.#gatherings = new Gatherings(systemClock, (index, message) => {
      const worker = this.#running.get(index);
      if (worker !== undefined) tell(worker, message);
    });
  }

  /** Where all of them listen; or the exit code of the first one that ended before. */
  async start(): Promise<Addresses | number> {
    // What keeps one from starting keeps all: the first one says it, alone.
    this.#fork(1);
    await this.#until(() => this.#listening() === 1 || this.#exitCode !== exitCodes.ok);
    if (this.#exitCode === exitCodes.ok) {
      for (let index = 2; index <= this.#flags.workers; index += 1) this.#fork(index);
    }
    await this.#until(
      () => this.#listening() === this.#flags.workers || this.#exitCode !== exitCodes.ok,
    );
    if (this.#exitCode !== exitCodes.ok || this.#addresses === undefined) return this.#exitCode;
    this.#phase = 'serving';
    return this.#addresses;
  }

  /** They finish what they took. Resolves when all have ended, with the exit code of the first one that failed. */
  async stop(): Promise<number> {
    this.#phase = 'stopping';
    for (const cancel of this.#restarts.values()) cancel();
    const all = [...this.#running.values()];
    for (const { listens, process } of all) if (!listens) process.process.kill('SIGTERM');
    const [last, ...others] = all.filter(({ listens }) => listens);
    for (const worker of others) this.#dismiss(worker);
    // Who connects while the last one goes is cut off: nothing else is done then.
    await this.#handoffs.settled();
    if (last !== undefined) this.#dismiss(last);
    await this.#until(() => this.#running.size === 0);
    return this.#exitCode;
  }

  /** Nothing is finished. */
  kill(): void {
    for (const worker of this.#running.values()) worker.process.process.kill('SIGKILL');
  }

  /** It is given no more connections, and takes those that are on their way before it hears of it. */
  #dismiss(worker: RunningWorker): void {
    if (worker.isLeaving) return;
    worker.isLeaving = true;
    worker.process.disconnect();
    tell(worker, { type: 'stop' });
  }

  #listening(): number {
    const all = [...this.#running.values()];
    return all.filter(({ listens, isLeaving }) => listens && !isLeaving).length;
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  #fork(index: number): void {
    const forked = cluster.fork();
    const worker = {
      ...{ index, process: forked, begunAt: performance.now() },
      ...{ listens: false, isLeaving: false },
    };
    this.#running.set(index, worker);
    this.#handoffs.watch(forked);
    forked.on('message', (message: FromWorker) => this.#heard(worker, message));
    forked.once('exit', (code, signal) => this.#ended(worker, code, signal));
    forked.on('error', (error) => {
      this.#log.error({ worker: index }, `worker ${index}: ${error.message}`);
      // It couldn't be started at all: there is no exit.
      if (forked.process.pid === undefined) this.#ended(worker, exitCodes.failed, null);
    });
  }

  #heard(worker: RunningWorker, message: FromWorker): void {
    const { index } = worker;
    // What comes after its end is of no use.
    if (this.#running.get(index) !== worker) return;
    switch (message.type) {
      case 'begins':
        if (this.#listening() === 0 && this.#addresses !== undefined) {
          const { grpc: listen, http } = this.#addresses;
          this.#told = { listen, http };
        }
        tell(worker, { type: 'run', index, flags: { ...this.#flags, ...this.#told } });
        return;
      case 'leaves':
        void this.#handoffs.settled().then(() => this.#dismiss(worker));
        return;
      case 'listens': {
        const { grpc, http } = message;
        worker.listens = true;
        this.#addresses ??= { grpc, http };
        this.#gatherings.joined(index);
        if (this.#phase === 'serving') this.#log.info({ worker: index }, `worker ${index} serves`);
        this.#changed();
        return;
      }
      case 'ask':
        if (message.question.kind === 'log-level') this.#log.level = message.question.level;
        this.#gatherings.ask(index, message.id, message.question);
        return;
      case 'answer':
        this.#gatherings.answered(index, message.id, message.answer);
        return;
    }
  }

  #ended(worker: RunningWorker, code: number | null, signal: string | null): void {
    const { index } = worker;
    if (this.#running.get(index) !== worker) return;
    this.#running.delete(index);
    this.#gatherings.left(index);
    const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;
    if (this.#phase === 'serving') this.#restart(worker, how);
    else {
      const isWell = code === exitCodes.ok && this.#phase === 'stopping';
      // One that was starting was ended by us.
      const isCalledOff = this.#phase === 'stopping' && !worker.listens;
      if (this.#exitCode === exitCodes.ok && !isWell && !isCalledOff) {
        this.#exitCode = code || exitCodes.failed;
        // Who ended with a code of its own has said why.
        if (!code) say(`INTERNAL: worker ${index} ${how}`);
      }
    }
    this.#changed();
  }

  #restart({ index, begunAt }: RunningWorker, how: string): void {
    const isCalm = performance.now() - begunAt > calmMs;
    const deaths = isCalm ? 0 : (this.#deaths.get(index) ?? 0);
    this.#deaths.set(index, deaths + 1);
    const pauseMs = Math.min(pauseMsFirst * 2 ** deaths, pauseMsLongest);
    const text = `worker ${index} ${how}; it is started again in ${pauseMs} ms`;
    this.#log.error({ worker: index, pause_ms: pauseMs }, text);
    this.#restarts.set(
      index,
      systemClock.after(pauseMs, () => this.#fork(index)),
    );
  }
}

/** One that has just ended is told nothing. */
function tell({ process }: RunningWorker, message: FromPrimary): void {
  if (process.process.connected) process.process.send(message, () => undefined);
}

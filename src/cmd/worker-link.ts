import cluster from 'node:cluster';
import { systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { LogLevel } from '../telemetry/log-levels.js';
import type { TelemetrySiblings } from '../telemetry/service.js';
import type { Span } from '../telemetry/span.js';
import type { ProxyFlags } from './proxy.js';
import type { ProcessTelemetry } from './telemetry.js';
import type { Answer, FromPrimary, FromWorker, Gathered, Question } from './worker-messages.js';

/** Milliseconds within which the primary says what all workers answered. */
const gatheredMs = 2_000;

/** A worker's side of its channel to the primary, and through it to the other workers. */
export class WorkerLink implements TelemetrySiblings {
  /** Which worker of the proxy it is, from 1. */
  readonly index: number;
  readonly #stop: Promise<void>;
  readonly #asked = new Map<number, (gathered: Gathered) => void>();
  #telemetry: Pick<ProcessTelemetry, 'log' | 'metrics' | 'traces'> | undefined;
  #nextId = 1;

  private constructor(index: number) {
    this.index = index;
    this.#stop = new Promise((resolve) => {
      process.on('message', (message: FromPrimary) => {
        if (message.type === 'stop') resolve();
        else if (message.type === 'question') void this.#answer(message.id, message.question);
        else if (message.type === 'gathered') this.#asked.get(message.id)?.(message.gathered);
      });
    });
  }

  /** From now on it says what is known here, and does what is asked of all workers. */
  answersFor(telemetry: Pick<ProcessTelemetry, 'log' | 'metrics' | 'traces'>): void {
    this.#telemetry = telemetry;
  }

  /** Resolves with what it is to run. */
  static begin(): Promise<{ readonly link: WorkerLink; readonly flags: ProxyFlags }> {
    return new Promise((resolve) => {
      const heard = (message: FromPrimary): void => {
        if (message.type !== 'run') return;
        process.off('message', heard);
        resolve({ link: new WorkerLink(message.index), flags: message.flags });
      };
      process.on('message', heard);
      // What is said before anybody listens is lost to a worker.
      tell({ type: 'begins' });
    });
  }

  listens(grpc: string, http: string): void {
    tell({ type: 'listens', grpc, http });
  }

  /**
   * Resolves when the primary says so, or is gone. At a signal it asks to be told: the primary gives it no connection after
   * that, so that none comes to a worker that takes none any more. A second signal ends it at once.
   */
  async untilStopped(): Promise<void> {
    // Where the primary is gone Node would end it at once, with what it took unanswered.
    if (cluster.worker !== undefined) cluster.worker.exitedAfterDisconnect = true;
    const leaves = (): void => tell({ type: 'leaves' });
    process.once('SIGINT', leaves);
    process.once('SIGTERM', leaves);
    const gone = new Promise<void>((resolve) => {
      process.once('disconnect', resolve);
    });
    await Promise.race([this.#stop, gone]);
  }

  /** The metrics of all workers, as /metrics shows them. */
  async text(): Promise<string> {
    const { metrics } = await this.#ask({ kind: 'metrics' });
    if (metrics === undefined) throw new KeychainError('INTERNAL', 'the metrics have no sum');
    return metrics;
  }

  async spansOf(traceId: string): Promise<readonly Span[]> {
    return (await this.#ask({ kind: 'spans', traceId })).spans ?? [];
  }

  async setLogLevel(level: LogLevel): Promise<void> {
    await this.#ask({ kind: 'log-level', level });
  }

  #ask(question: Question): Promise<Gathered> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const cancel = systemClock.after(gatheredMs, () => {
        this.#asked.delete(id);
        reject(new KeychainError('DEADLINE', 'the other workers of this proxy do not answer'));
      });
      this.#asked.set(id, (gathered) => {
        cancel();
        this.#asked.delete(id);
        resolve(gathered);
      });
      tell({ type: 'ask', id, question });
    });
  }

  async #answer(id: number, question: Question): Promise<void> {
    const answer = await this.#answerTo(question).catch((error: unknown): Answer => {
      this.#telemetry?.log.error({ question: question.kind }, String(error));
      return {};
    });
    tell({ type: 'answer', id, answer });
  }

  async #answerTo(question: Question): Promise<Answer> {
    const known = this.#telemetry;
    if (known === undefined) return {};
    const { log, metrics, traces } = known;
    switch (question.kind) {
      case 'metrics':
        return { samples: await metrics.samples() };
      case 'spans':
        return { spans: traces.spansOf(question.traceId) };
      case 'log-level':
        log.level = question.level;
        return {};
    }
  }
}

/** Where the primary is gone, nobody is told. */
function tell(message: FromWorker): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

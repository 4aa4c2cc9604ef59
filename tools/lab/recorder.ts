import { type GetResponse, KeychainError } from '../../src/client/client.js';
import type { HistoryOperation } from '../../test/history/operation.js';

interface Written {
  readonly revision: number;
}

/** What clients asked and were answered, as a history to be checked. */
export class Recorder {
  readonly operations: HistoryOperation[] = [];
  /** Writes that may have been applied, or not. */
  unknownOutcomes = 0;
  /** Writes that were certainly not applied: they are not in the history. */
  refusedWrites = 0;
  /** Reads without an answer: they say nothing, and are not in the history. */
  failedReads = 0;
  /** The longest that any took, answered or not. */
  longestMs = 0;
  /** How often operations failed for which reason. */
  readonly reasons = new Map<string, number>();
  readonly #idle: RecordedProcess[] = [];
  #made = 0;

  process(name: string): RecordedProcess {
    return new RecordedProcess(this, name);
  }

  took(since: number): void {
    this.longestMs = Math.max(this.longestMs, Math.round(performance.now() - since));
  }

  failed(operation: string, error: unknown): void {
    const reason = `${operation} ${error instanceof KeychainError ? error.reason : String(error)}`;
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
  }

  /** Runs one operation of many at a time: under the name of a process that has none under way. */
  async inTurn<T>(work: (process_: RecordedProcess) => Promise<T>): Promise<T> {
    let process_ = this.#idle.pop();
    if (process_ === undefined) {
      this.#made += 1;
      process_ = this.process(`process-${this.#made}`);
    }
    try {
      return await work(process_);
    } finally {
      this.#idle.push(process_);
    }
  }
}

/** A client of the history: one operation at a time. It gets a new name after an unknown outcome. */
export class RecordedProcess {
  readonly #recorder: Recorder;
  readonly #name: string;
  #lives = 1;

  constructor(recorder: Recorder, name: string) {
    this.#recorder = recorder;
    this.#name = name;
  }

  /** Rejects with what `ask` rejects with, as `write` does. */
  async read(
    key: string,
    ask: () => Promise<GetResponse | undefined>,
  ): Promise<GetResponse | undefined> {
    const start = performance.now();
    try {
      const response = await ask();
      const end = performance.now();
      const output =
        response === undefined
          ? { value: null }
          : { value: Buffer.from(response.value).toString(), revision: response.revision };
      this.#record({ operation: 'get', key, start, end, output });
      return response;
    } catch (error) {
      this.#recorder.failedReads += 1;
      this.#recorder.failed('get', error);
      throw error;
    } finally {
      this.#recorder.took(start);
    }
  }

  put<T extends Written>(key: string, input: string, ask: () => Promise<T>): Promise<T> {
    return this.#write({ operation: 'put', key, input }, ask);
  }

  delete<T extends Written>(key: string, ask: () => Promise<T>): Promise<T> {
    return this.#write({ operation: 'delete', key }, ask);
  }

  async #write<T extends Written>(
    asked: Pick<HistoryOperation, 'operation' | 'key' | 'input'>,
    ask: () => Promise<T>,
  ): Promise<T> {
    const start = performance.now();
    try {
      const response = await ask();
      const { revision } = response;
      this.#record({ ...asked, start, end: performance.now(), output: { revision } });
      return response;
    } catch (error) {
      if (isCertainlyNotApplied(error)) {
        this.#recorder.refusedWrites += 1;
      } else {
        this.#recorder.unknownOutcomes += 1;
        this.#record({ ...asked, start });
        this.#lives += 1;
      }
      this.#recorder.failed(asked.operation, error);
      throw error;
    } finally {
      this.#recorder.took(start);
    }
  }

  #record(operation: Omit<HistoryOperation, 'process'>): void {
    const process_ = this.#lives === 1 ? this.#name : `${this.#name}.${this.#lives}`;
    this.#recorder.operations.push({ process: process_, ...operation });
  }
}

/** What docs/names.md promises of a failed write; where it promises nothing the outcome is unknown. */
function isCertainlyNotApplied(error: unknown): boolean {
  if (!(error instanceof KeychainError)) return false;
  if (error.reason === 'DEADLINE') return true;
  return ['UNAVAILABLE', 'INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED'].includes(error.status);
}

import { type GetResponse, type KeychainClient, KeychainError } from '../../src/client/client.js';
import type { Recorder } from './recorder.js';

export interface LoadOptions {
  /** One is taken in turn for each operation. */
  readonly clients: readonly KeychainClient[];
  /** Operations begun each second, answered or not (open loop). */
  readonly readsPerSecond: number;
  readonly writesPerSecond: number;
  readonly keys?: number;
  readonly valueBytes?: number;
  readonly prefix?: string;
  /** Gets every operation, for a check of the history. */
  readonly recorder?: Recorder;
}

interface Register {
  readonly key: string;
  /** Highest number issued, acknowledged, and seen by a read that ended. */
  issued: number;
  floor: number;
  writing: boolean;
}

export interface LoadReport {
  readonly reads: number;
  readonly writes: number;
  readonly failedReads: readonly string[];
  readonly failedWrites: readonly string[];
  /** Reads that answered less than what was acknowledged or read before they began. */
  readonly staleReads: readonly string[];
  /** Milliseconds: the longest time between two answers. */
  readonly readGapMs: number;
  readonly writeGapMs: number;
}

/**
 * An open loop of reads and writes that checks itself: every key holds a number that only one writer raises,
 * so that a read must answer at least what was acknowledged, or read, before it began.
 */
export class Load {
  readonly #options: LoadOptions;
  readonly #registers: readonly Register[];
  readonly #failedReads: string[] = [];
  readonly #failedWrites: string[] = [];
  readonly #stale: string[] = [];
  readonly #pending = new Set<Promise<void>>();
  readonly #padding: string;
  #reads = 0;
  #writes = 0;
  #readAt = performance.now();
  #writeAt = performance.now();
  #readGap = 0;
  #writeGap = 0;
  #turn = 0;
  #timer: NodeJS.Timeout | undefined;
  #begun = { reads: 0, writes: 0 };

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#padding = 'x'.repeat(Math.max(0, (options.valueBytes ?? 100) - 12));
    this.#registers = Array.from({ length: options.keys ?? 200 }, (_, index) => ({
      key: `${options.prefix ?? 'load'}/${index}`,
      issued: 0,
      floor: 0,
      writing: false,
    }));
  }

  /** Writes every key once, so that every read finds it. */
  async prepare(): Promise<void> {
    await Promise.all(this.#registers.map((register) => this.#write(register)));
    this.restartGaps();
  }

  start(): void {
    const from = performance.now();
    this.#begun = { reads: 0, writes: 0 };
    this.restartGaps();
    const { readsPerSecond, writesPerSecond } = this.#options;
    this.#timer = setInterval(() => {
      const seconds = (performance.now() - from) / 1_000;
      while (this.#begun.reads < seconds * readsPerSecond) {
        this.#begun.reads += 1;
        const register = this.#registers[Math.floor(Math.random() * this.#registers.length)];
        if (register !== undefined) this.#track(this.#read(register));
      }
      while (this.#begun.writes < seconds * writesPerSecond) {
        this.#begun.writes += 1;
        const free = this.#registers.find(
          (r, i) => !r.writing && i >= this.#turn % this.#registers.length,
        );
        const register = free ?? this.#registers.find((r) => !r.writing);
        this.#turn += 1;
        if (register !== undefined) this.#track(this.#write(register));
      }
    }, 5);
  }

  /** Gaps are counted from now on. */
  restartGaps(): void {
    this.#readAt = performance.now();
    this.#writeAt = performance.now();
    this.#readGap = 0;
    this.#writeGap = 0;
  }

  get answered(): { readonly reads: number; readonly writes: number } {
    return { reads: this.#reads, writes: this.#writes };
  }

  /** Ends the loop, waits for what is under way, and reads every key once more. */
  async stop(): Promise<LoadReport> {
    clearInterval(this.#timer);
    const { gaps } = this;
    await Promise.all(this.#pending);
    await Promise.all(this.#registers.map((register) => this.#read(register)));
    return {
      reads: this.#reads,
      writes: this.#writes,
      failedReads: this.#failedReads,
      failedWrites: this.#failedWrites,
      staleReads: this.#stale,
      ...gaps,
    };
  }

  /** Since the last restart. */
  get gaps(): { readonly readGapMs: number; readonly writeGapMs: number } {
    const now = performance.now();
    return {
      readGapMs: Math.round(Math.max(this.#readGap, now - this.#readAt)),
      writeGapMs: Math.round(Math.max(this.#writeGap, now - this.#writeAt)),
    };
  }

  #track(work: Promise<void>): void {
    this.#pending.add(work);
    void work.finally(() => this.#pending.delete(work));
  }

  #client(): KeychainClient {
    const { clients } = this.#options;
    const client = clients[(this.#reads + this.#writes) % clients.length];
    if (client === undefined) throw new Error('a load needs a client');
    return client;
  }

  #put(key: string, value: string): Promise<unknown> {
    const { recorder } = this.#options;
    const ask = () => this.#client().put(key, value);
    return recorder === undefined
      ? ask()
      : recorder.inTurn((process_) => process_.put(key, value, ask));
  }

  #get(key: string): Promise<GetResponse | undefined> {
    const { recorder } = this.#options;
    const ask = () => this.#client().get(key);
    return recorder === undefined ? ask() : recorder.inTurn((process_) => process_.read(key, ask));
  }

  async #write(register: Register): Promise<void> {
    register.writing = true;
    register.issued += 1;
    const value = register.issued;
    try {
      await this.#put(register.key, `${value} ${this.#padding}`);
      register.floor = Math.max(register.floor, value);
      const now = performance.now();
      this.#writeGap = Math.max(this.#writeGap, now - this.#writeAt);
      this.#writeAt = now;
      this.#writes += 1;
    } catch (error) {
      this.#failedWrites.push(described(error));
    } finally {
      register.writing = false;
    }
  }

  async #read(register: Register): Promise<void> {
    const { floor } = register;
    try {
      const response = await this.#get(register.key);
      const text = response === undefined ? '0' : Buffer.from(response.value).toString();
      const value = Number.parseInt(text, 10);
      if (value < floor || value > register.issued) {
        const by = response?.served?.node ?? '';
        this.#stale.push(`${register.key}: ${value} read at ${by}, ${floor} known before`);
      }
      register.floor = Math.max(register.floor, value);
      const now = performance.now();
      this.#readGap = Math.max(this.#readGap, now - this.#readAt);
      this.#readAt = now;
      this.#reads += 1;
    } catch (error) {
      this.#failedReads.push(described(error));
    }
  }
}

function described(error: unknown): string {
  return error instanceof KeychainError ? `${error.reason}: ${error.message}` : String(error);
}

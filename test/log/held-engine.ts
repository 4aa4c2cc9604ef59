import type { ScanRange, StorageEngine, WriteOp } from '../../src/log/engine.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';

interface Held {
  readonly ops: readonly WriteOp[];
  readonly sync: boolean;
  /** Lets it through to the store; resolves when it is there. */
  release(): Promise<void>;
}

/** A MemoryEngine whose writes, and scans where wanted, wait until they are let through. */
export class HeldEngine implements StorageEngine {
  readonly memory: MemoryEngine;
  /** Under way, oldest first. */
  readonly held: Held[] = [];
  /** Every write that has come. */
  readonly seen: { readonly ops: readonly WriteOp[]; readonly sync: boolean }[] = [];
  /** Writes wait only while it is set. */
  holds = true;
  /** What a scan waits for after it has taken its snapshot. */
  scanGate: Promise<void> | undefined;

  constructor(memory = new MemoryEngine()) {
    this.memory = memory;
  }

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return this.memory.get(key);
  }

  write(ops: readonly WriteOp[], { sync }: { readonly sync: boolean }): Promise<void> {
    this.seen.push({ ops, sync });
    if (!this.holds) return this.memory.write(ops, { sync });
    return new Promise((resolve, reject) => {
      const release = async (): Promise<void> => {
        await this.memory.write(ops, { sync }).then(resolve, reject);
        await turns();
      };
      this.held.push({ ops, sync, release });
    });
  }

  async *scan(range: ScanRange): AsyncIterable<readonly [Uint8Array, Uint8Array]> {
    const gate = this.scanGate;
    const found: (readonly [Uint8Array, Uint8Array])[] = [];
    for await (const entry of this.memory.scan(range)) found.push(entry);
    await gate;
    yield* found;
  }

  /** Lets the oldest held write through. */
  async release(): Promise<void> {
    await turns();
    await this.held.shift()?.release();
  }

  /** Lets everything through, what comes meanwhile too. */
  async releaseAll(): Promise<void> {
    do await this.release();
    while (this.held.length > 0);
  }

  readHighWater(): Promise<Uint8Array | undefined> {
    return this.memory.readHighWater();
  }

  writeHighWater(value: Uint8Array): Promise<void> {
    return this.memory.writeHighWater(value);
  }

  close(): Promise<void> {
    return this.memory.close();
  }
}

/** Every promise that can go on by itself has gone on. */
export async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
}

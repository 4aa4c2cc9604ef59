import type { EntryId, Envelope } from '../../src/gen/keychaindb/v1/log.js';
import type { LogBlock } from '../../src/log/event-log.js';
import type { LogFolder } from './folder.js';

/** What was looked at; each is ok where no fault names it. */
export const checks = ['records', 'order', 'high-water', 'invariants', 'state'] as const;
export type Check = (typeof checks)[number];

export interface Fault {
  readonly check: Check;
  /** The first entry that it concerns; undefined where it concerns none. */
  readonly index: number | undefined;
  readonly message: string;
}

/** Faults that are kept; more are counted. */
export const faultsMax = 1_000;

export class Findings {
  readonly faults: Fault[] = [];
  count = 0;
  /** Every entry of the log is known: a state can be folded. */
  isWhole = true;
  /** What stands beside the log can be read: that state can be compared with it. */
  isComparable = true;

  /** The first entry that can't be read, or can't be what was decided. */
  get firstEntry(): number | undefined {
    return this.faults.find(({ check }) => check !== 'state' && check !== 'high-water')?.index;
  }

  add(check: Check, index: number | undefined, message: string): void {
    this.count += 1;
    if (this.faults.length < faultsMax) this.faults.push({ check, index, message });
  }
}

/** What a kind of log promises over its whole length. */
export interface LogCheck {
  /** Throws AssertionError, or a text, where an entry can't stand where it stands. */
  take(block: LogBlock, entry: Envelope): void;
  /** At the end of a block, before the next one. */
  reached(folder: LogFolder, end: EntryId, found: Findings): Promise<void>;
  /** The hash of the state. */
  end(folder: LogFolder, found: Findings): Promise<string>;
  readonly what: string;
}

/** Why an entry can't be what was decided. */
export class Contradiction extends Error {}

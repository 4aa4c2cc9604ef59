/** One operation of one client, as seen from outside. Times are milliseconds of one clock that never goes back. */
export interface HistoryOperation {
  /** Who asked: a process has one operation under way at a time. */
  readonly process: string;
  readonly operation: 'get' | 'put' | 'delete';
  /** A key as text; a key that isn't text is written as hex, by whoever records. */
  readonly key: string;
  /** put: the value written. Absent otherwise. */
  readonly input?: string;
  readonly start: number;
  /** When it was answered. Absent: the outcome is unknown, it may take effect at any time after `start`, or never. */
  readonly end?: number;
  /**
   * What was answered. Of an operation without `end` it is what the log is known to say of it
   * (a write that is in the log has the revision there), and absent where nothing is known.
   */
  readonly output?: {
    /** get: the value, or null where the key is absent. */
    readonly value?: string | null;
    /** The revision that the write got, or the one at which the value read was written. */
    readonly revision?: number;
  };
}

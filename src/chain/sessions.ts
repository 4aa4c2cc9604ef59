import { messageBytesMax } from '../base/limits.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import type { Acceptor, Channel } from '../wire/channel.js';
import { sessionReadsMax, sessionResultBytesMax, sessionWaitingMax } from './limits.js';

/** Bytes of results in one message. */
const resultBytesMax = messageBytesMax / 4;

type Execute = (
  operations: readonly Operation[],
  answer: (result: OperationResult) => void,
) => void;

/**
 * KV.Session at a node: batches in, batches out. Results that are ready while a message is on its way
 * go with the next. A refusal carries this node's view.
 */
export function acceptSessions(
  view: () => View | undefined,
  execute: Execute,
): Acceptor<SessionResponse, SessionRequest> {
  return (channel) => {
    const session = new Session(channel, view, execute);
    return {
      message: ({ operations }) => session.take(operations),
      closed: () => session.close(),
    };
  };
}

/**
 * One stream. Reads whose values nobody fetches must not fill the memory: while too many are under way, or too
 * many bytes of results wait, further reads wait as they came, a key each. Writes are never held up.
 */
class Session {
  readonly #channel: Channel<SessionResponse>;
  readonly #view: () => View | undefined;
  readonly #execute: Execute;
  readonly #answer = (result: OperationResult): void => this.#answered(result);
  readonly #answerRead = (result: OperationResult): void => {
    this.#reads -= 1;
    this.#answered(result);
    if (this.#held.length > 0) this.#resume();
  };
  #results: OperationResult[] = [];
  /** Bytes of the values among them. */
  #resultBytes = 0;
  /** Under way. */
  #reads = 0;
  #held: Operation[] = [];
  #resuming = false;
  #shown = -1;
  #refused = false;
  #owesView = false;
  #scheduled = false;
  #closed = false;

  constructor(channel: Channel<SessionResponse>, view: () => View | undefined, execute: Execute) {
    this.#channel = channel;
    this.#view = view;
    this.#execute = execute;
  }

  take(operations: readonly Operation[]): void {
    if (this.#held.length + this.#results.length + operations.length > sessionWaitingMax) {
      this.#channel.close('its answers are not fetched');
      return;
    }
    if (operations.length === 0) this.#greet();
    const reads = operations.filter(isRead);
    if (reads.length < operations.length) {
      const writes = reads.length === 0 ? operations : operations.filter((o) => !isRead(o));
      this.#execute(writes, this.#answer);
    }
    if (this.#held.length === 0 && reads.length <= this.#room) this.#read(reads);
    else if (reads.length > 0) {
      this.#held = this.#held.concat(reads);
      this.#resume();
    }
  }

  /** Whoever dialed learns that the link works, and whose it is. */
  #greet(): void {
    const view = this.#view();
    if (view === undefined) this.#owesView = true;
    else this.#shown = view.epoch;
    this.#channel.send({ results: [], view });
  }

  /** Reads that may begin now. */
  get #room(): number {
    return this.#resultBytes > sessionResultBytesMax ? 0 : sessionReadsMax - this.#reads;
  }

  #read(reads: readonly Operation[]): void {
    if (reads.length === 0) return;
    this.#reads += reads.length;
    this.#execute(reads, this.#answerRead);
  }

  /** As many as there is room for; those that are answered at once make room for more. */
  #resume(): void {
    if (this.#resuming || this.#closed) return;
    this.#resuming = true;
    for (let room = this.#room; room > 0 && this.#held.length > 0; room = this.#room) {
      const next = this.#held.slice(0, room);
      this.#held = this.#held.slice(room);
      this.#read(next);
    }
    this.#resuming = false;
  }

  #answered(result: OperationResult): void {
    if (this.#closed) return;
    this.#results.push(result);
    this.#resultBytes += bytesOf(result);
    if (result.result?.$case === 'error') this.#refused = true;
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#send());
  }

  #send(): void {
    if (this.#closed || this.#channel.isClosed || this.#results.length === 0) {
      this.#scheduled = false;
      return;
    }
    this.#channel.send({ results: this.#take(), view: this.#newView() });
    void this.#channel.drained().then(() => {
      this.#send();
      if (this.#held.length > 0) this.#resume();
    });
  }

  #take(): readonly OperationResult[] {
    let count = 0;
    let bytes = 0;
    for (const result of this.#results) {
      const more = bytesOf(result);
      if (count > 0 && bytes + more > resultBytesMax) break;
      bytes += more;
      count += 1;
    }
    this.#resultBytes -= bytes;
    return this.#results.splice(0, count);
  }

  /** The view, where this stream hasn't carried it yet and something was refused, or there was none to greet with. */
  #newView(): View | undefined {
    const view = this.#view();
    const isWanted = this.#refused || this.#owesView;
    if (!isWanted || view === undefined || view.epoch <= this.#shown) return undefined;
    this.#refused = false;
    this.#owesView = false;
    this.#shown = view.epoch;
    return view;
  }

  close(): void {
    this.#closed = true;
    this.#results = [];
    this.#held = [];
  }
}

function isRead({ operation }: Operation): boolean {
  return operation?.$case === 'get';
}

function bytesOf({ result }: OperationResult): number {
  return result?.$case === 'get' ? result.value.value.byteLength : 0;
}

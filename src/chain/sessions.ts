import { messageBytesMax } from '../base/limits.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import type { Acceptor, Channel } from '../wire/channel.js';

/** Bytes of results in one message. */
const resultBytesMax = messageBytesMax / 4;

/**
 * KV.Session at a node: batches in, batches out. Results that are ready while a message is on its way
 * go with the next. A refusal carries this node's view.
 */
export function acceptSessions(
  view: () => View | undefined,
  execute: (operations: readonly Operation[], answer: (result: OperationResult) => void) => void,
): Acceptor<SessionResponse, SessionRequest> {
  return (channel) => {
    const answers = new Answers(channel, view);
    const answer = (result: OperationResult): void => answers.add(result);
    return {
      message: ({ operations }) => execute(operations, answer),
      closed: () => answers.close(),
    };
  };
}

class Answers {
  readonly #channel: Channel<SessionResponse>;
  readonly #view: () => View | undefined;
  #results: OperationResult[] = [];
  #shown = -1;
  #refused = false;
  #scheduled = false;
  #closed = false;

  constructor(channel: Channel<SessionResponse>, view: () => View | undefined) {
    this.#channel = channel;
    this.#view = view;
  }

  add(result: OperationResult): void {
    if (this.#closed) return;
    this.#results.push(result);
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
    void this.#channel.drained().then(() => this.#send());
  }

  #take(): readonly OperationResult[] {
    let count = 0;
    let bytes = 0;
    for (const { result } of this.#results) {
      bytes += result?.$case === 'get' ? result.value.value.byteLength : 0;
      if (count > 0 && bytes > resultBytesMax) break;
      count += 1;
    }
    return this.#results.splice(0, count);
  }

  /** The view, where this stream hasn't carried it yet and something was refused. */
  #newView(): View | undefined {
    const view = this.#view();
    if (!this.#refused || view === undefined || view.epoch <= this.#shown) return undefined;
    this.#refused = false;
    this.#shown = view.epoch;
    return view;
  }

  close(): void {
    this.#closed = true;
    this.#results = [];
  }
}

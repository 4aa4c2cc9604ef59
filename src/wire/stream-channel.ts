import { type Channel, type ChannelHandler, type CloseReason, channelQueueMax } from './channel.js';

/** What a gRPC call of either side offers to a channel. */
export interface MessageStream<Out> {
  write(message: Out, taken: () => void): void;
  /** Ends the call; what was written before still goes out where the transport allows. */
  end(): void;
}

/**
 * A channel on one gRPC call. One message is in the transport at a time; the others wait here, where they
 * are counted: grpc-js itself would buffer without bound.
 */
export class StreamChannel<Out, In> implements Channel<Out> {
  #stream: MessageStream<Out> | undefined;
  #handler: ChannelHandler<In> | undefined;
  readonly #waiting: Out[] = [];
  #writing = false;
  #closed = false;
  #drained: (() => void)[] = [];

  get queued(): number {
    return this.#waiting.length + (this.#writing ? 1 : 0);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Joins the call and the owner; once. An acceptor may have closed the channel already: then the call ends. */
  attach(stream: MessageStream<Out>, handler: ChannelHandler<In>): void {
    this.#stream = stream;
    this.#handler = handler;
    if (this.#closed) stream.end();
    this.#pump();
  }

  send(message: Out): boolean {
    if (this.#closed || this.#waiting.length >= channelQueueMax) return false;
    this.#waiting.push(message);
    this.#pump();
    return true;
  }

  drained(): Promise<void> {
    if (this.queued === 0 || this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  close(reason: CloseReason): void {
    if (this.#closed) return;
    // What was sent before goes out first: a refusal that is followed by a close arrives.
    for (const message of this.#waiting) this.#stream?.write(message, () => undefined);
    this.#stream?.end();
    this.ended(reason);
  }

  /** The transport has a message. */
  arrived(message: In): void {
    if (!this.#closed) this.#handler?.message(message);
  }

  /** The call is over. */
  ended(reason: CloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting.length = 0;
    this.#wake();
    queueMicrotask(() => this.#handler?.closed(reason));
  }

  #pump(): void {
    if (this.#writing || this.#stream === undefined || this.#closed) return;
    const message = this.#waiting.shift();
    if (message === undefined) return;
    this.#writing = true;
    this.#stream.write(message, () => {
      this.#writing = false;
      if (this.#waiting.length === 0) this.#wake();
      this.#pump();
    });
  }

  #wake(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}

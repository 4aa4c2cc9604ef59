import type { Channel, ChannelHandler, Dialer } from '../../src/wire/channel.js';

/** One end of a channel whose other end is the test. */
export class FakeChannel<Out, In> implements Channel<Out> {
  readonly address: string;
  readonly handler: ChannelHandler<In>;
  readonly sent: Out[] = [];
  queued = 0;
  /** Messages stay queued until `take`. */
  isSlow = false;
  isClosed = false;
  #drained: (() => void)[] = [];

  constructor(address: string, handler: ChannelHandler<In>) {
    this.address = address;
    this.handler = handler;
  }

  send(message: Out): boolean {
    if (this.isClosed) return false;
    this.sent.push(message);
    if (this.isSlow) this.queued += 1;
    return true;
  }

  drained(): Promise<void> {
    if (this.queued === 0 || this.isClosed) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained.push(resolve);
    });
  }

  /** The transport takes what is queued. */
  take(): void {
    this.queued = 0;
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  close(reason: string): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.take();
    queueMicrotask(() => this.handler.closed(reason));
  }
}

export class FakeDialer<Out, In> implements Dialer<Out, In> {
  readonly channels: FakeChannel<Out, In>[] = [];

  dial(address: string, handler: ChannelHandler<In>): FakeChannel<Out, In> {
    const channel = new FakeChannel<Out, In>(address, handler);
    this.channels.push(channel);
    return channel;
  }

  /** The newest channel to the address. */
  to(address: string): FakeChannel<Out, In> {
    const channel = this.channels.findLast((each) => each.address === address);
    if (channel === undefined) throw new Error(`nobody dialed ${address}`);
    return channel;
  }
}

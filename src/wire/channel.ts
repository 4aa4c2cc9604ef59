/** Why a channel ended; for logs only: whoever sent on it knows nothing of what arrived. */
export type CloseReason = string;

/** What the owner of a channel does with it. Called in order; nothing is called after `closed`. */
export interface ChannelHandler<In> {
  message(message: In): void;
  closed(reason: CloseReason): void;
}

/**
 * One end of a long-lived stream between two processes: messages arrive in the order sent or the channel
 * closes. The only way our processes talk to each other, so that a simulator can stand in for gRPC.
 */
export interface Channel<Out> {
  /**
   * Queues a message. False where the queue is full (`channelQueueMax`) or the channel closed: the
   * message was not taken, and a caller that can't wait for `drained` closes the channel.
   */
  send(message: Out): boolean;
  /** Messages taken by `send` that the transport hasn't taken yet: 0 is the moment to send the next batch. */
  readonly queued: number;
  /** Resolves when `queued` is 0, or the channel is closed. */
  drained(): Promise<void>;
  /** Ends it; the local handler's `closed` is called once, later. */
  close(reason: CloseReason): void;
  readonly isClosed: boolean;
}

/** Opens channels to an address, host:port. A channel that can't connect closes. */
export interface Dialer<Out, In> {
  dial(address: string, handler: ChannelHandler<In>): Channel<Out>;
}

/** Called by a server for every channel that a peer opens; answers with its handler. */
export type Acceptor<Out, In> = (channel: Channel<Out>) => ChannelHandler<In>;

/** Messages that may wait in one channel. */
export const channelQueueMax = 1_024;

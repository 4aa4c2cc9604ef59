import {
  ChannelCredentials,
  Client,
  type ClientReadableStream,
  Metadata,
  type MethodDefinition,
  type ServerDuplexStream,
  type ServerWritableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { messageBytesMax } from '../base/limits.js';
import type { Acceptor, Channel, ChannelHandler, Dialer } from './channel.js';
import { fromServiceError, toServiceError } from './grpc-errors.js';
import type { Handshake } from './handshake.js';
import { StreamChannel } from './stream-channel.js';

/** Options of every connection between our own processes: we repeat what is lost ourselves, soon. */
export const connectionOptions = {
  'grpc.max_receive_message_length': messageBytesMax,
  'grpc.max_send_message_length': messageBytesMax,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 500,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.service_config_disable_resolution': 1,
  // A peer whose machine is gone sends no reset: its streams end by these.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
} as const;

const none = new Metadata();

/** Connections of one process, one per address and lane: bulk data on one lane delays nothing on another. */
export class Connections {
  /** Who this process is; a client says nothing of itself. */
  readonly handshake: Handshake | undefined;
  readonly #clients = new Map<string, Client>();
  #closed = false;

  constructor(handshake?: Handshake) {
    this.handshake = handshake;
  }

  client(address: string, lane: string): Client | undefined {
    if (this.#closed) return undefined;
    const name = `${lane} ${address}`;
    let client = this.#clients.get(name);
    if (client === undefined) {
      client = new Client(address, ChannelCredentials.createInsecure(), {
        ...connectionOptions,
        // Part of what grpc-js tells connections apart by.
        'grpc.primary_user_agent': `keychaindb-${lane}`,
      });
      this.#clients.set(name, client);
    }
    return client;
  }

  close(): void {
    this.#closed = true;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}

/** Dials a bidirectional method. `lane`: methods of one lane share a connection. */
export function dialBidi<Out, In>(
  connections: Connections,
  lane: string,
  method: MethodDefinition<Out, In>,
): Dialer<Out, In> {
  return {
    dial(address, handler) {
      const client = connections.client(address, lane);
      if (client === undefined) return refused(new StreamChannel<Out, In>(), handler);
      return openBidi(client, method, handler, address, connections.handshake);
    },
  };
}

/** A channel on a new call of a bidirectional method. A client has no handshake. */
export function openBidi<Out, In>(
  client: Client,
  method: MethodDefinition<Out, In>,
  handler: ChannelHandler<In>,
  address: string,
  handshake?: Handshake,
): Channel<Out> {
  const channel = new StreamChannel<Out, In>();
  const call = client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    handshake?.metadata ?? none,
  );
  listen(call, channel, address, handshake);
  channel.attach(
    {
      write: (message, taken) => {
        call.write(message, taken);
      },
      end: () => {
        call.end();
        call.cancel();
      },
    },
    handler,
  );
  return channel;
}

/** Dials a method that answers one request with a stream: the first message sent is the request. */
export function dialServerStream<Out, In>(
  connections: Connections,
  lane: string,
  method: MethodDefinition<Out, In>,
): Dialer<Out, In> {
  return {
    dial(address, handler) {
      const channel = new StreamChannel<Out, In>();
      const client = connections.client(address, lane);
      if (client === undefined) return refused(channel, handler);
      let call: ClientReadableStream<In> | undefined;
      channel.attach(
        {
          write: (message, taken) => {
            if (call !== undefined) return;
            call = client.makeServerStreamRequest(
              method.path,
              method.requestSerialize,
              method.responseDeserialize,
              message,
              connections.handshake?.metadata ?? none,
            );
            listen(call, channel, address, connections.handshake);
            taken();
          },
          end: () => call?.cancel(),
        },
        handler,
      );
      return channel;
    },
  };
}

function refused<Out, In>(
  channel: StreamChannel<Out, In>,
  handler: ChannelHandler<In>,
): Channel<Out> {
  channel.attach({ write: () => undefined, end: () => undefined }, handler);
  channel.ended('the process is shutting down');
  return channel;
}

function listen<Out, In>(
  call: ClientReadableStream<In>,
  channel: StreamChannel<Out, In>,
  address: string,
  handshake: Handshake | undefined,
): void {
  // It comes before the first message.
  call.on('metadata', (metadata: Metadata) => {
    const refusal = handshake?.meet(metadata, address);
    if (refusal !== undefined) channel.close(refusal.message);
  });
  call.on('data', (message: In) => channel.arrived(message));
  call.on('error', (error: ServiceError) => {
    const refusal = fromServiceError(error);
    if (refusal !== undefined) handshake?.refusedBy(refusal, address);
    channel.ended(error.message);
  });
  call.on('end', () => channel.close('ended by the server'));
}

/** Serves a bidirectional method. An acceptor that throws refuses the call. */
export function serveBidi<Out, In>(
  acceptor: Acceptor<Out, In>,
): (call: ServerDuplexStream<In, Out>) => void {
  return (call) => {
    const channel = new StreamChannel<Out, In>();
    let handler: ChannelHandler<In>;
    try {
      handler = acceptor(channel);
    } catch (error) {
      call.emit('error', toServiceError(error));
      return;
    }
    call.on('data', (message: In) => channel.arrived(message));
    call.on('end', () => channel.close('ended by the client'));
    call.on('cancelled', () => channel.ended('cancelled'));
    call.on('error', (error: Error) => channel.ended(error.message));
    channel.attach(
      {
        write: (message, taken) => {
          call.write(message, taken);
        },
        end: () => call.end(),
      },
      handler,
    );
  };
}

/** Serves a method that answers one request with a stream. */
export function serveServerStream<Out, In>(
  acceptor: Acceptor<Out, In>,
): (call: ServerWritableStream<In, Out>) => void {
  return (call) => {
    const channel = new StreamChannel<Out, In>();
    const handler = acceptor(channel);
    call.on('cancelled', () => channel.ended('cancelled'));
    call.on('error', (error: Error) => channel.ended(error.message));
    channel.attach(
      {
        write: (message, taken) => {
          call.write(message, taken);
        },
        end: () => call.end(),
      },
      handler,
    );
    channel.arrived(call.request);
  };
}

import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { afterArrivals, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { messageBytesMax } from '../base/limits.js';
import type { OwnCluster } from './cluster-name.js';
import type { DirectCalls } from './direct-calls.js';
import { offerStreams } from './direct-streams.js';
import { guarded } from './grpc-handshake.js';
import type { Handshake } from './handshake.js';

export interface GrpcService {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
}

export interface GrpcListener {
  /** host:port where it listens. */
  readonly address: string;
  /** Are unary calls of KV served past grpc-js? Not where grpc-js isn't built as we know it. */
  readonly isDirect: boolean;
  /** What grpc.health.v1 answers. */
  serving(isServing: boolean): void;
  /** Takes nothing new, lets unary calls end for a while, then cuts. */
  close(): Promise<void>;
}

/** Calls of one connection at a time, those with an answer that isn't fetched among them; clients let others wait. */
const streamsMax = 4_096;
/** Milliseconds that calls which are under way may take when a server closes. */
const drainMs = 1_000;

/** Listens with the services and grpc.health.v1. Rejects with ADDRESS_IN_USE, naming the flag. */
export async function listen(options: {
  /** host:port; port 0: any free one. */
  readonly address: string;
  /** The flag that the address came from. */
  readonly flag: string;
  readonly services: readonly GrpcService[];
  /** Serves calls of these services that it knows past grpc-js. */
  readonly direct?: DirectCalls;
  /** Who this process is to its peers. */
  readonly handshake: Handshake;
  /** Refuses calls that name another one. */
  readonly cluster?: OwnCluster;
}): Promise<GrpcListener> {
  const { address, flag, services, direct, handshake, cluster } = options;
  const server = new Server({
    'grpc.max_receive_message_length': messageBytesMax,
    'grpc.max_send_message_length': messageBytesMax,
    'grpc.enable_channelz': 0,
    'grpc.max_concurrent_streams': streamsMax,
    // A peer whose machine is gone says nothing, and nothing may ever be said to it.
    'grpc.keepalive_time_ms': 60_000,
    'grpc.keepalive_timeout_ms': 20_000,
  });
  for (const service of services) {
    const { definition, implementation } = guarded(service, handshake, cluster);
    server.addService(definition, implementation);
  }
  const health = new HealthImplementation({ '': 'NOT_SERVING' });
  health.addToServer(server);
  const port = await bind(server, address, flag);
  const isDirect =
    direct !== undefined &&
    offerStreams(server, (stream, headers) => direct.take(stream, headers)) > 0;
  const host = address.slice(0, address.lastIndexOf(':'));
  return {
    address: `${host}:${port}`,
    isDirect,
    serving: (isServing) => health.setStatus('', isServing ? 'SERVING' : 'NOT_SERVING'),
    close: () => shutDown(server),
  };
}

function bind(server: Server, address: string, flag: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(bindError(error, address, flag));
    });
  });
}

export function bindError(error: Error, address: string, flag: string): KeychainError {
  if (/EADDRINUSE/.test(error.message)) {
    return new KeychainError(
      'ADDRESS_IN_USE',
      `${address} is in use by another process: choose another address with ${flag}`,
      { flag, address },
      error,
    );
  }
  return new KeychainError(
    'BAD_REQUEST',
    `can't listen on ${address} (${flag}): ${error.message}`,
    { flag, address },
    error,
  );
}

function shutDown(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, drainMs);
    afterArrivals(systemClock, () => {
      server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  });
}

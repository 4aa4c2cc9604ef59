import { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { type ClusterStatusResponse, CoordinatorClient } from '../gen/keychaindb/v1/coordinator.js';
import { introducing } from '../wire/grpc-handshake.js';
import type { Handshake } from '../wire/handshake.js';
import type { AskStatus } from './group.js';

/**
 * Asks a coordinator over a connection of its own: when an operator looks, and every second for each proxy, which asks
 * one of them where all are.
 */
export function askStatus(clock: Clock, handshake: Handshake): AskStatus {
  const options = { interceptors: [introducing(handshake)] };
  return (address, timeoutMs) => {
    const client = new CoordinatorClient(address, ChannelCredentials.createInsecure(), options);
    const deadline = clock.wall() + timeoutMs;
    return new Promise<ClusterStatusResponse>((resolve, reject) => {
      client.clusterStatus({ local: true }, new Metadata(), { deadline }, (error, response) => {
        if (error === null) resolve(response);
        else reject(error);
      });
    }).finally(() => client.close());
  };
}

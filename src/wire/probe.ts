import { connect, type Socket } from 'node:net';

/**
 * What the kernel at an address says to a connection. Refused: no process listens there. Accepted: one does, be it
 * that it stands still. Silent: neither in time, or the network says something; nothing is known.
 */
export type ProbeAnswer = 'refused' | 'accepted' | 'silent';

/** A port, so that a simulator can stand in for kernels. */
export interface Prober {
  /**
   * Never rejects.
   *
   * @param address host:port
   */
  probe(address: string, timeoutMs: number): Promise<ProbeAnswer>;
}

/** By a TCP connection that is closed as soon as it stands. */
export const tcpProber: Prober = {
  probe: (address, timeoutMs) =>
    new Promise((resolve) => {
      const socket = dialed(address);
      if (socket === undefined) {
        resolve('silent');
        return;
      }
      const settle = (answer: ProbeAnswer): void => {
        clearTimeout(timer);
        socket.destroy();
        resolve(answer);
      };
      // After a stall of this process the answer may wait in the socket already: it is read first.
      const timer = setTimeout(() => setImmediate(settle, 'silent'), timeoutMs);
      socket.once('connect', () => settle('accepted'));
      socket.on('error', (error) => settle(isRefusal(error) ? 'refused' : 'silent'));
    }),
};

/** Undefined where the address is none: Node throws of a port that can't be. */
function dialed(address: string): Socket | undefined {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  try {
    return connect({ host, port: Number(address.slice(colon + 1)) });
  } catch {
    return undefined;
  }
}

/** Of a name with several addresses all have to refuse. */
function isRefusal(error: Error): boolean {
  if (error instanceof AggregateError) return error.errors.every(isRefusal);
  return 'code' in error && error.code === 'ECONNREFUSED';
}

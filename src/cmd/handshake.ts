import { systemClock } from '../base/clock.js';
import { Handshake } from '../wire/handshake.js';
import type { ProtocolVersion } from '../wire/protocol-version.js';
import type { ProcessTelemetry } from './telemetry.js';

/** What a process says of itself to the others; whom it doesn't understand, it logs once and counts. */
export function startHandshake(
  role: 'coordinator' | 'node' | 'proxy',
  id: string,
  { log, metrics }: Pick<ProcessTelemetry, 'log' | 'metrics'>,
  version: ProtocolVersion,
): Handshake {
  const handshake = new Handshake({
    process: `${role} ${id}`,
    clock: systemClock,
    version,
    refused: ({ process, version, message, remedy }) =>
      log.error({ reason: 'VERSION_UNKNOWN', process, version }, `${message}; ${remedy}`),
  });
  metrics.gauge(
    'keychaindb_peers_refused',
    'Processes that speak another major version of the protocol: nothing is exchanged with them.',
    () => handshake.refused.length,
  );
  return handshake;
}

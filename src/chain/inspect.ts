import type { InspectResponse } from '../gen/keychaindb/v1/chain.js';
import type { EventLog } from '../log/event-log.js';
import { metaPrefix, sessionPrefix } from '../log/keys.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import type { ForwardMeter } from './forwarder.js';
import { isLeased } from './promise.js';
import type { NodeState } from './state.js';
import { hashStored } from './state-hash.js';

/** Where a node is, and on request a hash of its replayable state. */
export async function inspect(
  state: NodeState,
  log: EventLog,
  links: ForwardMeter,
  requests: RequestMeter,
  hash: boolean,
  now: number,
): Promise<InspectResponse> {
  const { ledger, counters } = state;
  const hashed = hash ? await hashStored(log.scan(metaPrefix, sessionPrefix)) : undefined;
  return {
    node: { id: state.self.id, incarnation: state.self.incarnation },
    seen: state.seen,
    activeEpoch: state.active?.epoch ?? 0,
    last: ledger.last,
    synced: ledger.synced,
    watermark: ledger.watermark,
    authority: state.authority,
    leased: isLeased(state, now),
    queriesAnswered: counters.queriesAnswered,
    queriesSent: counters.queriesSent,
    stateHash: hashed?.hash ?? '',
    hashedAt: hashed?.watermark,
    reads: requests.total('get'),
    writes: requests.total('put') + requests.total('delete'),
    syncedBatches: log.meter.batches,
    entriesAppended: log.meter.entries,
    linkMessages: links.messages,
    entriesForwarded: links.entries,
  };
}

import { createHash } from 'node:crypto';
import { fromMapKey } from '../base/bytes.js';
import type { InspectResponse } from '../gen/keychaindb/v1/chain.js';
import type { EventLog } from '../log/event-log.js';
import { objectPrefix } from '../log/keys.js';
import type { RequestMeter } from '../telemetry/request-meter.js';
import type { ForwardMeter } from './forwarder.js';
import type { KeyValue } from './messages.js';
import { decodeObject } from './objects.js';
import { isLeased } from './promise.js';
import type { Ledger, NodeState } from './state.js';

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
    stateHash: hash ? await storedHash(ledger, log) : '',
    reads: requests.total('get'),
    writes: requests.total('put') + requests.total('delete'),
    syncedBatches: log.meter.batches,
    entriesAppended: log.meter.entries,
    linkMessages: links.messages,
    entriesForwarded: links.entries,
  };
}

async function storedHash(ledger: Ledger, log: EventLog): Promise<string> {
  await log.settled();
  const hash = new StateHash();
  for await (const [key, value] of log.scan(objectPrefix)) {
    hash.object(key.subarray(objectPrefix.byteLength), decodeObject(value));
  }
  return hash.end(ledger);
}

/**
 * SHA-256 over the committed objects in key order, the watermark and the sessions' outcomes: equal at
 * two nodes with the same watermark, and at the replay of their log.
 */
export class StateHash {
  readonly #hash = createHash('sha256');

  object(key: Uint8Array, found: KeyValue): void {
    const { createRevision, modRevision, version, value } = found;
    this.#hash.update(
      `o ${key.byteLength} ${value.byteLength} ${createRevision} ${modRevision} ${version} `,
    );
    this.#hash.update(key).update(value);
  }

  end(ledger: Ledger): string {
    const { watermark } = ledger;
    this.#hash.update(`w ${watermark.generation} ${watermark.index} `);
    for (const client of [...ledger.sessions.keys()].sort()) {
      const session = ledger.sessions.get(client);
      if (session === undefined || session.lastAt === 0) continue;
      this.#hash.update('s ').update(fromMapKey(client)).update(` ${session.answeredBelow} `);
      for (const seq of [...session.outcomes.keys()].sort((a, b) => a - b)) {
        const outcome = session.outcomes.get(seq);
        if (seq < session.answeredBelow || outcome === undefined) continue;
        this.#hash.update(`${seq} ${outcome.generation} ${outcome.revision} ${outcome.existed} `);
      }
    }
    return this.#hash.digest('hex');
  }
}

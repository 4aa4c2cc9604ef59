import { fromMapKey, toMapKey } from '../base/bytes.js';
import type { EntryId } from '../gen/keychaindb/v1/log.js';
import type { EventLog } from '../log/event-log.js';
import { commitThrough, emptyLedger, type StoreChanges, stageBlock } from './fold.js';
import { StateHash } from './inspect.js';
import type { KeyValue } from './messages.js';
import type { Ledger } from './state.js';

/** A node's state folded from its log alone. */
export interface Replayed {
  readonly ledger: Ledger;
  readonly objects: ReadonlyMap<string, KeyValue>;
  readonly hash: string;
}

/** Folds the whole log with the production `fold`, committing through `watermark`. */
export async function replay(log: EventLog, watermark: EntryId): Promise<Replayed> {
  const ledger = emptyLedger();
  const objects = new Map<string, KeyValue>();
  const changes: StoreChanges = {
    object(key, version) {
      if (version.value === undefined) objects.delete(toMapKey(key));
      else {
        objects.set(toMapKey(key), {
          value: version.value,
          createRevision: version.createRevision,
          modRevision: version.revision,
          version: version.version,
        });
      }
    },
    outcome: () => undefined,
    session: () => undefined,
  };
  for await (const block of log.read({ generation: 0, index: 0 })) {
    stageBlock(ledger, block);
    if (block.end.index <= watermark.index) commitThrough(ledger, block.end, changes);
  }
  ledger.synced = ledger.last;
  const hash = new StateHash();
  for (const key of [...objects.keys()].sort()) {
    const found = objects.get(key);
    if (found !== undefined) hash.object(fromMapKey(key), found);
  }
  return { ledger, objects, hash: hash.end(ledger) };
}

import t from 'tap';
import { CommitChanges } from '../../src/chain/commit-changes.js';
import { Installer } from '../../src/chain/install.js';
import { watermarkKey } from '../../src/chain/node-store.js';
import { Objects } from '../../src/chain/objects.js';
import { objectKey } from '../../src/log/keys.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';

const fatal = (error: unknown): void => {
  throw error;
};

t.test('R17: what was committed before a snapshot comes is not stored over it', async (t) => {
  const { log } = await openLog({ engine: new MemoryEngine(), fatal });
  const changes = new CommitChanges(new Objects(log, 0));
  const key = Buffer.from('key');
  const version = { revision: 1, value: Buffer.from('old'), createRevision: 1, version: 1 };
  changes.object(key, version);
  changes.committed({ generation: 1, index: 1 }, 0);
  const installer = new Installer({
    log,
    forget: () => changes.forgetAll(),
    give: () => undefined,
    now: () => 0,
    raiseFormat: () => undefined,
    failed: (why) => t.fail(why),
  });
  const at = { generation: 2, index: 9 };
  const base = { at, chunks: 1, objects: 0, sessions: 0, time: 0, stateHash: '', spans: [] };
  installer.begin(1, base);
  await changes.stored();
  await installer.close();
  t.equal(await log.get(watermarkKey), undefined);
  t.equal(await log.get(objectKey(key)), undefined);
});

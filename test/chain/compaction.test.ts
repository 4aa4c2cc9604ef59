import t from 'tap';
import { Compaction, compactionDefault } from '../../src/chain/compaction.js';
import { startState } from '../../src/chain/start.js';
import { MemoryEngine } from '../../src/log/memory-engine.js';
import { openLog } from '../../src/log/open-log.js';
import { readError } from '../../src/log/rocks-status.js';
import { ManualClock } from '../proxy/manual-clock.js';
import { timing } from './pure-cluster.js';

t.test(
  'a log that can not be read for want of a file handle is made shorter later, a damaged one never',
  async (t) => {
    for (const [text, again] of [
      ['IO error: While open a file: /d/1.sst: Too many open files', true],
      ['Corruption: block checksum mismatch', false],
    ] as const) {
      const engine = new MemoryEngine();
      const { log } = await openLog({ engine, fatal: (error) => t.fail(String(error)) });
      let reads = 0;
      engine.get = () => {
        reads += 1;
        return Promise.reject(readError(new Error(text)));
      };
      const self = { id: 'b', incarnation: 1, storeId: Buffer.from('store-b'), address: 'b' };
      const clock = new ManualClock();
      const told: string[] = [];
      const compaction = new Compaction(
        ...([startState(self, 1, timing, 0), log, clock, compactionDefault] as const),
        ...([() => undefined, (error: unknown) => void told.push(String(error))] as const),
      );
      const look = async (): Promise<void> => {
        compaction.look();
        while (compaction.isRunning) await Promise.resolve();
      };
      await look();
      await look();
      t.equal(reads, 1, 'not at every look');
      t.equal(told.length, 1);
      clock.stall(60_000);
      await look();
      t.equal(reads, again ? 2 : 1, text);
      await compaction.close();
    }
  },
);

import t from 'tap';
import { DiskWait } from '../../src/chain/disk-wait.js';

const at = (last: number, synced: number) => ({
  last: { generation: 1, index: last },
  synced: { generation: 1, index: synced },
});

t.test('a disk that goes on is not waited for', async (t) => {
  const wait = new DiskWait();
  t.equal(wait.waitedMs(at(5, 5), 0), 0);
  wait.look(at(9, 5), 100);
  t.equal(wait.waitedMs(at(20, 9), 900), 0, 'it has synced something since');
  t.equal(wait.waitedMs(at(20, 20), 5_000), 0);
});

t.test(
  'a disk that is stuck is waited for since its last sync, however much is handed to it',
  async (t) => {
    const wait = new DiskWait();
    wait.look(at(9, 5), 100);
    wait.look(at(30, 5), 500);
    t.equal(wait.waitedMs(at(40, 5), 1_000), 900);
    wait.look(at(40, 40), 1_100);
    t.equal(wait.waitedMs(at(41, 40), 9_000), 0);
  },
);

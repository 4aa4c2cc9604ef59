import { execFile } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ChainRecord } from '../../src/gen/keychaindb/v1/log.js';
import { decodeBlock, encodeBlock, payloadChecksum } from '../../src/log/block.js';
import {
  blockKey,
  markerKey,
  metaKey,
  objectKey,
  outcomeKey,
  sessionKey,
} from '../../src/log/keys.js';
import { seal, unseal } from '../../src/log/record.js';
import { main } from '../../tools/lab/cluster.js';
import { writeSampleLog } from '../../tools/lab/sample-log.js';
import { SeededRandom } from '../sim/schedule.js';
import { openForWriting } from './append.js';
import {
  change,
  compared,
  dumped,
  flipByte,
  historyOf,
  lines,
  replayed,
  verified,
} from './support.js';

/* What `keychaindb log` says of a folder that isn't what was written: the place, what follows, and never silence. */

const root = t.testdir();
const sample = join(root, 'sample');
const blockSize = 7;
await writeSampleLog(sample, { entries: 500, blockSize, keys: 20 });

let copies = 0;

/** A copy to be damaged. */
function copy(): string {
  copies += 1;
  const dir = join(root, `copy-${copies}`);
  cpSync(sample, dir, { recursive: true });
  return dir;
}

/** The block of entries 43 to 49. */
const damagedBlock = 49;

t.test(
  'one flipped byte in a record of the log is named by every verb, with what follows',
  async (t) => {
    const dir = copy();
    await flipByte(dir, blockKey(damagedBlock), 20);
    const place = /record l\/49, entries 43 to 49: its checksum doesn't match/;
    const checked = await verified(dir);
    t.equal(checked.code, 6);
    t.match(checked.stdout, /^records +FAULT, 1$/m);
    t.match(checked.stdout, /^first fault: record l\/49, entries 43 to 49: /m);
    t.match(checked.stdout, /^after it 451 entries can be read, through 500$/m);
    t.match(checked.stdout, /^state +not compared/m);
    const differs = await compared(sample, dir);
    t.equal(differs.code, 6);
    t.match(differs.stdout, /same through entry 42\nthey part at entry 43, in damage:/);
    t.match(differs.stdout, place);
    for (const verb of [dumped, replayed, (d: string) => historyOf(d, 'key/1')] as const) {
      const { reason, message } = await verb(dir);
      t.equal(reason, 'CORRUPT');
      t.match(message, place);
      t.match(message, /after it the log goes on through entry 500/);
    }
  },
);

t.test('--skip-damaged goes on behind it and says what is left out', async (t) => {
  const dir = copy();
  await flipByte(dir, blockKey(damagedBlock), 20);
  await flipByte(dir, blockKey(70), 3);
  const { code, stdout, stderr } = await dumped(dir, { skipDamaged: true });
  t.equal(code, 0, 'the process ends with 6 for what was skipped');
  t.match(
    stderr,
    /skipped: record l\/49, entries 43 to 49: .*\nskipped: record l\/70, entries 64 to 70/,
  );
  const shown = lines(stdout).map(({ revision }) => Number(revision));
  const isLost = (index: number) => (index > 42 && index <= 49) || (index > 63 && index <= 70);
  t.same(
    shown,
    Array.from({ length: 500 }, (_, i) => i + 1).filter((index) => !isLost(index)),
  );
  const all = await verified(dir, { skipDamaged: true });
  t.match(all.stdout, /^first fault: record l\/49.*\n(.*\n)*then: record l\/70/m);
});

t.test(
  'an entry that was changed and given new checksums is named by verify and by diff',
  async (t) => {
    for (const at of [45, 497]) {
      const dir = copy();
      await alter(dir, at, (record) => {
        if (record?.$case === 'put') Object.assign(record.value, { value: Buffer.from('forged') });
      });
      const differs = await compared(sample, dir);
      t.equal(differs.code, 6);
      t.match(differs.stdout, new RegExp(`they part at entry ${at}, in payload:`));
      t.match(differs.stdout, /put +key\/\d+ +forged/);
    }
    const newest = await newestWrite('key/3');
    const dir = copy();
    await alter(dir, newest, (record) => {
      if (record?.$case === 'put') Object.assign(record.value, { value: Buffer.from('forged') });
    });
    const checked = await verified(dir);
    t.equal(checked.code, 6);
    t.match(
      checked.stdout,
      new RegExp(`first fault: key key/3: the store has \\d+ bytes of revision ${newest}`),
    );
    t.match(checked.stdout, new RegExp(`entry ${newest} or the stored object was changed`));
  },
);

t.test('an entry that can’t follow from what stands before it is named by verify', async (t) => {
  const cases: readonly [(record: ChainRecord['record']) => void, RegExp][] = [
    [
      (record) => {
        if (record?.$case === 'put') Object.assign(record.value, { version: 99 });
      },
      /record l\/49, entry 45 of generation 1: it is version 99 of a key .* the log makes it version/,
    ],
    [
      (record) => {
        if (record?.$case === 'put') Object.assign(record.value, { createRevision: 44 });
      },
      /entry 45 of generation 1: it is version \d+ of a key created at 44; the log makes it/,
    ],
  ];
  for (const [edit, message] of cases) {
    const dir = copy();
    await alter(dir, 45, edit);
    const { code, stdout } = await verified(dir);
    t.equal(code, 6);
    t.match(stdout, message);
    t.match(stdout, /^invariants +FAULT/m);
  }
});

t.test('a request that stands in the log twice is named by verify', async (t) => {
  const dir = copy();
  await alterEntry(dir, 48, (entry) => ({ ...entry, request: entryRequest }));
  t.match(
    (await verified(dir)).stdout,
    /entry 48 of generation 1: a request is committed at most once/,
  );
});

t.test('a lost block, a lost end and a lost batch are named', async (t) => {
  const gap = copy();
  await change(gap, (engine) => engine.write([{ type: 'del', key: blockKey(49) }], { sync: true }));
  const checked = await verified(gap);
  t.equal(checked.code, 6);
  t.match(
    checked.stdout,
    /first fault: record l\/56, entries 43 to 49: the block that ends at 56 follows entry 49/,
  );
  t.match(await dumped(gap), { reason: 'CORRUPT', message: /entries 43 to 49/ });
  const end = copy();
  await change(end, (engine) =>
    engine.write([{ type: 'del', key: blockKey(500) }], { sync: true }),
  );
  const behind = await verified(end, { skipDamaged: true });
  t.match(
    behind.stdout,
    /the log ends at entry 497 of generation 1; it was synced through 500 of 1 \(high-water\)/,
  );
  t.match(behind.stdout, /entry 500 of epoch 1 was committed here; the log ends before it/);
  const batch = copy();
  const log = await openForWriting(batch);
  log.record([{ type: 'put', key: metaKey('note'), value: Buffer.from('a') }], { sync: true });
  await log.settled();
  await log.close();
  await change(batch, async (engine) => {
    const markers: Uint8Array[] = [];
    for await (const [key] of engine.scan({ gte: markerKey(0), lt: Buffer.from('c') }))
      markers.push(key);
    t.ok(markers.length > 0);
    await engine.write([{ type: 'del', key: markers.at(-1) ?? markerKey(1) }], { sync: true });
  });
  t.equal((await verified(batch)).code, 6);
});

t.test('a loss that hides behind damage is named as well', async (t) => {
  const dir = copy();
  await flipByte(dir, blockKey(49), 3);
  await change(dir, (engine) => engine.write([{ type: 'del', key: blockKey(56) }], { sync: true }));
  const { stdout } = await verified(dir, { skipDamaged: true });
  t.match(stdout, /first fault: record l\/49, entries 43 to 49/);
  t.match(
    stdout,
    /then: record l\/63, entries 50 to 56: the block that ends at 63 follows entry 56/,
  );
});

t.test('damage beside the log is named too', async (t) => {
  const client = new Uint8Array(16).fill(2);
  for (const [key, name] of [
    [objectKey(Buffer.from('key/3')), 'o/key/3'],
    [sessionKey(client), `s/${'02'.repeat(16)}`],
    [metaKey('watermark'), 'm/watermark'],
    [metaKey('seen'), 'm/seen'],
  ] as const) {
    const dir = copy();
    await flipByte(dir, key, 2);
    const { code, stdout } = await verified(dir);
    t.equal(code, 6, name);
    t.match(stdout, new RegExp(`record ${name}: its checksum doesn't match`));
  }
  const forgotten = copy();
  await change(forgotten, (engine) =>
    engine.write([{ type: 'del', key: outcomeKey(client, 120) }], { sync: true }),
  );
  t.match(
    (await verified(forgotten)).stdout,
    /the session of client (02){16}: the store has .*, the log .* 120=1\/477 /,
  );
  const lost = copy();
  const key = objectKey(Buffer.from('key/3'));
  await change(lost, (engine) => engine.write([{ type: 'del', key }], { sync: true }));
  t.match(
    (await verified(lost)).stdout,
    /key key\/3: the store has nothing, the log \d+ bytes of revision/,
  );
  const differs = await compared(sample, lost);
  t.equal(differs.code, 6);
  t.match(
    differs.stdout,
    /the states differ in 1 of 20 keys:\n +key\/3: node-1 has value \d+ \(revision/,
  );
});

t.test('a changed byte in any file is met with an error, or changes nothing', async (t) => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1_000_000));
  t.comment(`SEED=${seed}`);
  const random = new SeededRandom(seed);
  const whole = (await dumped(sample)).stdout;
  // One more, whose log stands in a table: an open and a close write it there.
  const tables = copy();
  await change(tables, () => Promise.resolve());
  await change(tables, () => Promise.resolve());
  for (let round = 0; round < 16; round += 1) {
    const dir = join(root, `flip-${round}`);
    cpSync(round % 2 === 0 ? sample : tables, dir, { recursive: true });
    const files = readdirSync(join(dir, 'store')).filter((name) =>
      /\.(log|sst)$|^MANIFEST/.test(name),
    );
    const name = files[Math.floor(random.float() * files.length)] ?? '';
    const bytes = readFileSync(join(dir, 'store', name));
    if (bytes.byteLength === 0) continue;
    const at = Math.floor(random.float() * bytes.byteLength);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(random.float() * 8));
    writeFileSync(join(dir, 'store', name), bytes);
    const what = `${name} at ${at} of ${bytes.byteLength}`;
    const verdict = await runBinary(['log', 'verify', dir]);
    t.ok(
      [0, 6].includes(verdict.code) || verdict.code >= 128,
      `${what}: ${verdict.code} ${verdict.stderr}`,
    );
    if (verdict.code !== 0) continue;
    const shown = await runBinary(['log', 'dump', dir, '-o', 'json']);
    t.equal(shown.code, 0, what);
    t.equal(shown.stdout, whole, what);
  }
});

function runBinary(
  args: readonly string[],
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const options = { timeout: 60_000, killSignal: 'SIGKILL', maxBuffer: 64 << 20 } as const;
    execFile(process.execPath, [main, ...args], options, (error, stdout, stderr) => {
      const isHung = error?.killed === true;
      // Some damage of tables breaks assertions inside RocksDB, which end the process by a signal.
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 128;
      resolve({ code: isHung ? -1 : code, stdout, stderr });
    });
  });
}

/** That of entry 44. */
const entryRequest = { clientId: new Uint8Array(16).fill(1), seq: 11, answeredBelow: 1 };

async function newestWrite(key: string): Promise<number> {
  const entries = lines((await historyOf(sample, key)).stdout);
  return Number(entries.at(-1)?.['revision']);
}

/** Changes an entry's record and makes every checksum right again. */
function alter(
  dir: string,
  index: number,
  edit: (record: ChainRecord['record']) => void,
): Promise<void> {
  return alterEntry(dir, index, (entry) => {
    const { record } = ChainRecord.decode(entry.payload);
    edit(record);
    const payload = ChainRecord.encode({ record }).finish();
    return { ...entry, payload, checksum: payloadChecksum(payload) };
  });
}

type Entry = ReturnType<typeof decodeBlock>['entries'][number];

function alterEntry(dir: string, index: number, edit: (entry: Entry) => Entry): Promise<void> {
  const key = blockKey(Math.min(500, Math.ceil(index / blockSize) * blockSize));
  return change(dir, async (engine) => {
    const block = decodeBlock(unseal(key, (await engine.get(key)) ?? new Uint8Array(0)));
    const entries = block.entries.map((entry) => (entry.index === index ? edit(entry) : entry));
    const { bytes } = encodeBlock({ chainId: block.chainId, previous: block.previous, entries });
    await engine.write([{ type: 'put', key, value: seal(key, bytes) }], { sync: true });
  });
}

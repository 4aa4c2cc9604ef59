/*
 * What comparing states costs (docs/protocol.md, R18): a store of so many objects is read and hashed part by part, as for
 * one pass, without the pauses between the parts; with them a pass takes 1 / share as long.
 * node dist/tools/bench/compare-cost.js [--objects 200000] [--bytes 1000] [--share 0.02]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { comparePaceDefault } from '../../src/chain/comparison.js';
import { encodeObject } from '../../src/chain/objects.js';
import { StateChunk, stateEnd } from '../../src/chain/state-chunk.js';
import { origin } from '../../src/log/event-log.js';
import { objectKey, objectPrefix } from '../../src/log/keys.js';
import { openLog } from '../../src/log/open-log.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { median } from './median.js';

const { values } = parseArgs({
  options: {
    objects: { type: 'string', default: '200000' },
    bytes: { type: 'string', default: '1000' },
    share: { type: 'string', default: String(comparePaceDefault.share) },
  },
});
const objects = Number(values.objects);
const bytes = Number(values.bytes);
const share = Number(values.share);
const print = (line: string): boolean => process.stdout.write(`${line}\n`);

const dir = await mkdtemp(join(tmpdir(), 'keychaindb-compare-'));
try {
  const fatal = (error: unknown): void => {
    throw error;
  };
  const { log } = await openLog({ engine: await RocksEngine.open(dir), fatal });
  for (let i = 0; i < objects; i += 1_000) {
    const some = Array.from({ length: Math.min(1_000, objects - i) }, (_, j) => i + j);
    const ops = some.map((n) => {
      const value = Buffer.alloc(bytes, `value ${n} `);
      const found = { value, createRevision: n, modRevision: n, version: 1 };
      const key = objectKey(Buffer.from(`key/${String(n).padStart(10, '0')}`));
      return { type: 'put' as const, key, value: encodeObject(found) };
    });
    log.record(ops, { sync: false });
    await log.settled();
  }
  const parts: number[] = [];
  const cpu = process.cpuUsage();
  const began = performance.now();
  for (let from: Uint8Array = objectPrefix; ; ) {
    const begin = performance.now();
    const chunk = await StateChunk.read(log, from, stateEnd, comparePaceDefault, () => origin);
    await chunk.hashAt(log, origin);
    parts.push(performance.now() - begin);
    if (chunk.range.isLast) break;
    from = chunk.range.to;
  }
  const seconds = (performance.now() - began) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  await log.close();
  print(`${objects} objects of ${bytes} bytes in ${parts.length} parts`);
  print(
    `one pass without pauses: ${seconds.toFixed(2)} s, ${Math.round(objects / seconds)} objects/s`,
  );
  print(`processor: ${((user + system) / 1_000 / objects).toFixed(4)} ms an object`);
  print(
    `a part: median ${median(parts).toFixed(1)} ms, longest ${Math.max(...parts).toFixed(1)} ms`,
  );
  print(`one pass at a share of ${share}: ${(seconds / share / 60).toFixed(1)} min`);
} finally {
  await rm(dir, { recursive: true, force: true });
}

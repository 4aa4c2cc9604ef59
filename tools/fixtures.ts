/*
 * Writes test/fixtures/<version>: a data folder of each kind and one message of each type, every field set, as this
 * commit writes them. Run once for a version; what stands there is read by a test for ever.
 * node dist/tools/fixtures.js
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { version } from '../src/cmd/version.js';
import { codecs, toPlain } from '../test/fixtures/codecs.js';
import { Lab } from './lab/cluster.js';

interface Field {
  readonly name: string;
  readonly type: string;
  readonly isRepeated: boolean;
}

interface Shape {
  readonly fields: readonly Field[];
  readonly oneofs: ReadonlyMap<string, readonly Field[]>;
}

/** The messages and enums of our .proto files, which are plain enough for a line by line reading. */
function readShapes(): {
  readonly shapes: ReadonlyMap<string, Shape>;
  readonly enums: Set<string>;
} {
  const shapes = new Map<string, Shape>();
  const enums = new Set<string>();
  for (const file of readdirSync('proto/keychaindb/v1')) {
    let message: { fields: Field[]; oneofs: Map<string, Field[]> } | undefined;
    let into: Field[] | undefined;
    for (const line of readFileSync(join('proto/keychaindb/v1', file), 'utf8').split('\n')) {
      const opened = /^message (\w+) \{(\})?/.exec(line);
      const oneof = /^ {2}oneof (\w+) \{/.exec(line);
      const field = /^ +(repeated )?([\w<>, ]+?) (\w+) = \d+;/.exec(line);
      const isEnum = /^enum (\w+)/.exec(line);
      if (isEnum !== null) enums.add(isEnum[1] ?? '');
      if (opened !== null) {
        message = { fields: [], oneofs: new Map() };
        into = message.fields;
        shapes.set(opened[1] ?? '', message);
        if (opened[2] !== undefined) message = undefined;
      } else if (message !== undefined && oneof !== null) {
        into = [];
        message.oneofs.set(camel(oneof[1] ?? ''), into);
      } else if (message !== undefined && line === '  }') into = message.fields;
      else if (line === '}') message = undefined;
      else if (message !== undefined && field !== null) {
        const isRepeated = field[1] !== undefined;
        into?.push({ name: camel(field[3] ?? ''), type: field[2] ?? '', isRepeated });
      }
    }
  }
  return { shapes, enums };
}

function camel(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

const { shapes, enums } = readShapes();

function sampleValue(type: string, at: number): unknown {
  if (enums.has(type)) return 1;
  if (type === 'string') return `text-${at}`;
  if (type === 'bytes') return Uint8Array.from([at, 255, 0, at]);
  if (type === 'bool') return true;
  if (type.startsWith('map<')) return { key: `value-${at}` };
  if (/^(uint32|uint64|fixed32|int32)$/.test(type)) return at * 1_000_003;
  return sampleOf(type, 0);
}

/** A value with every field set; of a oneof the case number `variant`. */
function sampleOf(name: string, variant: number): Record<string, unknown> {
  const shape = shapes.get(name);
  if (shape === undefined) throw new Error(`no message ${name}`);
  const value: Record<string, unknown> = {};
  let at = 1;
  for (const field of shape.fields) {
    const one = sampleValue(field.type, at++);
    value[field.name] = field.isRepeated ? [one, sampleValue(field.type, at++)] : one;
  }
  for (const [oneof, cases] of shape.oneofs) {
    const chosen = cases[variant % cases.length];
    if (chosen !== undefined) {
      value[oneof] = { $case: chosen.name, value: sampleValue(chosen.type, at++) };
    }
  }
  return value;
}

function variantsOf(name: string): number {
  return Math.max(1, ...[...(shapes.get(name)?.oneofs.values() ?? [])].map((c) => c.length));
}

const dir = join('test/fixtures', version());
rmSync(dir, { recursive: true, force: true });
mkdirSync(dir, { recursive: true });
const messages: unknown[] = [];
for (const [name, codec] of codecs) {
  if (!shapes.has(name)) continue;
  for (let variant = 0; variant < variantsOf(name); variant += 1) {
    const value = sampleOf(name, variant);
    const hex = Buffer.from(codec.encode(value).finish()).toString('hex');
    messages.push({ name, hex, value: toPlain(value) });
  }
}
const lines = messages.map((message) => `  ${JSON.stringify(message)}`).join(',\n');
writeFileSync(join(dir, 'messages.json'), `[\n${lines}\n]\n`);

const lab = await Lab.start({ nodes: 1, coordinators: 1 });
try {
  const client = lab.client();
  await client.put('greeting', 'hello');
  await client.put('greeting', 'hello again');
  await client.put('gone', 'soon');
  await client.delete('gone');
  for (const id of ['node-1', 'coordinator-1']) await lab.kill(id);
  for (const id of ['node-1', 'coordinator-1']) {
    cpSync(lab.named(id).dataDir, join(dir, id), { recursive: true });
    const store = join(dir, id, 'store');
    // Notes of RocksDB's own, and its lock: no data.
    for (const file of readdirSync(store)) {
      if (/^LOG|^LOCK$|^OPTIONS/.test(file)) rmSync(join(store, file));
    }
  }
} finally {
  await lab.stop();
}
process.stdout.write(`${messages.length} messages and two folders in ${dir}\n`);

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { KeychainError } from '../../src/base/errors.js';
import type { StorageEngine } from '../../src/log/engine.js';
import { RocksEngine } from '../../src/log/rocks-engine.js';
import { KeptOutput } from '../../tools/lab/log-io.js';
import { bisect } from '../../tools/log/bisect.js';
import { diff } from '../../tools/log/diff.js';
import { dump } from '../../tools/log/dump.js';
import type { FilterFlags } from '../../tools/log/filter.js';
import { history } from '../../tools/log/history.js';
import { replay } from '../../tools/log/replay.js';
import type { LogIo } from '../../tools/log/verb.js';
import { verify } from '../../tools/log/verify.js';

export interface Said {
  readonly code: number;
  /** Reason of the error that it ended with, or ''. */
  readonly reason: string;
  readonly message: string;
  readonly stdout: string;
  readonly stderr: string;
}

async function said(verb: (io: LogIo) => Promise<number>): Promise<Said> {
  const kept = new KeptOutput();
  let [code, reason, message] = [-1, '', ''];
  try {
    code = await kept.run(verb);
  } catch (thrown) {
    const error = KeychainError.from(thrown);
    if (error.reason === 'INTERNAL') throw thrown;
    ({ reason, message } = error);
  }
  await kept.io.out.flush();
  return { code, reason, message, stdout: kept.stdout, stderr: kept.stderr.join('\n') };
}

type Output = { readonly output?: 'table' | 'json' };

export function dumped(dir: string, flags: FilterFlags & Output & { skipDamaged?: boolean } = {}) {
  const all = { follow: false, skipDamaged: false, output: 'json', ...flags } as const;
  return said((io) => dump(dir, all, io));
}

export function verified(dir: string, flags: Output & { skipDamaged?: boolean } = {}) {
  const all = { skipDamaged: false, output: 'table', ...flags } as const;
  return said((io) => verify(dir, all, io));
}

export function replayed(dir: string, flags: Partial<Parameters<typeof replay>[1]> = {}) {
  const all = { step: false, state: false, output: 'json', ...flags } as const;
  return said((io) => replay(dir, all, io));
}

export function compared(a: string, b: string, flags: Output = {}) {
  return said((io) => diff([a, b], { output: 'table', ...flags }, io));
}

export function bisected(
  dir: string,
  flags: { readonly check: string } & Partial<Parameters<typeof bisect>[1]>,
) {
  const all = { from: 0, checkTimeout: 30_000, output: 'json', ...flags } as const;
  return said((io) => bisect(dir, all, io));
}

export function historyOf(
  dir: string,
  key: string,
  flags: FilterFlags & Output & { skipDamaged?: boolean } = {},
) {
  const all = { skipDamaged: false, output: 'json', ...flags, key: Buffer.from(key) } as const;
  return said((io) => history(dir, all, io));
}

export function lines(text: string): readonly Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Changes what stands in a stopped folder. */
export async function change(
  dir: string,
  work: (engine: StorageEngine) => Promise<void>,
): Promise<void> {
  const engine = await RocksEngine.open(dir);
  await work(engine);
  await engine.close();
}

export async function flipByte(dir: string, key: Uint8Array, at: number): Promise<void> {
  await change(dir, async (engine) => {
    const value = (await engine.get(key))?.slice() ?? new Uint8Array(0);
    value[at] = (value[at] ?? 0) ^ 0x01;
    await engine.write([{ type: 'put', key, value }], { sync: true });
  });
}

/** Every file with its size, its time and a hash of its content. */
export function contentOf(dir: string): Readonly<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { size, mtimeMs } = statSync(path);
    const content = entry.isFile()
      ? createHash('sha256').update(readFileSync(path)).digest('hex')
      : 'a folder';
    files[path] = `${size} ${mtimeMs} ${content}`;
  }
  return files;
}

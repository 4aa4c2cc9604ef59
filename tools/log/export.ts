import { fromHex, noBytes } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import { version } from '../../src/cmd/version.js';
import type { EntryId, Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { HopRecord } from '../../src/gen/keychaindb/v1/log.js';
import type { LogBlock } from '../../src/log/event-log.js';
import { hopKey, hopPrefix } from '../../src/log/keys.js';
import { jaegerJson } from '../../src/telemetry/jaeger-json.js';
import { otlpJson } from '../../src/telemetry/otlp-json.js';
import type { Span } from '../../src/telemetry/span.js';
import { writeNamed } from '../../src/telemetry/span-ids.js';
import { traceIdOf } from '../../src/telemetry/trace-context.js';
import { type WriteSpanOptions, writeSpans } from '../../src/telemetry/write-spans.js';
import { badFlag } from './filter.js';
import { LogFolder } from './folder.js';
import type { LogIo } from './verb.js';

export interface ExportFlags {
  /** 32 hexadecimal digits. */
  readonly trace?: string;
  readonly revision?: number;
  readonly format: 'otlp' | 'jaeger';
  /** Bytes of keys and values that the spans show. */
  readonly traceContent: number;
}

/** The trace of a past write, of the envelopes and hop records in the folders of the nodes that it passed. */
export async function exportTrace(
  dirs: readonly string[],
  flags: ExportFlags,
  io: LogIo,
): Promise<number> {
  if ((flags.trace === undefined) === (flags.revision === undefined)) {
    throw badFlag('--trace', 'name a trace with it, or a write with --revision, one of them');
  }
  const spans: Span[] = [];
  const notes: string[] = [];
  for (const dir of dirs) {
    const folder = await LogFolder.open(dir);
    if (folder.identity.kind !== 'node') {
      throw badFlag(dir, "a coordinator's log holds no writes of keys: name folders of nodes");
    }
    const own = await spansOf(folder, flags);
    if (typeof own === 'string') notes.push(`${folder.name}: ${own}`);
    else spans.push(...own);
    await folder.close();
  }
  if (spans.length === 0) throw new KeychainError('TRACE_NOT_FOUND', notes.join('; '));
  for (const note of notes) io.say(note);
  spans.sort((a, b) => a.startUs - b.startUs);
  await io.out.piece(
    flags.format === 'jaeger' ? jaegerJson(spans) : await otlpJson(spans, version()),
  );
  return exitCodes.ok;
}

/** The spans of one node, or why there are none. */
async function spansOf(folder: LogFolder, flags: ExportFlags): Promise<readonly Span[] | string> {
  const wanted = flags.revision ?? (await revisionNamed(folder, flags.trace ?? ''));
  const found =
    wanted === undefined
      ? await byTrace(folder, flags.trace ?? '')
      : await byRevision(folder, wanted);
  if (typeof found === 'string') return found;
  return found.flatMap(({ hop, entry, chainId }) =>
    writeSpans(hop, entry, optionsOf(folder, chainId, flags.traceContent)),
  );
}

interface Passed {
  readonly hop: HopRecord;
  readonly entry: Envelope;
  readonly chainId: number;
}

/** The write that an id of ours names; undefined where a caller made it. */
async function revisionNamed(folder: LogFolder, traceId: string): Promise<number | undefined> {
  const { chainId, id } = writeNamed(fromHex(folder.clusterId) ?? noBytes, traceId);
  if (id.index < 1 || id.index > (await folder.lastIndex())) return undefined;
  const block = await folder.blockOf(id.index);
  const isIt = block?.chainId === chainId && generationAt(block, id.index) === id.generation;
  return isIt ? id.index : undefined;
}

function generationAt(block: LogBlock, index: number): number | undefined {
  return block.entries.find((entry) => entry.index === index)?.generation;
}

async function byRevision(
  folder: LogFolder,
  revision: number,
): Promise<readonly Passed[] | string> {
  const block = await folder.blockOf(revision);
  const entry = block?.entries.find(({ index }) => index === revision);
  if (block === undefined || entry === undefined) {
    return `revision ${revision} is not in its log, which ends at ${await folder.lastIndex()}`;
  }
  const hop = await hopOf(folder, block.end);
  if (hop !== undefined) return [{ hop, entry, chainId: block.chainId }];
  return `revision ${revision} is there, but no record of how it passed: that is kept of group commits with a sampled write, of the newest 16,384`;
}

async function hopOf(folder: LogFolder, end: EntryId): Promise<HopRecord | undefined> {
  const bytes = await folder.get(hopKey(end.index));
  const hop = bytes === undefined ? undefined : HopRecord.decode(bytes);
  // One of a block that was cut stays until its place is taken.
  return hop?.end?.generation === end.generation ? hop : undefined;
}

async function byTrace(folder: LogFolder, traceId: string): Promise<readonly Passed[] | string> {
  const passed: Passed[] = [];
  for await (const [, value] of folder.scan(hopPrefix)) {
    const hop = HopRecord.decode(value);
    const block = await folder.blockOf(hop.end?.index ?? 0);
    if (block === undefined || block.end.generation !== hop.end?.generation) continue;
    for (const entry of block.entries) {
      if (traceIdOf(entry.trace) === traceId) passed.push({ hop, entry, chainId: block.chainId });
    }
  }
  return passed.length > 0 ? passed : `no kept write belongs to trace ${traceId}`;
}

function optionsOf(folder: LogFolder, chainId: number, contentBytes: number): WriteSpanOptions {
  const clusterId = fromHex(folder.clusterId) ?? noBytes;
  return { chainId, clusterId, contentBytes };
}

import { ChannelCredentials, Metadata } from '@grpc/grpc-js';
import { KeychainError } from '../../src/base/errors.js';
import { watermarkKey } from '../../src/chain/node-store.js';
import { exitCodes } from '../../src/cmd/exit-codes.js';
import { ChainClient, type InspectResponse } from '../../src/gen/keychaindb/v1/chain.js';
import { EntryId, type Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { origin } from '../../src/log/event-log.js';
import { entryHeader, entryObject, entryRow, nobody, viewOf } from './entry.js';
import { badFlag, filterOf } from './filter.js';
import { LogFolder } from './folder.js';
import { type LogState, type StateChange, stateOf } from './state.js';
import type { LogIo } from './verb.js';

export interface ReplayFlags {
  /** The last entry that is applied. */
  readonly until?: number;
  readonly step: boolean;
  readonly key?: Uint8Array;
  readonly prefix?: Uint8Array;
  /** Print the state itself, as one JSON document. */
  readonly state: boolean;
  /** gRPC of the running node whose hash is to be the same. */
  readonly live?: string;
  readonly output: 'table' | 'json';
}

/** Rebuilds the state at an entry, and shows how it came about. */
export async function replay(dir: string, flags: ReplayFlags, io: LogIo): Promise<number> {
  if (flags.live !== undefined && flags.until !== undefined) {
    throw badFlag('--live', 'the node names the revision; --until does too');
  }
  // Before the folder is opened: what the node has hashed is in it then.
  const live = flags.live === undefined ? undefined : await hashOf(flags.live);
  const folder = await LogFolder.open(dir);
  const { kind } = folder.identity;
  if (live !== undefined && kind !== 'node') {
    throw badFlag('--live', "a coordinator's log has no watermark");
  }
  const committed = await watermarkOf(folder);
  const until = flags.until ?? live?.hashedAt?.index ?? committed?.index ?? Number.MAX_SAFE_INTEGER;
  const filter = filterOf(kind, flags);
  const state = await stateOf(folder, {
    keepsValues: flags.step || flags.state || flags.key !== undefined,
  });
  const progress = io.progress(until);
  if (flags.step && flags.output === 'table') await io.out.line(entryHeader(kind));
  await fold(folder, state, { until }, io, async (entry, change) => {
    if (!flags.step) return;
    const view = viewOf(kind, entry);
    if (!filter.view(view)) return;
    const { before, after, note } = change;
    const line =
      flags.output === 'json'
        ? JSON.stringify({
            ...entryObject(kind, view),
            before: before.json,
            after: after.json,
            ...(note === '' ? {} : { refused: note }),
            hash: state.hash,
          })
        : `${entryRow(kind, view)}\n${' '.repeat(12)}${before.text || 'nothing'}  ⇒  ${note || after.text || 'nothing'}`;
    await io.out.line(line);
  });
  progress.end(state.at.index);
  await folder.close();
  if (flags.until !== undefined && state.at.index < flags.until)
    throw missing(folder, state, until);
  if (committed !== undefined && state.at.index > committed.index) {
    io.say(`entries after ${committed.index} are not known to be committed here`);
  }
  if (flags.state) {
    const isWanted = (key: Uint8Array): boolean => filter.view({ ...nobody, name: key });
    for (const piece of state.json(isWanted)) await io.out.piece(piece);
    return exitCodes.ok;
  }
  await summary(folder, state, flags, io);
  return live === undefined ? exitCodes.ok : compare(live, state, io);
}

/** Applies every entry through `until`. Damage ends it: a state without some of its entries is none. */
export async function fold(
  folder: LogFolder,
  state: LogState,
  { until }: { readonly until: number },
  io: LogIo,
  each: (entry: Envelope, change: StateChange) => void | Promise<void> = () => undefined,
): Promise<void> {
  const from = state.at.index + 1;
  if (until < state.at.index) throw forgotten(folder, until, state.at.index);
  const progress = io.progress(Math.min(until, await folder.lastIndex()), from - 1);
  for await (const block of folder.blocks(from)) {
    for (const entry of block.entries) {
      if (entry.index < from) continue;
      if (entry.index > until) break;
      const change = state.apply(block, entry);
      await each(entry, change);
    }
    if (block.end.index >= until) break;
    progress.at(block.end.index);
  }
}

/** What is committed in a node's folder, as far as it knows; undefined for a coordinator's. */
export async function watermarkOf(folder: LogFolder): Promise<EntryId | undefined> {
  if (folder.identity.kind !== 'node') return undefined;
  const bytes = await folder.get(watermarkKey);
  return bytes === undefined ? origin : EntryId.decode(bytes);
}

function forgotten(folder: LogFolder, wanted: number, from: number): KeychainError {
  return new KeychainError(
    'REVISION_NOT_FOUND',
    `the state at entry ${wanted} is not known any more: what can be replayed of ${folder.name} begins at ${from}, with a snapshot`,
  );
}

export function missing(folder: LogFolder, { at }: LogState, wanted: number): KeychainError {
  return new KeychainError(
    'REVISION_NOT_FOUND',
    `entry ${wanted} is not in the log of ${folder.name}: it ends at ${at.index}`,
  );
}

async function summary(
  folder: LogFolder,
  state: LogState,
  { key, output }: ReplayFlags,
  io: LogIo,
): Promise<void> {
  const { at, hash, figures } = state;
  const { id, kind } = folder.identity;
  const [index, generation] = kind === 'node' ? ['revision', 'epoch'] : ['index', 'term'];
  const part = key === undefined ? undefined : state.part(key);
  if (output === 'json') {
    const place = { [index ?? '']: at.index, [generation ?? '']: at.generation };
    const found = part === undefined ? {} : { found: part.json };
    await io.out.line(JSON.stringify({ id, ...place, ...figures, ...found, hash }));
    return;
  }
  const place = `${id} at ${index} ${at.index} of ${generation} ${at.generation}`;
  await io.out.line(`${place}: ${state.summary}`);
  if (part !== undefined) await io.out.line(part.text || 'the key is not there');
  await io.out.line(`hash ${hash}`);
}

function compare(live: InspectResponse, state: LogState, io: LogIo): number {
  const at = live.hashedAt ?? origin;
  const isSame = at.generation === state.at.generation && live.stateHash === state.hash;
  const who = `${live.node?.id ?? 'the node'} at revision ${at.index} of epoch ${at.generation}`;
  io.say(isSame ? `${who} has the same hash` : `${who} has another hash: ${live.stateHash}`);
  return isSame ? exitCodes.ok : exitCodes.unhealthy;
}

/** Milliseconds that a node may take to hash its state. */
const hashMs = 60_000;

function hashOf(address: string): Promise<InspectResponse> {
  const client = new ChainClient(address, ChannelCredentials.createInsecure());
  const deadline = new Date(Date.now() + hashMs);
  return new Promise<InspectResponse>((resolve, reject) => {
    client.inspect({ hash: true }, new Metadata(), { deadline }, (error, response) => {
      if (error === null) resolve(response);
      else
        reject(new KeychainError('NOT_SERVING', `${address} could not be asked: ${error.message}`));
    });
  }).finally(() => client.close());
}

import { fromMapKey, toHex, toMapKey } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import { readChunks } from '../../src/chain/base.js';
import { entryBlock, Replay, type ReplayedObject } from '../../src/chain/replay.js';
import { emptyRegistry } from '../../src/coordinator/registry.js';
import type { RegistryState } from '../../src/coordinator/registry-state.js';
import { registryHash, replayEntry } from '../../src/coordinator/replay.js';
import { decodeRegistry } from '../../src/coordinator/snapshot.js';
import type { Member, View } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { EntryId, Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from '../../src/log/event-log.js';
import { readSnapshot } from '../../src/raft/durable-record.js';
import { snapshotId } from '../../src/raft/state.js';
import { stateName } from '../../src/telemetry/view-spans.js';
import type { LogFolder } from './folder.js';
import { some } from './progress.js';
import { jsonOf, shown } from './text.js';

/** What one entry did: the state of what it names before and after, for a person and as JSON. */
export interface StateChange {
  readonly before: Part;
  readonly after: Part;
  /** Why it changed nothing, where it was refused. */
  readonly note: string;
}

export interface Part {
  readonly text: string;
  readonly json: unknown;
}

/** The state that a log folds to, one entry at a time, with the production code. */
export interface LogState {
  /** The entry that was applied last. */
  readonly at: EntryId;
  apply(block: LogBlock, entry: Envelope): StateChange;
  copy(): LogState;
  /** Hex; of a node the one that it reports itself. */
  readonly hash: string;
  /** Figures for a summary, and the same for a person. */
  readonly figures: Readonly<Record<string, number>>;
  readonly summary: string;
  /** The whole state as one JSON document, in pieces; only keys that are wanted. */
  json(isWanted: (key: Uint8Array) => boolean): Iterable<string>;
  /** What stands under a key, or of a member. */
  part(key: Uint8Array): Part;
}

/** The state before the first entry that is kept: that of a snapshot where the log has lost its beginning. */
export async function stateOf(
  folder: LogFolder,
  options: { readonly keepsValues?: boolean } = {},
): Promise<LogState> {
  if (folder.identity.kind === 'node') {
    const replay = new Replay(options);
    const { base, start } = folder;
    if (start.index === 0) return new ChainLogState(replay);
    if (base === undefined) {
      const what = `the log of ${folder.name} begins after entry ${start.index}`;
      throw new KeychainError('CORRUPT', `${what}, and no base stands for what was before it`);
    }
    await replay.begin(base, readChunks(folder, base));
    return new ChainLogState(replay);
  }
  if (folder.start.index === 0) return new RegistryLogState();
  const snapshot = await readSnapshot((key) => folder.get(key));
  if (snapshot === undefined) return new RegistryLogState();
  return new RegistryLogState(decodeRegistry(snapshot.state), snapshotId(snapshot));
}

const nothing: Part = { text: '', json: null };

class ChainLogState implements LogState {
  readonly replay: Replay;

  constructor(replay: Replay) {
    this.replay = replay;
  }

  get at(): EntryId {
    return this.replay.ledger.last;
  }

  apply(block: LogBlock, entry: Envelope): StateChange {
    const single = entryBlock(block, entry, this.at);
    this.replay.stage(single);
    const [change] = this.replay.commit(single.end);
    return {
      before: objectPart(change?.before),
      after: objectPart(change?.after),
      note: '',
    };
  }

  copy(): LogState {
    return new ChainLogState(this.replay.copy());
  }

  get hash(): string {
    return this.replay.hash;
  }

  get figures() {
    const { objects, ledger } = this.replay;
    return { keys: objects.size, sessions: ledger.sessions.size };
  }

  get summary(): string {
    const { keys, sessions } = this.figures;
    return `${some(keys, 'key')}, ${some(sessions, 'session')}`;
  }

  *json(isWanted: (key: Uint8Array) => boolean): Iterable<string> {
    const { index, generation } = this.at;
    yield `{"revision":${index},"epoch":${generation},"objects":[`;
    let separator = '\n';
    for (const name of [...this.replay.objects.keys()].sort()) {
      const key = fromMapKey(name);
      const object = this.replay.objects.get(name);
      if (object === undefined || !isWanted(key)) continue;
      yield `${separator}${JSON.stringify({ ...jsonOf('key', key), ...objectJson(object) })}`;
      separator = ',\n';
    }
    yield '\n]}\n';
  }

  part(key: Uint8Array): Part {
    return objectPart(this.replay.objects.get(toMapKey(key)));
  }
}

function objectJson(object: ReplayedObject): Readonly<Record<string, unknown>> {
  const { value, valueBytes, createRevision, modRevision, version } = object;
  const shownValue = value === undefined ? {} : jsonOf('value', value);
  return { ...shownValue, valueBytes, createRevision, modRevision, version };
}

const valueColumns = 40;

function objectPart(object: ReplayedObject | undefined): Part {
  if (object === undefined) return nothing;
  const { value, valueBytes, version } = object;
  const what = value === undefined ? `${valueBytes} bytes` : shown(value, valueColumns);
  return { text: `${what} (version ${version})`, json: objectJson(object) };
}

class RegistryLogState implements LogState {
  #state: RegistryState;
  #at: EntryId;

  constructor(state = emptyRegistry, at = origin) {
    this.#state = state;
    this.#at = at;
  }

  get at(): EntryId {
    return this.#at;
  }

  apply(_block: LogBlock, entry: Envelope): StateChange {
    const before = this.#state;
    const applied = replayEntry(before, entry);
    this.#state = applied?.state ?? before;
    this.#at = { generation: entry.generation, index: entry.index };
    const refused = applied === undefined || applied.reason === '' ? '' : applied.reason;
    return {
      before: viewPart(before.view),
      after: viewPart(this.#state.view),
      note: refused === '' ? '' : `${refused}: ${applied?.message ?? ''}`,
    };
  }

  copy(): LogState {
    return new RegistryLogState(this.#state, this.#at);
  }

  get hash(): string {
    return registryHash(this.#state);
  }

  get figures() {
    const { epoch, members, others } = this.#state.view;
    return { epoch, members: members.length, others: others.length };
  }

  get summary(): string {
    return viewPart(this.#state.view).text || 'no cluster yet';
  }

  *json(): Iterable<string> {
    const { clusterId, view, incarnations } = this.#state;
    const { index, generation } = this.#at;
    const state = {
      index,
      term: generation,
      clusterId: toHex(clusterId),
      ...viewJson(view),
      incarnations: Object.fromEntries([...incarnations].sort()),
    };
    yield `${JSON.stringify(state)}\n`;
  }

  part(key: Uint8Array): Part {
    const id = new TextDecoder().decode(key);
    const { members, others } = this.#state.view;
    const found = [...members, ...others].find((m) => m.id === id);
    if (found === undefined) return nothing;
    return { text: memberText(found), json: memberJson(found) };
  }
}

function viewPart(view: View): Part {
  const members = view.members.map(memberText).join(' → ');
  const others = view.others.map(memberText).join(', ');
  const text = `epoch ${view.epoch}: ${members || 'nobody'}${others && `; besides ${others}`}`;
  return { text: view.epoch === 0 ? '' : text, json: viewJson(view) };
}

function viewJson(view: View): Readonly<Record<string, unknown>> {
  const { epoch, lineage, length, members, others } = view;
  return {
    epoch,
    lineage,
    length,
    members: members.map(memberJson),
    others: others.map(memberJson),
  };
}

function memberText({ id, state, drained }: Member): string {
  return `${id} ${stateName(state)}${drained ? ' drained' : ''}`;
}

function memberJson(member: Member): object {
  const { id, address, state, incarnation, storeId, drained, spare } = member;
  const name = stateName(state);
  return { id, address, state: name, incarnation, storeId: toHex(storeId), drained, spare };
}

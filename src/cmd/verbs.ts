import { toHex } from '../base/bytes.js';
import { pause, systemClock } from '../base/clock.js';
import { systemRandom } from '../base/random.js';
import {
  type ChangeOptions,
  connect,
  type GetTraceResponse,
  type KeychainClient,
  KeychainError,
  type Member,
  type View,
} from '../client/client.js';
import { MemberState } from '../gen/keychaindb/v1/coordinator.js';
import { deleteJson, getJson, membersJson, putJson } from '../proxy/json.js';
import { jaegerJson } from '../telemetry/jaeger-json.js';
import { type Span, SpanKind, spanOf } from '../telemetry/span.js';
import { contextOf, formatTraceparent, parseTraceId } from '../telemetry/trace-context.js';
import { stateName } from '../telemetry/view-spans.js';
import { waterfall } from '../telemetry/waterfall.js';
import { exitCodes } from './exit-codes.js';
import { failed, say } from './process.js';
import { table } from './table.js';

export interface ClientFlags {
  readonly endpoints: readonly string[];
  readonly timeout: number;
  readonly output: 'table' | 'json';
}

export interface ChangeFlags extends ClientFlags {
  readonly expectedEpoch?: number;
}

/** Connects, works, closes; the exit code of what went wrong. */
async function withClient(
  { endpoints, timeout }: ClientFlags,
  work: (client: KeychainClient) => Promise<number>,
): Promise<number> {
  const client = connect({ endpoints, timeoutMs: timeout });
  try {
    return await work(client);
  } catch (error) {
    return failed(error);
  } finally {
    client.close();
  }
}

function print(text: string | Uint8Array): void {
  process.stdout.write(text);
  if (typeof text !== 'string' || !text.endsWith('\n')) process.stdout.write('\n');
}

export function get(key: string, flags: ClientFlags & { readonly node?: string }): Promise<number> {
  return withClient(flags, async (client) => {
    const response = await client.get(key, flags.node === undefined ? {} : { node: flags.node });
    if (response === undefined) {
      say(`KEY_NOT_FOUND: there is no key ${JSON.stringify(key)}`);
      return exitCodes.notFound;
    }
    print(flags.output === 'json' ? getJson(response) : response.value);
    return exitCodes.ok;
  });
}

export function put(
  key: string,
  value: string,
  flags: ClientFlags & { readonly trace?: boolean },
): Promise<number> {
  return withClient(flags, async (client) => {
    const bytes = value === '-' ? await stdin() : value;
    if (flags.trace === true) return putTraced(client, key, bytes, flags);
    const response = await client.put(key, bytes);
    print(flags.output === 'json' ? putJson(response) : `revision ${response.revision}`);
    return exitCodes.ok;
  });
}

/** Milliseconds that a trace may take until every serving node has told its part. */
const wholeTraceMs = 2_000;
/** Milliseconds between two looks. */
const lookMs = 50;

async function putTraced(
  client: KeychainClient,
  key: string,
  value: string | Uint8Array,
  flags: ClientFlags,
): Promise<number> {
  const id = toHex(systemRandom.bytes(16));
  const spanId = toHex(systemRandom.bytes(8));
  const from = performance.timeOrigin + performance.now();
  const response = await client
    .put(key, value, { traceparent: formatTraceparent(contextOf(id, spanId, true)) })
    .catch((error: unknown) => {
      say(`what is known of the write: keychaindb trace ${id}`);
      throw error;
    });
  const own: Span = spanOf(
    { service: 'keychaindb-cli', instance: 'cli' },
    {
      traceId: id,
      spanId,
      parentId: '',
      name: 'keychaindb put',
      kind: SpanKind.CLIENT,
      startUs: from * 1_000,
      endUs: (performance.timeOrigin + performance.now()) * 1_000,
      attributes: {},
    },
  );
  const { members } = await client.members();
  const serving = members.filter((m) => m.state === MemberState.SERVING).length;
  const { spans, silent } = await wholeTrace(client, id, serving);
  if (flags.output === 'json') print(jaegerJson([own, ...spans]));
  else {
    print(`revision ${response.revision}`);
    print(waterfall([own, ...spans], { width: terminalWidth() }));
  }
  for (const name of silent) say(`${name} could not be asked for its part of the trace`);
  return exitCodes.ok;
}

/** A node tells its part a moment after the answer: waits until all who serve have, for a while. */
async function wholeTrace(
  client: KeychainClient,
  id: string,
  serving: number,
): Promise<GetTraceResponse> {
  const until = performance.now() + wholeTraceMs;
  for (;;) {
    const found = await client.trace(id);
    const hops = found.spans.filter(({ name }) => name === 'chain.write' || name === 'chain.apply');
    if (hops.length >= serving || performance.now() > until) return found;
    await pause(systemClock, lookMs);
  }
}

function terminalWidth(): number {
  return Math.max(60, process.stdout.columns || 120);
}

export function trace(
  id: string,
  flags: ClientFlags & { readonly attributes?: boolean },
): Promise<number> {
  return withClient(flags, async (client) => {
    const isRevision = /^\d{1,16}$/.test(id);
    const traceId = parseTraceId(id);
    if (!isRevision && traceId === undefined) {
      const message = 'a trace has 32 hexadecimal digits; a revision is a number';
      throw new KeychainError('BAD_REQUEST', `id: "${id}" is neither: ${message}`, { field: 'id' });
    }
    const { spans, silent } = await client.trace(isRevision ? Number(id) : (traceId ?? ''));
    for (const name of silent) say(`${name} could not be asked for its part of the trace`);
    if (spans.length === 0) {
      const what = isRevision ? `the write of revision ${id}` : `trace ${id}`;
      throw new KeychainError(
        'TRACE_NOT_FOUND',
        `no process remembers ${what}: a node remembers its newest 4,096 group commits, a process its newest 8,192 spans`,
      );
    }
    print(
      flags.output === 'json'
        ? jaegerJson(spans)
        : waterfall(spans, { width: terminalWidth(), attributes: flags.attributes === true }),
    );
    return exitCodes.ok;
  });
}

export function logLevel(
  level: string,
  flags: ClientFlags & { readonly process?: string },
): Promise<number> {
  return withClient(flags, async (client) => {
    const { process: named, before } = await client.setLogLevel(level, flags.process);
    print(
      flags.output === 'json'
        ? JSON.stringify({ process: named, before, level })
        : `${named}: ${before} → ${level}`,
    );
    return exitCodes.ok;
  });
}

async function stdin(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export function del(key: string, flags: ClientFlags): Promise<number> {
  return withClient(flags, async (client) => {
    const response = await client.delete(key);
    const text = response.existed ? 'deleted' : 'there was none';
    print(
      flags.output === 'json' ? deleteJson(response) : `${text}, revision ${response.revision}`,
    );
    return exitCodes.ok;
  });
}

export function members(flags: ClientFlags): Promise<number> {
  return withClient(flags, async (client) => {
    const view = await client.members();
    print(flags.output === 'json' ? membersJson(view) : membersTable(view));
    return exitCodes.ok;
  });
}

/** A change of the chain, and what is said where it was made, or was so already. */
function change(
  flags: ChangeFlags,
  done: string,
  make: (client: KeychainClient, options: ChangeOptions) => Promise<void>,
): Promise<number> {
  const { expectedEpoch } = flags;
  return withClient(flags, async (client) => {
    await make(client, expectedEpoch === undefined ? {} : { expectedEpoch });
    if (flags.output === 'json') print('{}');
    else say(done);
    return exitCodes.ok;
  });
}

export function add(
  id: string,
  address: string,
  flags: ChangeFlags & { readonly spare?: boolean },
): Promise<number> {
  const { spare = false } = flags;
  const when = spare ? 'when it runs and the chain is too short' : 'when it runs';
  const done = `${id} was added: it joins the chain ${when}`;
  return change(flags, done, (client, options) =>
    client.addMember(id, address, { ...options, spare }),
  );
}

export function length(length: number, flags: ChangeFlags): Promise<number> {
  const done = length === 0 ? 'spares wait' : `spares fill the chain up to ${length}`;
  return change(flags, done, (client, options) => client.setChainLength(length, options));
}

export function remove(id: string, flags: ChangeFlags): Promise<number> {
  return change(flags, `${id} was removed`, (client, options) => client.removeMember(id, options));
}

export function drain(id: string, flags: ChangeFlags): Promise<number> {
  const done = `${id} was drained: it is taken in again when it was restarted, or added again`;
  return change(flags, done, (client, options) => client.drainMember(id, options));
}

export function reorder(ids: readonly string[], flags: ChangeFlags): Promise<number> {
  const done = `the chain is ${ids.join(' → ')}`;
  return change(flags, done, (client, options) => client.reorderChain(ids, options));
}

export function recover(
  id: string,
  flags: ChangeFlags & { readonly lose?: readonly string[] },
): Promise<number> {
  const done = `the chain goes on with what ${id} has`;
  const lost = flags.lose ?? [];
  return change(flags, done, (client, options) => client.recoverChain(id, lost, options));
}

function membersTable({ members: chain, others }: View): string {
  const row = (m: Member, role: string): readonly string[] => [
    m.id,
    m.address,
    stateName(m.state),
    role,
  ];
  const serving = chain.filter((m) => m.state === MemberState.SERVING);
  const roleOf = (m: Member): string => {
    const roles = [m === serving[0] ? 'head' : '', m === serving.at(-1) ? 'tail' : ''];
    return [...roles, ...marks(m)].filter((role) => role !== '').join(', ');
  };
  return table(
    ['NODE', 'ADDRESS', 'STATE', 'ROLE'],
    [...chain.map((m) => row(m, roleOf(m))), ...others.map((m) => row(m, marks(m).join(', ')))],
  );
}

function marks({ drained, spare }: Member): readonly string[] {
  return [...(drained ? ['drained'] : []), ...(spare ? ['spare'] : [])];
}

import { toHex } from '../base/bytes.js';
import { ChainRecord, type Envelope, type HopRecord } from '../gen/keychaindb/v1/log.js';
import {
  type Attributes,
  type Instance,
  placeAttributes,
  type Span,
  SpanKind,
  type SpanLink,
  spanOf,
} from './span.js';
import { spanIdOf, traceIdNamed, writeTraceId } from './span-ids.js';
import { isSampled, parentIdOf, traceIdOf } from './trace-context.js';

/*
 * The spans of a write at one node, made of its envelope and the hop record of its block; nothing else is
 * kept. Names and attributes: docs/tracing.md.
 */

export interface WriteSpanOptions {
  readonly chainId: number;
  readonly clusterId: Uint8Array;
  /** Show the key, and this many bytes of the value; 0: neither. */
  readonly contentBytes: number;
}

/** Links that one span may carry: the limit that collectors assume. */
export const linksMax = 128;

export function nodeInstance(node: string): Instance {
  return { service: 'keychaindb-node', instance: node };
}

/** The trace of an entry: its caller's, or the one that its place in the log names. */
export function traceOfEntry(entry: Envelope, options: WriteSpanOptions): string {
  const traceId = traceIdOf(entry.trace);
  if (traceId !== '') return traceId;
  const { generation, index } = entry;
  return writeTraceId(options.clusterId, { chainId: options.chainId, id: { generation, index } });
}

/** What one node did with one write. */
export function writeSpans(
  hop: HopRecord,
  entry: Envelope,
  options: WriteSpanOptions,
): readonly Span[] {
  const traceId = traceOfEntry(entry, options);
  const id = (node: string, part: string): string =>
    spanIdOf(traceId, entry.generation, entry.index, node, part);
  const own = nodeInstance(hop.node);
  const isHead = hop.predecessor === '';
  const whole = id(hop.node, 'hop');
  const arrived = (isHead ? hop.arrivals[entry.index - hop.first] : 0) || hop.arrived;
  const over = hop.acknowledged || hop.committed || hop.acked || hop.synced || hop.appended;
  const spans: Span[] = [
    spanOf(own, {
      traceId,
      spanId: whole,
      parentId: isHead ? parentIdOf(entry.trace) : id(hop.predecessor, 'forward'),
      name: isHead ? 'chain.write' : 'chain.apply',
      kind: isHead ? SpanKind.SERVER : SpanKind.CONSUMER,
      startUs: arrived,
      endUs: over,
      attributes: isHead ? headAttributes(hop, entry, options) : hopAttributes(hop, entry, options),
      error: hop.cut
        ? 'cut from the log: it was never committed here'
        : hop.committed === 0
          ? 'not committed here'
          : '',
    }),
  ];
  const part = (
    name: string,
    startUs: number,
    endUs: number,
    rest: {
      readonly kind?: SpanKind;
      readonly attributes?: Attributes;
      readonly links?: readonly SpanLink[];
      readonly error?: string;
    } = {},
  ): void => {
    const { kind = SpanKind.INTERNAL, attributes = none } = rest;
    const spanId = id(hop.node, partOf[name] ?? name);
    spans.push(
      spanOf(own, {
        traceId,
        spanId,
        parentId: whole,
        name,
        startUs,
        endUs,
        ...rest,
        kind,
        attributes,
      }),
    );
  };
  part('chain.inbox', arrived, hop.appended);
  if (hop.synced > 0) {
    part('rocksdb.write', hop.writing, hop.synced, { attributes: rocksdb });
  }
  if (hop.forwarded > 0) {
    part('chain.forward', hop.forwarded, hop.acked || hop.committed || hop.forwarded, {
      kind: SpanKind.PRODUCER,
      error: hop.acked === 0 && hop.committed === 0 ? 'the successor has not acknowledged it' : '',
    });
  }
  const commits = hop.role === 'tail' || hop.role === 'only';
  if (hop.committed > 0 && commits) {
    part('chain.commit', Math.max(hop.synced, hop.role === 'tail' ? hop.acked : 0), hop.committed);
  }
  if (hop.acknowledged > 0) {
    part('chain.ack', hop.committed, hop.acknowledged, { kind: SpanKind.PRODUCER });
  }
  return spans;
}

/** The group commit: a trace of its own, linked to the writes that it carried. */
export function groupSpan(hop: HopRecord, links: readonly SpanLink[]): Span {
  return spanOf(nodeInstance(hop.node), {
    traceId: groupTraceId(hop),
    spanId: groupSpanId(hop),
    parentId: '',
    name: 'chain.group_commit',
    kind: SpanKind.INTERNAL,
    startUs: hop.writing || hop.appended,
    endUs: hop.synced || hop.appended,
    attributes: {
      ...placeAttributes(hop),
      'keychaindb.revision.first': hop.first,
      'keychaindb.revision.last': hop.end?.index ?? 0,
      'keychaindb.batch.size': sizeOf(hop),
    },
    links: links.slice(0, linksMax),
  });
}

/** The span of a write's sync at a node, to which the group commit links. */
export function syncLink(hop: HopRecord, entry: Envelope, options: WriteSpanOptions): SpanLink {
  const traceId = traceOfEntry(entry, options);
  return { traceId, spanId: spanIdOf(traceId, entry.generation, entry.index, hop.node, 'sync') };
}

/** The spans of every entry of a block that is to be recorded, and its group commit. */
export function blockSpans(
  hop: HopRecord,
  entries: readonly Envelope[],
  options: WriteSpanOptions,
): readonly Span[] {
  const sampled = entries.filter((entry) => isSampled(entry.trace));
  const links = sampled.slice(0, linksMax).map((entry) => syncLink(hop, entry, options));
  return [
    ...sampled.flatMap((entry) => writeSpans(hop, entry, options)),
    ...(links.length > 0 && hop.synced > 0 ? [groupSpan(hop, links)] : []),
  ];
}

const none: Attributes = {};
const rocksdb: Attributes = { 'db.system.name': 'rocksdb' };

/** What the ids of a hop's parts are made of. */
const partOf: Readonly<Record<string, string>> = {
  'chain.inbox': 'inbox',
  'rocksdb.write': 'sync',
  'chain.forward': 'forward',
  'chain.commit': 'commit',
  'chain.ack': 'ack',
};

function groupTraceId(hop: HopRecord): string {
  return traceIdNamed(
    'group',
    hop.node,
    hop.end?.generation ?? 0,
    hop.end?.index ?? 0,
    hop.appended,
  );
}

function groupSpanId(hop: HopRecord): string {
  return spanIdOf(groupTraceId(hop), 'group');
}

function sizeOf(hop: HopRecord): number {
  return (hop.end?.index ?? hop.first) - hop.first + 1;
}

function hopAttributes(hop: HopRecord, entry: Envelope, options: WriteSpanOptions): Attributes {
  return {
    'keychaindb.chain.id': options.chainId,
    'keychaindb.revision': entry.index,
    ...placeAttributes(hop),
    'keychaindb.batch.size': sizeOf(hop),
  };
}

/** What is the same at every node stands at the head. */
function headAttributes(hop: HopRecord, entry: Envelope, options: WriteSpanOptions): Attributes {
  const { record } = ChainRecord.decode(entry.payload);
  const { request } = entry;
  return {
    ...hopAttributes(hop, entry, options),
    'db.system.name': 'keychaindb',
    'db.operation.name': record?.$case ?? '',
    'keychaindb.generation': entry.generation,
    ...(request === undefined
      ? none
      : { 'keychaindb.request.id': `${toHex(request.clientId)}:${request.seq}` }),
    ...(options.contentBytes > 0 ? contentOf(record, options.contentBytes) : none),
  };
}

/** Keys and values, where the operator has switched them on. */
function contentOf(record: ChainRecord['record'], bytes: number): Attributes {
  if (record?.$case !== 'put' && record?.$case !== 'delete') return none;
  const key = { 'keychaindb.key': textOf(record.value.key, bytes) };
  return record.$case === 'put'
    ? { ...key, 'keychaindb.value': textOf(record.value.value, bytes) }
    : key;
}

/** UTF-8 where it is, else hexadecimal after 0x; cut with an ellipsis. */
export function textOf(bytes: Uint8Array, most: number): string {
  const part = bytes.subarray(0, most);
  const more = bytes.byteLength > most ? '…' : '';
  try {
    // As a stream: a character that the cut has split is left out.
    return new TextDecoder('utf-8', { fatal: true }).decode(part, { stream: more !== '' }) + more;
  } catch {
    return `0x${toHex(part)}${more}`;
  }
}

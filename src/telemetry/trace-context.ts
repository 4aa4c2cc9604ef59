import { noBytes } from '../base/bytes.js';
import type { Random } from '../base/random.js';

/*
 * The trace context of an operation as it travels and stands in envelopes: 16 bytes trace id, 8 bytes id of
 * the span that caused it, 1 byte flags (W3C Trace Context, level 1); no bytes: no trace.
 */

export const contextBytes = 25;
const traceIdBytes = 16;
const sampledFlag = 1;

/** Is it to be recorded? The one check of the data path: nothing is made for an operation that is not. */
export function isSampled(context: Uint8Array): boolean {
  return (
    context.byteLength === contextBytes && ((context[contextBytes - 1] ?? 0) & sampledFlag) === 1
  );
}

/** 32 hexadecimal digits; '' where there is no trace. */
export function traceIdOf(context: Uint8Array): string {
  return context.byteLength === contextBytes ? hex(context, 0, traceIdBytes) : '';
}

/** 16 hexadecimal digits; '' where there is no trace, or it names no span. */
export function parentIdOf(context: Uint8Array): string {
  if (context.byteLength !== contextBytes) return '';
  const id = hex(context, traceIdBytes, contextBytes - 1);
  return id === '0000000000000000' ? '' : id;
}

/** @param traceId 32 hexadecimal digits @param spanId 16 of them; '': no span caused it */
export function contextOf(traceId: string, spanId: string, isToBeRecorded: boolean): Uint8Array {
  const context = Buffer.alloc(contextBytes);
  context.write(traceId, 0, 'hex');
  context.write(spanId, traceIdBytes, 'hex');
  context[contextBytes - 1] = isToBeRecorded ? sampledFlag : 0;
  return context;
}

/**
 * The context of a `traceparent`. As W3C asks, one that is malformed counts as absent, and one of a newer
 * version is read as far as this version goes.
 */
export function parseTraceparent(header: string | undefined): Uint8Array {
  // Of a caller in JavaScript it may be anything.
  if (typeof header !== 'string') return noBytes;
  const parts = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(
    header.trim(),
  );
  const [, version, traceId = '', spanId = '', flags = '', rest] = parts ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && rest !== undefined)) {
    return noBytes;
  }
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return noBytes;
  return contextOf(traceId, spanId, (Number.parseInt(flags, 16) & sampledFlag) === 1);
}

export function formatTraceparent(context: Uint8Array): string {
  const flags = isSampled(context) ? '01' : '00';
  return `00-${traceIdOf(context)}-${hex(context, traceIdBytes, contextBytes - 1)}-${flags}`;
}

/** The context of an operation that is to be recorded whatever the ratio says: the given one, or a new one. */
export function forced(context: Uint8Array, random: Random): Uint8Array {
  const given = traceIdOf(context);
  if (given !== '') return contextOf(given, parentIdOf(context), true);
  const bytes = random.bytes(traceIdBytes);
  return contextOf(hex(bytes, 0, traceIdBytes), '', true);
}

/** 32 hexadecimal digits that are not all zero, in lower case; undefined: it is none. */
export function parseTraceId(text: string): string | undefined {
  const id = text.trim().toLowerCase();
  return /^[0-9a-f]{32}$/.test(id) && !/^0+$/.test(id) ? id : undefined;
}

function hex(bytes: Uint8Array, from: number, to: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('hex');
}

import { Metadata } from '@grpc/grpc-js';
import type { Random } from '../base/random.js';
import { forced, parseTraceparent, traceIdOf } from '../telemetry/trace-context.js';

/** Where a caller names its trace, asks for one, and where the answer names it. */
export const traceparentHeader = 'traceparent';
export const traceAskedHeader = 'x-keychaindb-trace';
export const traceIdHeader = 'x-keychaindb-trace-id';

/** What of a call is looked at. */
export interface TracedCall {
  readonly metadata: Metadata;
  sendMetadata(metadata: Metadata): void;
}

/**
 * The trace context that a call carries: `traceparent`. With `x-keychaindb-trace: 1` it is recorded for certain,
 * and the answer's metadata names the trace.
 */
export function traceOfCall(call: TracedCall, random: Random): Uint8Array {
  const [given] = call.metadata.get(traceparentHeader);
  const context = parseTraceparent(typeof given === 'string' ? given : undefined);
  if (call.metadata.get(traceAskedHeader)[0] !== '1') return context;
  const trace = forced(context, random);
  const answer = new Metadata();
  answer.set(traceIdHeader, traceIdOf(trace));
  call.sendMetadata(answer);
  return trace;
}

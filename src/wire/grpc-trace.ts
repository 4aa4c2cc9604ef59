import { Metadata } from '@grpc/grpc-js';
import type { Random } from '../base/random.js';
import { forced, parseTraceparent, traceIdOf } from '../telemetry/trace-context.js';

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
  const [given] = call.metadata.get('traceparent');
  const context = parseTraceparent(typeof given === 'string' ? given : undefined);
  if (call.metadata.get('x-keychaindb-trace')[0] !== '1') return context;
  const trace = forced(context, random);
  const answer = new Metadata();
  answer.set('x-keychaindb-trace-id', traceIdOf(trace));
  call.sendMetadata(answer);
  return trace;
}

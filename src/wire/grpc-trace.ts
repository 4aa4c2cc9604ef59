import type { Metadata } from '@grpc/grpc-js';
import type { Random } from '../base/random.js';
import { forced, parseTraceparent } from '../telemetry/trace-context.js';

/** The trace context that a call carries: `traceparent`, recorded for certain with `x-keychaindb-trace: 1`. */
export function traceOfCall(metadata: Metadata, random: Random): Uint8Array {
  const [given] = metadata.get('traceparent');
  const context = parseTraceparent(typeof given === 'string' ? given : undefined);
  return metadata.get('x-keychaindb-trace')[0] === '1' ? forced(context, random) : context;
}

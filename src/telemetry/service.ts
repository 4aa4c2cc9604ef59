import { toHex } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import type {
  GetTraceRequest,
  GetTraceResponse,
  SetLogLevelRequest,
  SetLogLevelResponse,
  TelemetryServer,
} from '../gen/keychaindb/v1/telemetry.js';
import { answer } from '../wire/grpc-answer.js';
import type { Logger } from './log.js';
import { isLogLevel, type LogLevel, logLevels } from './log-levels.js';
import type { Span } from './span.js';
import type { Traces } from './traces.js';

export interface TelemetryServiceOptions {
  readonly id: string;
  readonly log: Logger;
  readonly traces: Traces;
  /** Spans that are made only when somebody asks; a node's, of its hop records. */
  readonly find?: (request: GetTraceRequest) => Promise<readonly Span[]>;
  /** A proxy's: the other processes. */
  readonly others?: TelemetryOthers;
  /** A worker's: the workers that share its id. */
  readonly siblings?: TelemetrySiblings;
}

/** Processes that count as one, this one included. */
export interface TelemetrySiblings {
  spansOf(traceId: string): Promise<readonly Span[]>;
  setLogLevel(level: LogLevel): Promise<void>;
}

/** Other processes of the cluster, as a proxy reaches them. */
export interface TelemetryOthers {
  getTrace(request: GetTraceRequest): Promise<GetTraceResponse>;
  setLogLevel(request: SetLogLevelRequest): Promise<SetLogLevelResponse>;
}

/** The service that every process offers. */
export function telemetryService(options: TelemetryServiceOptions): TelemetryServer {
  return {
    getTrace: (call, callback) => answer(getTrace(options, call.request), callback),
    setLogLevel: (call, callback) => answer(setLogLevel(options, call.request), callback),
  };
}

export async function getTrace(
  { traces, find, others, siblings }: TelemetryServiceOptions,
  request: GetTraceRequest,
): Promise<GetTraceResponse> {
  const asked = toHex(request.traceId);
  if (asked === '' && request.entry === undefined && request.request === undefined) {
    throw new KeychainError('BAD_REQUEST', 'trace_id: a trace, an entry or a request is wanted', {
      field: 'trace_id',
    });
  }
  if (asked !== '' && asked.length !== 32) {
    throw new KeychainError('BAD_REQUEST', 'trace_id: 16 bytes are wanted', { field: 'trace_id' });
  }
  const [made, elsewhere] = await Promise.all([find?.(request) ?? [], others?.getTrace(request)]);
  const traceId = asked || made[0]?.traceId || elsewhere?.spans[0]?.traceId || '';
  const remembered =
    traceId === ''
      ? []
      : // Where the others don't answer there is what is known here.
        ((await siblings?.spansOf(traceId).catch(() => undefined)) ?? traces.spansOf(traceId));
  const known = new Set(remembered.map(nameOf));
  const fresh = made.filter((span) => !known.has(nameOf(span)));
  if (request.keep) for (const span of fresh) traces.record(span);
  return {
    spans: unique([...remembered, ...fresh, ...(elsewhere?.spans ?? [])]),
    silent: elsewhere?.silent ?? [],
  };
}

function nameOf({ instance, spanId }: Span): string {
  return `${instance}/${spanId}`;
}

function unique(spans: readonly Span[]): readonly Span[] {
  return [...new Map(spans.map((span) => [nameOf(span), span])).values()];
}

async function setLogLevel(
  { id, log, others, siblings }: TelemetryServiceOptions,
  request: SetLogLevelRequest,
): Promise<SetLogLevelResponse> {
  const { level, process } = request;
  if (!isLogLevel(level)) {
    throw new KeychainError('BAD_REQUEST', `level: "${level}" is none of ${logLevels.join(', ')}`, {
      field: 'level',
    });
  }
  if (process !== '' && process !== id) {
    if (others !== undefined) return others.setLogLevel(request);
    throw new KeychainError('MEMBER_NOT_FOUND', `this is ${id}, not ${process}: ask a proxy`);
  }
  const before = log.level;
  log.level = level;
  log.info({ before, level }, 'the log level was changed');
  await siblings?.setLogLevel(level);
  return { process: id, before };
}

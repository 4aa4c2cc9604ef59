import type { LogLevel } from '../telemetry/log-levels.js';
import type { MetricSamples } from '../telemetry/metrics-sum.js';
import type { Span } from '../telemetry/span.js';
import type { ProxyFlags } from './proxy.js';

/* What the processes of one proxy say to each other, over the channel between a worker and the primary. */

/** Asked by one worker, answered by all of them. */
export type Question =
  | { readonly kind: 'metrics' }
  | { readonly kind: 'spans'; readonly traceId: string }
  | { readonly kind: 'log-level'; readonly level: LogLevel };

/** What one worker says; what it wasn't asked for is left out. */
export interface Answer {
  readonly samples?: MetricSamples;
  readonly spans?: readonly Span[];
}

/** What all of them said. */
export interface Gathered {
  /** The sum of all metrics, as /metrics shows it. */
  readonly metrics?: string;
  readonly spans?: readonly Span[];
}

export type FromWorker =
  | { readonly type: 'begins' }
  | { readonly type: 'listens'; readonly grpc: string; readonly http: string }
  /** It was told to end by somebody else. */
  | { readonly type: 'leaves' }
  | { readonly type: 'ask'; readonly id: number; readonly question: Question }
  | { readonly type: 'answer'; readonly id: number; readonly answer: Answer };

export type FromPrimary =
  | { readonly type: 'run'; readonly index: number; readonly flags: ProxyFlags }
  | { readonly type: 'question'; readonly id: number; readonly question: Question }
  | { readonly type: 'gathered'; readonly id: number; readonly gathered: Gathered }
  | { readonly type: 'stop' };

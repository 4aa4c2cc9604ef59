import type { Reason } from '../base/errors.js';
import type { Outcome, RequestId } from '../gen/keychaindb/v1/log.js';

/**
 * The vocabulary between the chain core and its shell. Messages on the wire are the generated types of
 * chain.proto, coordinator.proto and log.proto; what stands here never leaves the process.
 */

/** The newest committed version of a key as the store has it. */
export interface KeyValue {
  readonly value: Uint8Array;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly version: number;
}

/** Correlates an answer with its request; made by the shell, opaque to the core. */
export type Token = number;

export interface WriteRequest {
  readonly token: Token;
  readonly operation:
    | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
    | { readonly type: 'delete'; readonly key: Uint8Array };
  readonly request: RequestId;
  /** 25 bytes or empty. */
  readonly trace: Uint8Array;
  /** Monotonic milliseconds after which nobody waits for the answer. */
  readonly deadline: number;
  /** What the store holds under the key, loaded by the shell; a staged version in the state wins over it. */
  readonly stored: KeyValue | undefined;
}

export interface ReadRequest {
  readonly token: Token;
  readonly key: Uint8Array;
  readonly deadline: number;
  /** What the store holds under the key, loaded after the request arrived. */
  readonly stored: KeyValue | undefined;
  /** Set when the core asked the shell to load again: committed through at least here, by a tail's answer. */
  readonly floor?: number;
  readonly askedTail?: boolean;
}

export interface Refusal {
  readonly reason: Reason;
  readonly message: string;
}

export type ReadAnswer =
  | {
      readonly type: 'value';
      readonly found: KeyValue | undefined;
      readonly askedTail: boolean;
      readonly epoch: number;
      readonly watermark: number;
    }
  | ({ readonly type: 'refused' } & Refusal);

export type WriteAnswer =
  | {
      readonly type: 'committed';
      readonly outcome: Outcome;
      readonly epoch: number;
      readonly watermark: number;
    }
  | ({ readonly type: 'refused' } & Refusal);

import type { Reason } from '../src/base/errors.js';

/** What `t.rejects` is to find: a KeychainError of this reason, with this metadata among its own. */
export function refusal(reason: Reason, metadata: Readonly<Record<string, string>> = {}): Error {
  return { reason, metadata } as unknown as Error;
}

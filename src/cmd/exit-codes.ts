import type { KeychainError } from '../base/errors.js';

/** docs/names.md, Binary. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  notFound: 3,
  unavailable: 4,
  unknown: 5,
  unhealthy: 6,
  interrupted: 130,
} as const;

export function exitCodeOf(error: KeychainError): number {
  if (error.reason === 'OUTCOME_UNKNOWN') return exitCodes.unknown;
  if (error.reason === 'CONDITION_FAILED') return exitCodes.notFound;
  switch (error.status) {
    case 'INVALID_ARGUMENT':
      return exitCodes.usage;
    case 'NOT_FOUND':
      return exitCodes.notFound;
    case 'UNAVAILABLE':
    case 'DEADLINE_EXCEEDED':
    case 'RESOURCE_EXHAUSTED':
      return exitCodes.unavailable;
    case 'INTERNAL':
      return exitCodes.unknown;
    default:
      return exitCodes.failed;
  }
}

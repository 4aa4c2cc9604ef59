import { noBytes } from '../../src/base/bytes.js';
import { type Member, MemberState, type View } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { Operation, OperationResult } from '../../src/gen/keychaindb/v1/kv.js';

export function memberOf(id: string, state: MemberState, address = `${id}:1`): Member {
  return {
    id,
    incarnation: 1,
    address,
    state,
    storeId: noBytes,
    drained: false,
    spare: false,
    note: '',
    since: 0,
  };
}

/** A view of serving members, head first, and of others that wait. */
export function viewOf(
  epoch: number,
  serving: readonly string[],
  others: readonly string[] = [],
): View {
  return {
    chainId: 1,
    epoch,
    lineage: 1,
    length: 0,
    clusterId: noBytes,
    members: serving.map((id) => memberOf(id, MemberState.SERVING)),
    others: others.map((id) => memberOf(id, MemberState.WAITING)),
  };
}

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

export function getOf(key: string, node = '', timeoutMs = 0): Operation {
  return {
    id: 11,
    timeoutMs,
    trace: noBytes,
    operation: { $case: 'get', value: { key: bytes(key), node } },
  };
}

export function putOf(key: string, value: string, timeoutMs = 0): Operation {
  return {
    id: 12,
    timeoutMs,
    trace: noBytes,
    operation: {
      $case: 'put',
      value: { key: bytes(key), value: bytes(value), request: undefined },
    },
  };
}

export function gotResult(id: number, value: string): OperationResult {
  return {
    id,
    result: {
      $case: 'get',
      value: { value: bytes(value), revision: 5, createRevision: 3, version: 2, served: undefined },
    },
  };
}

export function putResult(id: number, revision = 7): OperationResult {
  return { id, result: { $case: 'put', value: { revision, served: undefined } } };
}

export function refusedResult(id: number, reason: string): OperationResult {
  return {
    id,
    result: { $case: 'error', value: { reason, message: 'said the node', metadata: {} } },
  };
}

/** What a result says, in a word: its revision, or its reason. */
export function wordOf({ result }: OperationResult): string {
  if (result?.$case === 'error') return result.value.reason;
  return result === undefined ? 'nothing' : `${result.$case} ${result.value.revision}`;
}

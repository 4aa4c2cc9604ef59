import { asBuffer } from '../base/bytes.js';
import { httpNumber, type KeychainError, statusNumber } from '../base/errors.js';
import {
  type ClusterStatusResponse,
  type Member,
  MemberState,
  type View,
} from '../gen/keychaindb/v1/coordinator.js';
import type { DeleteResponse, GetResponse, PutResponse, Served } from '../gen/keychaindb/v1/kv.js';
import { coordinatorRow } from './status.js';

/**
 * Proto3 JSON of the HTTP gateway (docs/names.md): camelCase, uint64 as strings, bytes as base64, unset
 * fields present. The answers of the data path are put together as text: nothing is built to be thrown away.
 */

export function getJson(response: GetResponse): string {
  const { value, revision, createRevision, version, served } = response;
  return `{"value":"${toBase64(value)}","revision":"${revision}","createRevision":"${createRevision}","version":"${version}","served":${servedJson(served)}}`;
}

export function putJson({ revision, served }: PutResponse): string {
  return `{"revision":"${revision}","served":${servedJson(served)}}`;
}

export function deleteJson({ revision, existed, served }: DeleteResponse): string {
  return `{"revision":"${revision}","existed":${existed},"served":${servedJson(served)}}`;
}

function servedJson(served: Served | undefined): string {
  if (served === undefined) return 'null';
  const { node, epoch, watermark, askedTail, chainId } = served;
  return `{"node":${JSON.stringify(node)},"epoch":"${epoch}","watermark":"${watermark}","askedTail":${askedTail},"chainId":${chainId}}`;
}

function toBase64(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('base64');
}

/** Standard or URL-safe base64, padded or not, as proto3 JSON takes it; undefined where it is neither. */
export function fromBase64(text: string): Uint8Array | undefined {
  let end = text.length;
  if (end % 4 === 0 && text.endsWith('=')) end -= text.endsWith('==') ? 2 : 1;
  if (end % 4 === 1) return undefined;
  const bytes = Buffer.from(text, 'base64');
  // What isn't base64 is skipped or ends the decoding: the bytes are too few then.
  return bytes.byteLength === Math.floor((end * 3) / 4) ? bytes : undefined;
}

/** @param code as of gRPC */
export function errorJson(error: KeychainError): string {
  return JSON.stringify({
    code: statusNumber[error.status],
    message: error.message,
    details: [
      {
        '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
        reason: error.reason,
        domain: 'keychaindb',
        metadata: error.metadata,
      },
    ],
  });
}

export function httpStatusOf(error: KeychainError): number {
  return error.reason === 'CONDITION_FAILED' ? 412 : httpNumber[error.status];
}

const stateNames: Readonly<Record<MemberState, string>> = {
  [MemberState.UNSPECIFIED]: 'UNSPECIFIED',
  [MemberState.SERVING]: 'SERVING',
  [MemberState.JOINING]: 'JOINING',
  [MemberState.SYNCING]: 'SYNCING',
  [MemberState.WAITING]: 'WAITING',
  [MemberState.OFFLINE]: 'OFFLINE',
  [MemberState.LASTSRV]: 'LASTSRV',
};

/** `members`: the serving ones, silent or not, head to tail; `others`: everybody else that was added. */
export function membersJson(view: View): string {
  const members = view.members.filter(isServing);
  const others = [...view.members.filter((member) => !isServing(member)), ...view.others];
  return JSON.stringify({
    configuration: {
      version: String(view.epoch),
      length: view.length,
      members: members.map(memberOf),
      others: others.map(memberOf),
    },
  });
}

function isServing({ state }: Member): boolean {
  return state === MemberState.SERVING || state === MemberState.LASTSRV;
}

function memberOf(member: Member): object {
  const { id, address, state, incarnation, drained, spare, note } = member;
  const inState = { id, address, state: stateNames[state], incarnation: String(incarnation) };
  return { ...inState, drained, spare, note };
}

export function statusJson({ members, leader, term, coordinators }: ClusterStatusResponse): string {
  return JSON.stringify({
    members,
    leader,
    term: String(term),
    coordinators: coordinators.map(coordinatorRow),
  });
}

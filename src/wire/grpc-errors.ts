import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { Metadata, type ServiceError, type StatusObject } from '@grpc/grpc-js';
import { noBytes } from '../base/bytes.js';
import { isReason, KeychainError, statusNumber } from '../base/errors.js';

/** Where gRPC carries a google.rpc.Status. */
const detailsHeader = 'grpc-status-details-bin';
const errorInfoUrl = 'type.googleapis.com/google.rpc.ErrorInfo';
const domain = 'keychaindb';
/** Characters of a message that travel: they stand in headers, twice, and peers bound those. */
const messageMax = 1_024;

/** A gRPC status with google.rpc.ErrorInfo {reason, domain, metadata}. Anything thrown is taken. */
export function toServiceError(thrown: unknown): Partial<StatusObject> {
  const error = KeychainError.from(thrown);
  const code = statusNumber[error.status];
  const metadata = new Metadata();
  metadata.set(detailsHeader, Buffer.from(encodeStatus(code, error)));
  return { code, details: messageOf(error), metadata };
}

/** The same as trailers on the wire. */
export function errorHeaders(error: KeychainError): Record<string, string> {
  const code = statusNumber[error.status];
  return {
    'grpc-status': String(code),
    'grpc-message': encodeURI(messageOf(error)),
    [detailsHeader]: Buffer.from(encodeStatus(code, error)).toString('base64'),
  };
}

/** What a header can carry: a message may quote what a caller sent, cut anywhere, and half a character has no encoding. */
function messageOf({ message }: KeychainError): string {
  return message.slice(0, messageMax).toWellFormed();
}

/** Undefined where the error isn't one of ours: it came from the transport. */
export function fromServiceError(error: ServiceError): KeychainError | undefined {
  const [bytes] = error.metadata?.get(detailsHeader) ?? [];
  if (!(bytes instanceof Uint8Array)) return undefined;
  try {
    const info = decodeStatus(bytes);
    if (info === undefined || info.domain !== domain || !isReason(info.reason)) return undefined;
    return new KeychainError(info.reason, error.details, info.metadata);
  } catch {
    return undefined;
  }
}

/** google.rpc.Status {1: code, 2: message, 3: repeated Any {1: type_url, 2: value}}. */
function encodeStatus(code: number, error: KeychainError): Uint8Array {
  const info = new BinaryWriter();
  info.uint32(10).string(error.reason).uint32(18).string(domain);
  for (const [key, value] of Object.entries(error.metadata)) {
    info.uint32(26).fork().uint32(10).string(key).uint32(18).string(value).join();
  }
  const status = new BinaryWriter();
  status.uint32(8).int32(code).uint32(18).string(messageOf(error));
  status.uint32(26).fork().uint32(10).string(errorInfoUrl).uint32(18).bytes(info.finish()).join();
  return status.finish();
}

interface ErrorInfo {
  reason: string;
  domain: string;
  metadata: Record<string, string>;
}

function decodeStatus(bytes: Uint8Array): ErrorInfo | undefined {
  let found: ErrorInfo | undefined;
  eachField(bytes, (field, reader) => {
    if (field !== 3) return false;
    const any: { url: string; value: Uint8Array } = { url: '', value: noBytes };
    eachField(reader.bytes(), (inner, anyReader) => {
      if (inner === 1) any.url = anyReader.string();
      else if (inner === 2) any.value = anyReader.bytes();
      else return false;
      return true;
    });
    if (any.url === errorInfoUrl) found = decodeInfo(any.value);
    return true;
  });
  return found;
}

/** google.rpc.ErrorInfo {1: reason, 2: domain, 3: map<string, string>}. */
function decodeInfo(bytes: Uint8Array): ErrorInfo {
  const info: ErrorInfo = { reason: '', domain: '', metadata: {} };
  eachField(bytes, (field, reader) => {
    if (field === 1) info.reason = reader.string();
    else if (field === 2) info.domain = reader.string();
    else if (field === 3) {
      let key = '';
      let value = '';
      eachField(reader.bytes(), (inner, entry) => {
        if (inner === 1) key = entry.string();
        else if (inner === 2) value = entry.string();
        else return false;
        return true;
      });
      info.metadata[key] = value;
    } else return false;
    return true;
  });
  return info;
}

/** Calls `take` for every field; false: it didn't read it, and it is skipped. */
function eachField(
  bytes: Uint8Array,
  take: (field: number, reader: BinaryReader) => boolean,
): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!take(field, reader)) reader.skip(wireType);
  }
}

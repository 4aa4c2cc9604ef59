import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { GetRequest, GetResponse, PutRequest } from '../../src/gen/keychaindb/v1/kv.js';

/** What a read or a write looks like to a system: its messages, its paths, its JSON. */
export interface Protocol {
  readonly getPath: string;
  readonly putPath: string;
  /** `node`: to be answered by this one, where the system knows such a thing. */
  get(key: string, node?: string): Uint8Array;
  put(key: string, value: Uint8Array): Uint8Array;
  found(answer: Uint8Array): FoundValue;
  readonly http: {
    readonly read: HttpShape;
    readonly write: HttpShape;
  };
}

export interface FoundValue {
  /** Undefined where the key is absent. */
  readonly value: Uint8Array | undefined;
  /** The tail was asked. */
  readonly isDirty: boolean;
}

/** A request over HTTP; `KEY` stands for the key, `VALUE` for the value in base64. */
export interface HttpShape {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body: string;
  readonly isKeyBase64: boolean;
}

export type ProtocolName = 'keychaindb' | 'etcd';

export const protocols: Readonly<Record<ProtocolName, Protocol>> = {
  keychaindb: {
    getPath: '/keychaindb.v1.KV/Get',
    putPath: '/keychaindb.v1.KV/Put',
    get: (key, node = '') => GetRequest.encode({ key: Buffer.from(key), node }).finish(),
    put: (key, value) =>
      PutRequest.encode({ key: Buffer.from(key), value, request: undefined }).finish(),
    found: (answer) => {
      const { value, served } = GetResponse.decode(answer);
      return { value, isDirty: served?.askedTail === true };
    },
    http: {
      read: { method: 'GET', path: '/v1/keys/KEY', body: '', isKeyBase64: false },
      write: {
        method: 'POST',
        path: '/v1/keys',
        body: '{"key":"KEY","value":"VALUE"}',
        isKeyBase64: false,
      },
    },
  },
  // etcd v3: rpc.proto, RangeRequest (linearizable by default), PutRequest, RangeResponse, and its JSON gateway.
  etcd: {
    getPath: '/etcdserverpb.KV/Range',
    putPath: '/etcdserverpb.KV/Put',
    get: (key) => new BinaryWriter().uint32(10).bytes(Buffer.from(key)).finish(),
    put: (key, value) =>
      new BinaryWriter().uint32(10).bytes(Buffer.from(key)).uint32(18).bytes(value).finish(),
    found: (answer) => {
      const kv = field(answer, 2);
      return { value: kv === undefined ? undefined : field(kv, 5), isDirty: false };
    },
    http: {
      read: { method: 'POST', path: '/v3/kv/range', body: '{"key":"KEY"}', isKeyBase64: true },
      write: {
        method: 'POST',
        path: '/v3/kv/put',
        body: '{"key":"KEY","value":"VALUE"}',
        isKeyBase64: true,
      },
    },
  },
};

/** The first field of bytes with this number. */
function field(message: Uint8Array, wanted: number): Uint8Array | undefined {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (number === wanted && wire === WireType.LengthDelimited) return reader.bytes();
    reader.skip(wire, number);
  }
  return undefined;
}

import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { ChannelCredentials } from '@grpc/grpc-js';
import { KVClient } from '../../../src/gen/keychaindb/v1/kv.js';
import { grpcFrame } from '../frame.js';
import { protocols } from '../protocols.js';

/* Clients that ask and do not read: unary calls, a session, and pipelined HTTP. Each gives back its end. */

export type End = () => void;

/** Calls whose answers are left in the flow control window. */
export function slowUnary(address: string, key: string, calls: number): End {
  const session = connectHttp2(`http://${address}`);
  session.on('error', () => undefined);
  const { getPath, get } = protocols.keychaindb;
  const body = grpcFrame(get(key));
  const headers = {
    ...{ ':method': 'POST', ':path': getPath, te: 'trailers' },
    'content-type': 'application/grpc',
  };
  for (let i = 0; i < calls; i += 1) {
    const stream = session.request(headers);
    stream.on('error', () => undefined);
    stream.pause();
    stream.end(body);
  }
  return () => session.destroy();
}

/** A session that asks so often, and reads nothing. */
export function slowSession(address: string, key: string, operations: number): End {
  const client = new KVClient(address, ChannelCredentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  const call = client.session();
  call.on('error', () => undefined);
  call.pause();
  call.write({
    operations: Array.from({ length: operations }, (_, index) => ({
      ...{ id: index + 1, timeoutMs: 60_000, trace: new Uint8Array() },
      operation: { $case: 'get', value: { key: Buffer.from(key), node: '' } },
    })),
  });
  return () => {
    call.cancel();
    client.close();
  };
}

/** Requests one after the other on a connection, and no answer read. */
export function slowHttp(address: string, key: string, requests: number): End {
  const [host = '', port = ''] = address.split(':');
  const socket = connectTcp(Number(port), host);
  socket.on('error', () => undefined);
  socket.pause();
  const request = `GET /v1/keys/${encodeURIComponent(key)} HTTP/1.1\r\nhost: ${address}\r\n\r\n`;
  socket.write(request.repeat(requests));
  return () => socket.destroy();
}

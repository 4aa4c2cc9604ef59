import { createServer } from 'node:http';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { GetResponse, PutResponse } from '../../../src/gen/keychaindb/v1/kv.js';
import { getJson, putJson } from '../../../src/proxy/json.js';
import { protocols } from '../protocols.js';

/*
 * The floor: grpc-js or node:http, and nothing behind them. Its answers were encoded before it listens, so that what is
 * seen is the transport. Told anything, it says how many it answered.
 */

const [kind, valueBytes] = [process.argv[2], Number(process.argv[3])];
const served = { node: 'node-1', epoch: 1, watermark: 1_000, askedTail: false, chainId: 1 };
const read: GetResponse = {
  value: Buffer.alloc(valueBytes, 'v'),
  revision: 1_000,
  createRevision: 1_000,
  version: 1,
  served,
};
const written: PutResponse = { revision: 1_000, served };
let answered = 0;

process.once('disconnect', () => process.exit(0));
process.on('message', () => process.send?.(answered));
if (kind === 'grpc') serveGrpc();
else serveHttp();

function serveGrpc(): void {
  const server = new Server({ 'grpc.enable_channelz': 0, 'grpc.max_receive_message_length': -1 });
  const method = (path: string) => ({
    path,
    requestStream: false as const,
    responseStream: false as const,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  });
  const { getPath, putPath } = protocols.keychaindb;
  const answers = {
    get: Buffer.from(GetResponse.encode(read).finish()),
    put: Buffer.from(PutResponse.encode(written).finish()),
  };
  server.addService(
    { get: method(getPath), put: method(putPath) },
    {
      get: (_call: unknown, callback: (error: null, answer: Buffer) => void) => {
        answered += 1;
        callback(null, answers.get);
      },
      put: (_call: unknown, callback: (error: null, answer: Buffer) => void) => {
        answered += 1;
        callback(null, answers.put);
      },
    },
  );
  server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
    if (error !== null) throw error;
    process.send?.(port);
  });
}

function serveHttp(): void {
  const answers = { get: Buffer.from(getJson(read)), put: Buffer.from(putJson(written)) };
  const server = createServer((request, response) => {
    const answer = request.method === 'GET' ? answers.get : answers.put;
    request.resume();
    request.once('end', () => {
      answered += 1;
      response
        .writeHead(200, { 'content-type': 'application/json', 'content-length': answer.byteLength })
        .end(answer);
    });
  });
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    process.send?.(typeof address === 'object' && address !== null ? address.port : 0);
  });
}

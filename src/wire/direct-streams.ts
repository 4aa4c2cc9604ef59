import { EventEmitter } from 'node:events';
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Server } from '@grpc/grpc-js';

/** Takes a stream that a client opened; false: it is left as it came. */
export type TakeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

type StreamListener = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  ...rest: readonly unknown[]
) => void;

/**
 * Offers every new stream of the bound server to `take` first; grpc-js serves the others as before. grpc-js has
 * no public way to do this: its http2 servers are looked for where 1.14.7 keeps them. Where another version
 * keeps them elsewhere, nothing is changed, and grpc-js serves everything. Returns the number of servers.
 */
export function offerStreams(server: Server, take: TakeStream): number {
  const held: unknown = Reflect.get(server, 'http2Servers');
  if (!(held instanceof Map)) return 0;
  let count = 0;
  for (const http2Server of held.keys()) {
    if (!(http2Server instanceof EventEmitter)) continue;
    const [listener, ...others] = http2Server.listeners('stream');
    if (listener === undefined || others.length > 0) continue;
    const leave = listener as StreamListener;
    const offer: StreamListener = (stream, headers, ...rest) => {
      if (!take(stream, headers)) leave.call(http2Server, stream, headers, ...rest);
    };
    http2Server.removeAllListeners('stream');
    http2Server.on('stream', offer);
    count += 1;
  }
  return count;
}

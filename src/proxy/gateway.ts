import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { afterArrivals, type Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import { errorJson, httpStatusOf } from './json.js';
import { type HttpReply, type Route, type RouteContext, routes } from './routes.js';

export interface GatewayOptions extends RouteContext {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly clock: Clock;
}

export interface GatewayHandle {
  /** host:port where it listens. */
  readonly address: string;
  /** Takes no new connections, ends idle ones, lets running requests end. */
  close(): Promise<void>;
}

/** Milliseconds that an idle connection is kept; longer than the 60 s of usual balancers. */
const keepAliveMs = 65_000;
/** Milliseconds that requests under way may take when the gateway closes; then their connections end. */
const drainMs = 3_000;
/** Bytes of a request's first line and headers besides a key of which every byte is written as %XX. */
const headerBytesMax = 64 << 10;

/** The HTTP JSON gateway, in the proxy's process. Rejects with ADDRESS_IN_USE where the port is taken. */
export function startGateway(options: GatewayOptions): Promise<GatewayHandle> {
  const { host, port } = options;
  const server = createServer(
    {
      keepAlive: true,
      noDelay: true,
      keepAliveTimeout: keepAliveMs,
      maxHeaderSize: headerBytesMax + 3 * options.limits.keyBytesMax,
    },
    (message, response) => {
      serve(options, message, response);
    },
  );
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
    server.listen(port, host, () => {
      const bound = server.address();
      const actual = typeof bound === 'object' && bound !== null ? bound.port : port;
      resolve({ address: `${host}:${actual}`, close: () => closed(server, options.clock) });
    });
  });
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): KeychainError {
  if (error.code !== 'EADDRINUSE') return KeychainError.from(error);
  return new KeychainError(
    'ADDRESS_IN_USE',
    `${host}:${port} is in use by another process: choose another address with --http`,
    { flag: '--http', address: `${host}:${port}` },
    error,
  );
}

/** A connection that is silent, or halfway through a request, isn't idle to Node: it ends with the drain time. */
function closed(server: Server, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(drainMs, () => server.closeAllConnections());
    afterArrivals(clock, () => {
      server.close(() => {
        cancel();
        resolve();
      });
      server.closeIdleConnections();
    });
  });
}

function serve(context: RouteContext, message: IncomingMessage, response: ServerResponse): void {
  try {
    const reply = answer(context, message);
    if (!(reply instanceof Promise)) respond(message, response, reply);
    else {
      reply.then(
        (ready) => respond(message, response, ready),
        (thrown: unknown) => respond(message, response, refusal(KeychainError.from(thrown))),
      );
    }
  } catch (thrown) {
    respond(message, response, refusal(KeychainError.from(thrown)));
  }
}

/** What can't be sent, e.g. a header that HTTP has no letters for, is a fault of this one answer, not of the process. */
function respond(message: IncomingMessage, response: ServerResponse, reply: HttpReply): void {
  try {
    send(message, response, reply);
  } catch (thrown) {
    if (response.headersSent) response.destroy();
    else send(message, response, refusal(KeychainError.from(thrown)));
  }
}

function answer(context: RouteContext, message: IncomingMessage): HttpReply | Promise<HttpReply> {
  const url = message.url ?? '/';
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = mark < 0 ? '' : url.slice(mark + 1);
  for (const route of routes) {
    if (route.method !== message.method || !matches(route, path)) continue;
    return route.run(context, { message, rest: path.slice(route.path.length), query });
  }
  const error = new KeychainError('ROUTE_NOT_FOUND', `there is no ${message.method} ${path}`);
  const allowed = routes.filter((route) => matches(route, path)).map(({ method }) => method);
  if (allowed.length === 0) return refusal(error);
  return { ...refusal(error), status: 405, headers: { allow: allowed.join(', ') } };
}

/** A path is compared as it came: nothing is decoded or normalised. */
function matches(route: Route, path: string): boolean {
  return route.path.endsWith('/') ? path.startsWith(route.path) : path === route.path;
}

function refusal(error: KeychainError): HttpReply {
  return {
    status: httpStatusOf(error),
    contentType: 'application/json',
    body: errorJson(error),
  };
}

function send(message: IncomingMessage, response: ServerResponse, reply: HttpReply): void {
  const { status, contentType, body, headers } = reply;
  const bytes = typeof body === 'string' ? Buffer.byteLength(body) : body.byteLength;
  // A body that wasn't read to its end would be taken for the next request.
  const unread = !message.complete && message.readableFlowing === false;
  const lines: (string | number)[] = ['content-type', contentType, 'content-length', bytes];
  if (headers !== undefined) for (const name in headers) lines.push(name, headers[name] ?? '');
  if (unread) lines.push('connection', 'close');
  response.writeHead(status, lines);
  // Of a text with a byte for each character the bytes are the same, and are made without a look at each.
  if (typeof body === 'string' && bytes === body.length) response.end(body, 'latin1');
  else response.end(body);
  if (!message.complete && !unread) message.resume();
}

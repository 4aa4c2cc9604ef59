import type {
  Http2Session,
  IncomingHttpHeaders,
  OutgoingHttpHeaders,
  ServerHttp2Stream,
} from 'node:http2';
import { status } from '@grpc/grpc-js';
import { noBytes } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { messageBytesMax } from '../base/limits.js';
import { encoded } from '../base/message-writer.js';
import type { Random } from '../base/random.js';
import {
  DeleteRequest,
  DeleteResponse,
  GetRequest,
  GetResponse,
  KVService,
  type OperationResult,
  PutRequest,
  PutResponse,
} from '../gen/keychaindb/v1/kv.js';
import { forced, parseTraceparent, traceIdOf } from '../telemetry/trace-context.js';
import { errorHeaders } from './grpc-errors.js';
import { parseGrpcTimeout } from './grpc-timeout.js';
import { traceAskedHeader, traceIdHeader, traceparentHeader } from './grpc-trace.js';
import { type Asked, failureOf, type KvHandler, type Result, type Verb } from './kv-service.js';
import { frameHeadBytes, UnaryMessage } from './unary-message.js';
import { smallBytes, Unfetched, unfetchedBytesMax } from './unfetched.js';

/** How the messages of one unary method of KV are read and written. */
interface Method {
  readonly verb: Verb;
  readonly path: string;
  /** Throws where the bytes are no such message. */
  readonly decode: (message: Uint8Array) => Asked;
}

const methods: ReadonlyMap<string | undefined, Method> = new Map(
  (
    [
      {
        verb: 'get',
        path: KVService.get.path,
        decode: (message) => ({ $case: 'get', value: GetRequest.decode(message) }),
      },
      {
        verb: 'put',
        path: KVService.put.path,
        decode: (message) => ({ $case: 'put', value: PutRequest.decode(message) }),
      },
      {
        verb: 'delete',
        path: KVService.delete.path,
        decode: (message) => ({ $case: 'delete', value: DeleteRequest.decode(message) }),
      },
    ] satisfies Method[]
  ).map((method) => [method.path, method]),
);

const contentTypes: ReadonlySet<string | undefined> = new Set([
  'application/grpc',
  'application/grpc+proto',
]);

const answerHeaders: OutgoingHttpHeaders = {
  ':status': 200,
  'content-type': 'application/grpc+proto',
};
const okTrailers: OutgoingHttpHeaders = { 'grpc-status': '0' };
const trailersFollow = { waitForTrailers: true } as const;
const trailersOnly = { endStream: true } as const;

/** Where a stream finds its call: listeners are shared by all of them. */
const callOf = Symbol('call');

interface CallStream extends ServerHttp2Stream {
  [callOf]?: DirectCall;
}

/** Where a connection counts its large answers. */
const answers = Symbol('answers');

interface Connection extends Http2Session {
  [answers]?: Unfetched;
}

function roomOf({ session }: ServerHttp2Stream): Unfetched | undefined {
  const connection: Connection | undefined = session;
  if (connection === undefined) return undefined;
  connection[answers] ??= new Unfetched(unfetchedBytesMax);
  return connection[answers];
}

/**
 * Unary calls of KV on node's own http2 streams: grpc-js spends more on one than the rest of a read costs.
 * Clients see no difference. What isn't known here is left to grpc-js (docs/decisions/0012).
 */
export class DirectCalls {
  readonly #handler: KvHandler;
  readonly #random: Random;

  constructor(handler: KvHandler, random: Random) {
    this.#handler = handler;
    this.#random = random;
  }

  /** Takes the stream where it is such a call; false: grpc-js is to serve, or to refuse it. */
  take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): boolean {
    const method = methods.get(headers[':path']);
    if (method === undefined || headers[':method'] !== 'POST') return false;
    if (!contentTypes.has(headers['content-type'])) return false;
    const encoding = headers['grpc-encoding'];
    if (encoding !== undefined && encoding !== 'identity') return false;
    const timeout = headers['grpc-timeout'];
    let timeoutMs: number | undefined;
    if (timeout !== undefined) {
      timeoutMs = typeof timeout === 'string' ? parseGrpcTimeout(timeout) : undefined;
      if (timeoutMs === undefined) return false;
    }
    let trace: Uint8Array = noBytes;
    const given = headers[traceparentHeader];
    if (typeof given === 'string') trace = parseTraceparent(given);
    const isTraceAsked = headers[traceAskedHeader] === '1';
    if (isTraceAsked) trace = forced(trace, this.#random);
    const carrying: CallStream = stream;
    carrying[callOf] = new DirectCall(
      stream,
      this.#handler,
      method,
      timeoutMs,
      trace,
      isTraceAsked,
    );
    stream.on('error', nothing);
    stream.on('data', onData);
    stream.on('end', onEnd);
    if (timeoutMs !== undefined) stream.on('close', onClose);
    return true;
  }
}

/** After an error a stream closes: there is nobody left to tell. */
function nothing(): void {}

function onData(this: CallStream, chunk: Buffer): void {
  this[callOf]?.arrived(chunk);
}

function onEnd(this: CallStream): void {
  this[callOf]?.ended();
}

function onClose(this: CallStream): void {
  this[callOf]?.closed();
}

function onWantTrailers(this: CallStream): void {
  this.sendTrailers(this[callOf]?.trailers ?? okTrailers);
}

class DirectCall {
  readonly #stream: ServerHttp2Stream;
  readonly #handler: KvHandler;
  readonly #method: Method;
  readonly #trace: Uint8Array;
  readonly #isTraceAsked: boolean;
  /** Milliseconds since 1970. */
  readonly #deadline: number | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #body = new UnaryMessage(messageBytesMax);
  #asked: Asked | undefined;
  #isAnswered = false;
  /** Asks once more, for want of room. */
  #again: (() => void) | undefined;
  /** It was let in to ask once more: whoever takes no room then lets the next one in. */
  #lets: Unfetched | undefined;
  /** What follows the answer. */
  trailers = okTrailers;

  constructor(
    stream: ServerHttp2Stream,
    handler: KvHandler,
    method: Method,
    timeoutMs: number | undefined,
    trace: Uint8Array,
    isTraceAsked: boolean,
  ) {
    this.#stream = stream;
    this.#handler = handler;
    this.#method = method;
    this.#trace = trace;
    this.#isTraceAsked = isTraceAsked;
    if (timeoutMs === undefined) return;
    this.#deadline = Date.now() + timeoutMs;
    this.#timer = setTimeout(expired, timeoutMs, this);
  }

  arrived(chunk: Buffer): void {
    if (this.#isAnswered) return;
    const { path } = this.#method;
    switch (this.#body.add(chunk)) {
      case 'more':
        return;
      case 'too large':
        this.refuse(
          status.RESOURCE_EXHAUSTED,
          `Received message larger than max (${this.#body.length} vs ${messageBytesMax})`,
        );
        return;
      case 'second message':
        this.refuse(
          status.UNIMPLEMENTED,
          `Received a second request message for server streaming method ${path}`,
        );
        return;
      case 'message':
    }
    if (this.#asked !== undefined) return;
    try {
      this.#asked = this.#method.decode(this.#body.message ?? noBytes);
    } catch {
      this.refuse(status.INTERNAL, 'Error deserializing request');
    }
  }

  ended(): void {
    if (this.#isAnswered) return;
    const operation = this.#asked;
    if (operation === undefined) {
      this.refuse(
        status.UNIMPLEMENTED,
        `Received no request message for server streaming method ${this.#method.path}`,
      );
      return;
    }
    const deadline = this.#deadline;
    const leftMs = deadline === undefined ? undefined : deadline - Date.now();
    try {
      const timeoutMs = this.#handler.budgetMs(leftMs);
      this.#handler.execute({ id: 0, timeoutMs, trace: this.#trace, operation }).then(
        ({ result }) => this.#answer(result),
        (error: unknown) => this.#fail(error),
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  closed(): void {
    this.#isAnswered = true;
    clearTimeout(this.#timer);
  }

  /** As grpc-js refuses a call before anybody has seen it. */
  refuse(code: status, message: string): void {
    this.#sendError({ 'grpc-status': code, 'grpc-message': encodeURI(message) });
  }

  #answer(result: OperationResult['result']): void {
    if (result?.$case !== this.#method.verb) {
      this.#fail(failureOf(result));
      return;
    }
    let frame: Uint8Array;
    try {
      frame = frameOf(result);
    } catch (error) {
      this.#fail(error);
      return;
    }
    const bytes = frame.byteLength - frameHeadBytes;
    if (bytes > messageBytesMax) {
      this.refuse(
        status.RESOURCE_EXHAUSTED,
        `Sent message larger than max (${bytes} vs. ${messageBytesMax})`,
      );
      return;
    }
    if (bytes > smallBytes && result.$case === 'get' && !this.#mayWait(bytes)) return;
    if (this.#isOver()) return;
    this.#stream.on('wantTrailers', onWantTrailers);
    this.#stream.respond(this.#headers(), trailersFollow);
    this.#stream.end(frame);
  }

  /** Is there room for an answer that may have to wait to be fetched? Else it is asked for again when there is some. */
  #mayWait(bytes: number): boolean {
    const room = roomOf(this.#stream);
    if (room === undefined || this.#isAnswered) return true;
    if (room.take(bytes)) {
      this.#stream.once('close', () => room.give(bytes));
      // Whom it lets in when it is gone.
      this.#lets = undefined;
      return true;
    }
    if (this.#again === undefined) {
      const again = (): void => {
        if (this.#isAnswered) room.next();
        else {
          this.#lets = room;
          this.ended();
        }
      };
      this.#again = again;
      this.#stream.once('close', () => room.leave(again));
    }
    room.wait(this.#again);
    return false;
  }

  #fail(thrown: unknown): void {
    this.#sendError(errorHeaders(KeychainError.from(thrown)));
  }

  #sendError(headers: OutgoingHttpHeaders): void {
    if (this.#isOver()) return;
    if (this.#isTraceAsked) {
      // The trace is named in what comes first, as for an answer.
      this.trailers = headers;
      this.#stream.on('wantTrailers', onWantTrailers);
      this.#stream.respond(this.#headers(), trailersFollow);
      this.#stream.end();
    } else this.#stream.respond({ ...answerHeaders, ...headers }, trailersOnly);
  }

  #headers(): OutgoingHttpHeaders {
    if (!this.#isTraceAsked) return answerHeaders;
    return { ...answerHeaders, [traceIdHeader]: traceIdOf(this.#trace) };
  }

  /** Is there nobody to answer any more? From here on there isn't. */
  #isOver(): boolean {
    const isOver = this.#isAnswered || this.#stream.closed || this.#stream.destroyed;
    this.closed();
    this.#lets?.next();
    this.#lets = undefined;
    return isOver;
  }
}

function expired(call: DirectCall): void {
  call.refuse(status.DEADLINE_EXCEEDED, 'Deadline exceeded');
}

const noHead = new Uint8Array(frameHeadBytes);

/** Behind room for its head. */
function encodedResult(result: Exclude<Result, { $case: 'error' }>): Uint8Array {
  switch (result.$case) {
    case 'get':
      return encoded(GetResponse, result.value, noHead);
    case 'put':
      return encoded(PutResponse, result.value, noHead);
    case 'delete':
      return encoded(DeleteResponse, result.value, noHead);
  }
}

/** The response message of a result behind its head, made in one piece. */
function frameOf(result: Exclude<Result, { $case: 'error' }>): Uint8Array {
  const frame = encodedResult(result);
  const bytes = frame.byteLength - frameHeadBytes;
  frame[1] = bytes >>> 24;
  frame[2] = bytes >>> 16;
  frame[3] = bytes >>> 8;
  frame[4] = bytes;
  return frame;
}

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import {
  Server as GrpcServer,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import protobuf from 'protobufjs';

/*
 * A collector for tests. It decodes what it gets with the .proto files of OpenTelemetry itself, as the package
 * `otlp-definitions` has them, and shares no code with what it tests.
 */

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly name: string;
  /** INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER. */
  readonly kind: string;
  readonly service: string;
  readonly instance: string;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  /** The status' message; '' where there is no error. */
  readonly error: string;
  /** Name of the instrumentation scope. */
  readonly scope: string;
}

export interface Collector {
  /** http://127.0.0.1:PORT */
  readonly httpUrl: string;
  readonly grpcUrl: string;
  readonly httpPort: number;
  readonly grpcPort: number;
  readonly spans: readonly CollectedSpan[];
  /** Exports that came, answered or not. */
  readonly requests: number;
  /** Resolves when enough came; rejects after `timeoutMs` with what did. */
  until(isEnough: (spans: readonly CollectedSpan[]) => boolean, timeoutMs?: number): Promise<void>;
  /** Exports whose sender still waits. */
  readonly hanging: number;
  /** From now on requests are taken and not answered until `resume`; who gives up is forgotten. */
  hang(): void;
  /** From now on requests are answered with this HTTP status. */
  refuse(status: number): void;
  resume(): void;
  close(): Promise<void>;
}

const protos = join(
  dirname(createRequire(import.meta.url).resolve('otlp-definitions/package.json')),
  'build/protos',
);

function loadRequestType(): protobuf.Type {
  const root = new protobuf.Root();
  root.resolvePath = (_origin, target) => join(protos, target);
  root.loadSync('opentelemetry/proto/collector/trace/v1/trace_service.proto');
  return root.lookupType('opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest');
}

/** Ports: 0 is any free one. */
export async function startCollector({
  port = 0,
  grpcPort = 0,
}: {
  readonly port?: number;
  readonly grpcPort?: number;
} = {}): Promise<Collector> {
  const running = new RunningCollector(loadRequestType());
  await running.listen(port, grpcPort);
  return running;
}

type Mode = 'answer' | 'hang' | { readonly status: number };

/** One export: how it is answered. */
interface Export {
  readonly bytes: Uint8Array;
  answer(): void;
  refuse(status: number): void;
}

interface Waiter {
  look(): void;
  closed(): void;
}

class RunningCollector implements Collector {
  readonly spans: CollectedSpan[] = [];
  requests = 0;
  httpPort = 0;
  grpcPort = 0;
  readonly #type: protobuf.Type;
  readonly #http: Server;
  readonly #grpc = new GrpcServer();
  #mode: Mode = 'answer';
  readonly #hanging = new Set<Export>();
  readonly #waiting = new Set<Waiter>();

  constructor(type: protobuf.Type) {
    this.#type = type;
    this.#http = createServer((request, response) => {
      this.#receive(request, response).catch(() => response.destroy());
    });
    const raw = (bytes: Buffer): Buffer => bytes;
    this.#grpc.addService(
      {
        export: {
          path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
          requestStream: false,
          responseStream: false,
          requestSerialize: raw,
          requestDeserialize: raw,
          responseSerialize: raw,
          responseDeserialize: raw,
        },
      },
      {
        export: (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => {
          const one: Export = {
            bytes: call.request,
            answer: () => callback(null, Buffer.alloc(0)),
            refuse: (http) =>
              callback({ code: http === 503 ? 14 : 3, details: `refused: ${http}` }),
          };
          call.on('cancelled', () => this.#forget(one));
          this.#take(one);
        },
      },
    );
  }

  get httpUrl(): string {
    return `http://127.0.0.1:${this.httpPort}`;
  }

  get grpcUrl(): string {
    return `http://127.0.0.1:${this.grpcPort}`;
  }

  get hanging(): number {
    return this.#hanging.size;
  }

  async listen(port: number, grpcPort: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject);
      this.#http.listen(port, '127.0.0.1', resolve);
    });
    const address = this.#http.address();
    this.httpPort = typeof address === 'object' && address !== null ? address.port : 0;
    this.grpcPort = await new Promise<number>((resolve, reject) => {
      const at = `127.0.0.1:${grpcPort}`;
      this.#grpc.bindAsync(at, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound);
        else reject(error);
      });
    });
  }

  until(isEnough: (spans: readonly CollectedSpan[]) => boolean, timeoutMs = 10_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(waiter);
      };
      const waiter: Waiter = {
        look: () => {
          if (!isEnough(this.spans)) return;
          end();
          resolve();
        },
        closed: () => {
          end();
          reject(new Error('the collector was closed'));
        },
      };
      const timer = setTimeout(() => {
        end();
        reject(new Error(`not enough within ${timeoutMs} ms: ${this.#summary()}`));
      }, timeoutMs);
      this.#waiting.add(waiter);
      waiter.look();
    });
  }

  hang(): void {
    this.#mode = 'hang';
  }

  refuse(status: number): void {
    this.#mode = { status };
  }

  resume(): void {
    this.#mode = 'answer';
    for (const one of [...this.#hanging]) {
      this.#forget(one);
      this.#decode(one);
    }
    this.#look();
  }

  async close(): Promise<void> {
    for (const waiter of [...this.#waiting]) waiter.closed();
    this.#grpc.forceShutdown();
    this.#http.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve());
    });
  }

  async #receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks);
    const { url, method, headers } = request;
    const wrong =
      url !== '/v1/traces'
        ? 404
        : method !== 'POST'
          ? 405
          : headers['content-type'] !== 'application/x-protobuf'
            ? 415
            : undefined;
    if (wrong !== undefined) {
      response.writeHead(wrong).end();
      return;
    }
    const one: Export = {
      bytes: headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body,
      answer: () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end(),
      refuse: (status) => response.writeHead(status).end(),
    };
    response.once('close', () => this.#forget(one));
    this.#take(one);
  }

  #take(one: Export): void {
    if (this.#mode === 'answer') {
      if (this.#decode(one)) this.requests += 1;
      this.#look();
      return;
    }
    this.requests += 1;
    if (this.#mode === 'hang') this.#hanging.add(one);
    else one.refuse(this.#mode.status);
    this.#look();
  }

  #forget(one: Export): void {
    if (this.#hanging.delete(one)) this.#look();
  }

  #look(): void {
    for (const waiter of [...this.#waiting]) waiter.look();
  }

  #summary(): string {
    const counts = new Map<string, number>();
    for (const { service, instance, name } of this.spans) {
      const line = `${service}/${instance} ${name}`;
      counts.set(line, (counts.get(line) ?? 0) + 1);
    }
    const lines = [...counts].map(([line, count]) => `\n  ${count} × ${line}`);
    return `${this.spans.length} spans in ${this.requests} requests${lines.join('')}`;
  }

  /** False where it is none. */
  #decode(one: Export): boolean {
    let request: ExportRequest;
    try {
      request = this.#type.toObject(this.#type.decode(one.bytes), {
        enums: String,
        longs: String,
        bytes: Buffer,
        arrays: true,
      }) as ExportRequest;
    } catch {
      one.refuse(400);
      return false;
    }
    for (const { resource, scopeSpans } of request.resourceSpans) {
      const own = attributesOf(resource?.attributes ?? []);
      for (const { spans, scope } of scopeSpans) {
        for (const span of spans) this.spans.push(collected(span, own, scope?.name ?? ''));
      }
    }
    one.answer();
    return true;
  }
}

/** As protobufjs gives it; what is a default isn't there. */
interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource?: { readonly attributes: readonly KeyValue[] };
    readonly scopeSpans: readonly {
      readonly scope?: { readonly name?: string };
      readonly spans: readonly OtlpSpan[];
    }[];
  }[];
}

interface AnyValue {
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly intValue?: string;
  readonly doubleValue?: number;
  readonly arrayValue?: { readonly values: readonly AnyValue[] };
}

interface KeyValue {
  readonly key: string;
  readonly value?: AnyValue;
}

interface OtlpSpan {
  readonly traceId: Buffer;
  readonly spanId: Buffer;
  readonly parentSpanId?: Buffer;
  readonly name: string;
  readonly kind: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly KeyValue[];
  readonly links: readonly { readonly traceId: Buffer; readonly spanId: Buffer }[];
  readonly status?: { readonly code?: string; readonly message?: string };
}

function attributesOf(pairs: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, attributeOf(value)]));
}

function attributeOf(value: AnyValue | undefined): unknown {
  if (value?.arrayValue !== undefined) return value.arrayValue.values.map(attributeOf);
  if (value?.intValue !== undefined) return Number(value.intValue);
  return value?.stringValue ?? value?.boolValue ?? value?.doubleValue;
}

function collected(span: OtlpSpan, own: Record<string, unknown>, scope: string): CollectedSpan {
  const { status } = span;
  return {
    traceId: span.traceId.toString('hex'),
    spanId: span.spanId.toString('hex'),
    parentId: span.parentSpanId?.toString('hex') ?? '',
    name: span.name,
    kind: span.kind.replace('SPAN_KIND_', ''),
    service: String(own['service.name']),
    instance: String(own['service.instance.id']),
    startNs: BigInt(span.startTimeUnixNano),
    endNs: BigInt(span.endTimeUnixNano),
    attributes: attributesOf(span.attributes),
    links: span.links.map(({ traceId, spanId }) => ({
      traceId: traceId.toString('hex'),
      spanId: spanId.toString('hex'),
    })),
    error: status?.code === 'STATUS_CODE_ERROR' ? (status.message ?? '') : '',
    scope,
  };
}

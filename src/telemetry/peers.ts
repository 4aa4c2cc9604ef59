import type { MethodDefinition } from '@grpc/grpc-js';
import { Metadata } from '@grpc/grpc-js';
import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import {
  type GetTraceRequest,
  type GetTraceResponse,
  type SetLogLevelRequest,
  type SetLogLevelResponse,
  TelemetryService,
} from '../gen/keychaindb/v1/telemetry.js';
import type { Connections } from '../wire/grpc-channel.js';
import { fromServiceError } from '../wire/grpc-errors.js';
import { introducing } from '../wire/grpc-handshake.js';
import type { TelemetryOthers } from './service.js';

/** Milliseconds that one process may take to say what it remembers. */
const askMs = 2_000;

function unreachable(address: string, { message }: Error): KeychainError {
  return new KeychainError('NOT_SERVING', `${address} could not be asked: ${message}`);
}

/** The other processes of the cluster by id, for a proxy that passes on what it is asked. */
export class TelemetryPeers implements TelemetryOthers {
  readonly #connections: Connections;
  readonly #clock: Clock;
  readonly #addresses: () => Promise<ReadonlyMap<string, string>>;

  /** @param addresses host:port of every node and coordinator, by id */
  constructor(
    connections: Connections,
    clock: Clock,
    addresses: () => Promise<ReadonlyMap<string, string>>,
  ) {
    this.#connections = connections;
    this.#clock = clock;
    this.#addresses = addresses;
  }

  async getTrace(request: GetTraceRequest): Promise<GetTraceResponse> {
    const all = [...(await this.#addresses())];
    const silent: string[] = [];
    const answers = await Promise.all(
      all.map(([id, address]) =>
        this.#call(address, TelemetryService.getTrace, request).catch((): GetTraceResponse => {
          silent.push(id);
          return { spans: [], silent: [] };
        }),
      ),
    );
    return { spans: answers.flatMap(({ spans }) => spans), silent };
  }

  async setLogLevel(request: SetLogLevelRequest): Promise<SetLogLevelResponse> {
    const address = (await this.#addresses()).get(request.process);
    if (address === undefined) {
      throw new KeychainError(
        'MEMBER_NOT_FOUND',
        `there is no process ${request.process}: \`keychaindb status\` names them`,
      );
    }
    return this.#call(address, TelemetryService.setLogLevel, request);
  }

  #call<In, Out>(address: string, method: MethodDefinition<In, Out>, request: In): Promise<Out> {
    return new Promise((resolve, reject) => {
      const client = this.#connections.client(address, 'telemetry');
      if (client === undefined) {
        reject(new KeychainError('SHUTTING_DOWN', 'this process is shutting down'));
        return;
      }
      const { handshake } = this.#connections;
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        {
          deadline: new Date(this.#clock.wall() + askMs),
          ...(handshake && { interceptors: [introducing(handshake)] }),
        },
        (error, response) => {
          // What isn't one of ours came from the transport.
          if (error !== null) reject(fromServiceError(error) ?? unreachable(address, error));
          else if (response !== undefined) resolve(response);
          else reject(new KeychainError('INTERNAL', 'an answer without content'));
        },
      );
    });
  }
}

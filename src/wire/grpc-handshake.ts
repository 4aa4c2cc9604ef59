import {
  InterceptingCall,
  type Interceptor,
  type Metadata,
  type StatusObject,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { KeychainError } from '../base/errors.js';
import { type OwnCluster, whyNotMeant } from './cluster-name.js';
import { fromServiceError, toServiceError } from './grpc-errors.js';
import type { GrpcService } from './grpc-server.js';
import { type Handshake, saysVersion } from './handshake.js';

/** What of a call is looked at before it is handled. */
interface ArrivedCall {
  readonly metadata: Metadata;
  getPeer(): string;
  sendMetadata(metadata: Metadata): void;
  emit(event: 'error', error: Partial<StatusObject>): boolean;
}

type Handler = (call: ArrivedCall, callback?: (error: Partial<StatusObject>) => void) => void;

/** Only our own processes call these: who says no version there is one of 0.1.0. */
const internal = /^\/keychaindb\.v1\.(Chain\/|Raft\/|Coordinator\/Heartbeat$)/;
/** Only clients call these, and say no version. */
const edge = /^\/keychaindb\.v1\.KV\/(Get|Put|Delete)$/;

/** The service, whose every call begins with what both ends speak, and is meant for this cluster where it names one. */
export function guarded(
  service: GrpcService,
  handshake: Handshake,
  cluster?: OwnCluster,
): GrpcService {
  const { definition, implementation } = service;
  const handlers: UntypedServiceImplementation = { ...implementation };
  for (const [name, { path }] of Object.entries(definition)) {
    const handle = implementation[name] as unknown as Handler | undefined;
    if (handle === undefined || edge.test(path)) continue;
    const guard: Handler = (call, callback) => {
      const isOurs = internal.test(path) || saysVersion(call.metadata);
      const unspoken = isOurs ? handshake.meet(call.metadata, call.getPeer()) : undefined;
      if (unspoken === undefined) call.sendMetadata(handshake.metadata);
      const refusal = unspoken ?? (cluster && whyNotMeant(call.metadata, cluster));
      if (refusal === undefined) handle(call, callback);
      else if (callback === undefined) call.emit('error', toServiceError(refusal));
      else callback(toServiceError(refusal));
    };
    handlers[name] = guard as unknown as UntypedServiceImplementation[string];
  }
  return { definition, implementation: handlers };
}

/**
 * For unary calls to our own processes. An answer of another major version becomes VERSION_UNKNOWN: nothing was
 * applied, since whoever gave it refuses this process too.
 */
export function introducing(handshake: Handshake): Interceptor {
  return (options, nextCall) => {
    const next = nextCall(options);
    const peer = next.getPeer();
    let refusal: KeychainError | undefined;
    return new InterceptingCall(next, {
      start: (metadata, _listener, start) => {
        // The caller's may serve other calls too.
        const said = metadata.clone();
        said.merge(handshake.metadata);
        start(said, {
          onReceiveMetadata: (answered, pass) => {
            refusal = handshake.meet(answered, peer);
            pass(answered);
          },
          onReceiveStatus: (status, pass) => {
            const theirs = fromServiceError(Object.assign(new Error(status.details), status));
            if (theirs !== undefined) handshake.refusedBy(theirs, peer);
            pass(refusal === undefined ? status : { ...status, ...toServiceError(refusal) });
          },
        });
      },
    });
  };
}

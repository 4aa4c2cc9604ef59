import { InterceptingCall, type Interceptor, type Metadata } from '@grpc/grpc-js';
import { toHex } from '../base/bytes.js';
import { KeychainError } from '../base/errors.js';
import { plain } from '../base/terminal-text.js';

const clusterHeader = 'x-keychaindb-cluster';

/** The cluster that a process is of; empty while it doesn't know. */
export type OwnCluster = () => Uint8Array;

/** For unary calls that only a process of this cluster may answer: an address may pass to one of another. */
export function meantFor(cluster: OwnCluster): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, listener, start) => {
        const name = toHex(cluster());
        // The caller's may serve other calls too.
        const said = metadata.clone();
        if (name !== '') said.set(clusterHeader, name);
        start(said, listener);
      },
    });
}

/**
 * Why a call isn't taken that is meant for another cluster. Who names none is served; who doesn't know its own cluster
 * yet can't say that it is the one that is named. NO_LEADER: nothing was done, and another address may fare better.
 */
export function whyNotMeant(metadata: Metadata, cluster: OwnCluster): KeychainError | undefined {
  const [named] = metadata.get(clusterHeader);
  if (named === undefined) return undefined;
  const own = toHex(cluster());
  if (named === own) return undefined;
  const theirs = plain(String(named)).slice(0, nameMax);
  const message =
    own === ''
      ? `it does not know its cluster yet, and this was meant for cluster ${theirs}`
      : `it belongs to cluster ${own}, and this was meant for cluster ${theirs}: nothing was done; where the cluster was made anew, restart who asks`;
  return new KeychainError('NO_LEADER', message);
}

/** Characters of what a caller names. */
const nameMax = 32;

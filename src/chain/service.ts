import { deadlineMsDefault, deadlineMsMax } from '../base/limits.js';
import { systemRandom } from '../base/random.js';
import type { ChainServer } from '../gen/keychaindb/v1/chain.js';
import type { KVServer } from '../gen/keychaindb/v1/kv.js';
import { answer } from '../wire/grpc-answer.js';
import { serveBidi } from '../wire/grpc-channel.js';
import { type KvHandler, kvCalls } from '../wire/kv-service.js';
import type { NodeHandle } from './node.js';

/** KV at a node: Get is answered here; Put and Delete only by the head. `node`: the present incarnation. */
export function nodeKvHandler(node: () => NodeHandle): KvHandler {
  return {
    budgetMs,
    execute: (operation) => node().execute(operation),
  };
}

export function nodeKvService(node: () => NodeHandle): KVServer {
  return {
    ...kvCalls(nodeKvHandler(node), systemRandom),
    session: serveBidi((channel) => node().acceptSession(channel)),
  };
}

export function nodeChainService(node: () => NodeHandle): ChainServer {
  return {
    follow: serveBidi((channel) => node().acceptFollow(channel)),
    peer: serveBidi((channel) => node().acceptPeer(channel)),
    inspect: (call, callback) => {
      const inspected = async () => node().inspect(call.request.hash);
      answer(inspected(), callback);
    },
  };
}

/** Milliseconds that a call may take: 5 s where its caller names no deadline, never more than 60 s. */
function budgetMs(leftMs: number | undefined): number {
  if (leftMs === undefined) return deadlineMsDefault;
  return Math.max(1, Math.min(deadlineMsMax, Math.floor(leftMs)));
}

import type { Header } from '../gen/keychaindb/v1/chain.js';
import type { NodeState } from './state.js';
import { type Name, sameName } from './views.js';

/** What every chain message carries (R1). */
export function headerTo(state: NodeState, to: Name): Header {
  return {
    chainId: state.chainId,
    lineage: state.seen?.lineage ?? 0,
    epoch: state.active?.epoch ?? 0,
    seenEpoch: state.seen?.epoch ?? 0,
    from: { id: state.self.id, incarnation: state.self.incarnation },
    to: { id: to.id, incarnation: to.incarnation },
  };
}

/** Is the message for this incarnation of this node, of this chain and lineage? */
export function isForMe(
  state: NodeState,
  header: Header | undefined,
): header is Header & { readonly from: Name } {
  return (
    header !== undefined &&
    header.from !== undefined &&
    header.to !== undefined &&
    header.chainId === state.chainId &&
    (state.seen === undefined || header.lineage === state.seen.lineage) &&
    sameName(header.to, state.self)
  );
}

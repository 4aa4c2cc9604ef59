import type { Ledger, NodeState, Session } from '../../src/chain/state.js';

/*
 * Copies of a node's state, for a search that goes on from one state in several ways. What the core never changes
 * in place (views, blocks, versions, messages) is shared.
 */

export function cloneLedger(ledger: Ledger): Ledger {
  return {
    ...ledger,
    staged: [...ledger.staged],
    spans: [...ledger.spans],
    dirty: new Map([...ledger.dirty].map(([key, versions]) => [key, [...versions]])),
    sessions: new Map([...ledger.sessions].map(([id, session]) => [id, cloneSession(session)])),
    expired: new Map(ledger.expired),
    expiring: new Set(ledger.expiring),
  };
}

function cloneSession(session: Session): Session {
  return {
    ...session,
    outcomes: new Map(session.outcomes),
    staged: new Map(session.staged),
  };
}

export function cloneNode(state: NodeState): NodeState {
  const { waiting } = state;
  return {
    ...state,
    ledger: cloneLedger(state.ledger),
    given: new Map(state.given),
    held: new Map(state.held),
    seenStores: new Map(state.seenStores),
    stopped: new Set(state.stopped),
    lastGrant: new Map(state.lastGrant),
    up: state.up && { ...state.up, install: state.up.install && { ...state.up.install } },
    down: state.down && { ...state.down },
    hellos: [...state.hellos],
    waiting: {
      writes: new Map(
        [...waiting.writes].map(([index, { id, tokens }]) => [index, { id, tokens: [...tokens] }]),
      ),
      unleased: [...waiting.unleased],
      parked: [...waiting.parked],
      query: waiting.query,
      queries: [...waiting.queries],
    },
    counters: { ...state.counters },
    silence: {
      ...state.silence,
      marks: [...state.silence.marks],
      found: [...state.silence.found],
    },
  };
}

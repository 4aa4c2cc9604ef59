import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { ChainRecord, EntryId, Envelope, LogSpan, Outcome } from '../gen/keychaindb/v1/log.js';
import type { Comparison, StoreDamage } from './comparison.js';
import type { Kept, LogBounds } from './kept.js';
import type { ReadRequest, Token } from './messages.js';
import type { Name } from './views.js';

export interface NodeIdentity extends Name {
  readonly storeId: Uint8Array;
  readonly address: string;
  /** The first incarnation of this process; absent: this one. */
  readonly process?: number;
}

export interface NodeTiming {
  /** h, T, L in milliseconds; ρ. */
  readonly heartbeatMs: number;
  readonly detectionMs: number;
  readonly leaseMs: number;
  readonly drift: number;
}

/** An entry above the watermark: in the log, not known to be committed. */
export interface StagedEntry {
  readonly envelope: Envelope;
  readonly record: NonNullable<ChainRecord['record']>;
  /** Of what it writes, as in `dirty`; undefined: it writes no key. */
  readonly key: string | undefined;
  /** Whose request it is, as in `sessions`; undefined: nobody's. */
  readonly client: string | undefined;
}

export interface StagedBlock {
  readonly previous: EntryId;
  readonly end: EntryId;
  readonly bytes: number;
  readonly entries: readonly StagedEntry[];
}

/** A version of a key that may or may not be committed. */
export interface StagedVersion {
  readonly revision: number;
  /** Undefined: a tombstone. */
  readonly value: Uint8Array | undefined;
  readonly createRevision: number;
  readonly version: number;
}

/** A client's window of outcomes (R12). Changed by BlockAppended, SuffixCut and Committed alone. */
export interface Session {
  readonly outcomes: Map<number, Outcome>;
  /** Requests that are in the log and not committed: seq → their entry. */
  readonly staged: Map<number, EntryId>;
  answeredBelow: number;
  /** Revision of its newest outcome: what tells whether it is silent. 0: none is known. */
  lastRevision: number;
  /** Wall time of its newest committed entry, milliseconds, for people; 0: nothing of it is committed. */
  lastAt: number;
}

/** Everything through `revision` was committed by then, on the head's monotonic clock. */
export interface CommitMark {
  readonly now: number;
  readonly revision: number;
}

/**
 * What a head knows of its clients' silence. It dies with the process and with the office: whoever
 * becomes head waits a whole silence before it expires anybody.
 */
export interface Silence {
  /** Milliseconds of silence after which a session ends. */
  readonly afterMs: number;
  /** Oldest first; of those that are older than a silence the newest alone. */
  readonly marks: CommitMark[];
  /** Monotonic milliseconds from which on the head looks for silent clients. */
  lookAt: number;
  /** Found by the last look and not in an entry yet: the clients with nothing above `through`. */
  readonly found: string[];
  through: number;
}

/** The monotonic clock and the wall's, at one moment. */
export interface ClockReading {
  readonly now: number;
  readonly wall: number;
}

/** What the log folds to: the replayable part. Changed by `fold.ts` alone. */
export interface Ledger {
  /** Newest entry, durable or not. */
  last: EntryId;
  /** Everything up to here is on this node's disk. Invariant: synced.index <= last.index. */
  synced: EntryId;
  /** Everything up to here is known to be committed. Up on Committed; never down. Invariant: <= last. */
  watermark: EntryId;
  /** Which generation each revision has; only the fold changes them. */
  spans: LogSpan[];
  /** Of all blocks that were appended to it and not cut; counted from where this ledger began. */
  bytes: number;
  /** Blocks above the watermark, oldest first. */
  readonly staged: StagedBlock[];
  stagedBytes: number;
  stagedEntries: number;
  /** Versions above the watermark by key, oldest first; a key without any isn't in the map: it is clean. */
  readonly dirty: Map<string, StagedVersion[]>;
  readonly sessions: Map<string, Session>;
  /** When each client's session was expired, oldest first: wall milliseconds of the entry, 0 where 0.1.0 stored it. */
  readonly expired: Map<string, number>;
  /** Clients that a staged entry expires. */
  readonly expiring: Set<string>;
  /** Newest `at` in the log, so that it never goes back. */
  lastAt: number;
}

/** The link to the predecessor; this node dialed it. */
export interface UpLink {
  readonly session: number;
  readonly epoch: number;
  readonly to: Name;
  /** The predecessor answered in this epoch and this log was cut to the common part (R6). */
  reconciled: boolean;
  /** The predecessor has said anything at all on it. */
  heard: boolean;
  /** Everything up to here is synced at all before this node, as said in this epoch (R11). */
  syncedThrough: EntryId;
  /** A snapshot comes on it (R17). */
  install: Install | undefined;
}

/** A snapshot on its way into this store. */
export interface Install {
  readonly at: EntryId;
  readonly chunks: number;
  /** Chunks that have come, and those that are in the store. */
  taken: number;
  stored: number;
}

/** The link from the successor; it dialed. */
export interface DownLink {
  readonly link: number;
  readonly session: number;
  readonly epoch: number;
  readonly from: Name;
  /** This node answered its hello: entries stream. */
  reconciled: boolean;
  /** Everything up to here is synced at the follower, as said in this epoch; undefined before it said so. */
  acked: EntryId | undefined;
  /** What it gets comes after this entry. */
  readonly fedAfter: EntryId;
}

/** A hello that can't be answered yet: of an epoch not active here, or the token isn't here (R7). */
export interface ParkedHello {
  readonly link: number;
  readonly session: number;
  readonly epoch: number;
  readonly from: Name;
  readonly ends: readonly EntryId[];
}

export interface ParkedRead {
  readonly read: ReadRequest;
  readonly key: string;
}

/** One query covers the reads that had arrived before it was sent (R14). */
export interface TailQuery {
  readonly nonce: number;
  readonly epoch: number;
  readonly sentAt: number;
  readonly covers: readonly ParkedRead[];
}

export interface Counters {
  queriesAnswered: number;
  queriesSent: number;
}

/**
 * A chain node. `ledger` is replayable; the rest dies with the process, and a restart takes part in
 * nothing until a view names its new incarnation.
 */
export interface NodeState {
  readonly self: NodeIdentity;
  readonly chainId: number;
  readonly timing: NodeTiming;
  /** Another one when a snapshot was installed; else changed in place. */
  ledger: Ledger;
  readonly bounds: LogBounds;
  /** What of the log is there, and the base below it. Changed by BaseMade, LogDropped and SnapshotInstalled. */
  kept: Kept;
  /** This store holds a part of a snapshot: nothing of it counts (R10, R17). */
  incomplete: boolean;

  /** Newest view that a coordinator or a peer has shown; persisted before it gets here; never goes back (R1). */
  seen: View | undefined;
  /** The view that this node takes part in. Invariant: active.epoch <= seen.epoch. Changed by Activated. */
  active: View | undefined;
  /** This incarnation was in a view and is not any more: it answers nothing for ever (R2). */
  removed: boolean;
  /** Monotonic milliseconds before which no view in which it serves may be activated (R5). */
  readonly bootWaitUntil: number;
  /** Largest lease in milliseconds that this store ever promised; persisted before the grant (R5). */
  leaseMaxMs: number;

  /** Promises given: until when, by own clock, this node takes part in no view without that process (R3, R4). */
  readonly given: Map<string, { readonly name: Name; readonly until: number }>;
  /** Promises held: lease end by own clock, counted from the request (R4). */
  readonly held: Map<string, number>;
  /** Whose promises a strong read needs now; derived from active and seen. */
  needed: readonly Name[];
  /** End of the shortest needed lease; -Infinity where one is missing, Infinity where none is needed. */
  leaseUntil: number;
  /** Store id of every process that a seen view named (R3). */
  readonly seenStores: Map<string, Uint8Array>;
  /** Processes that confirmed their stop having seen their own removal (R3). */
  readonly stopped: Set<string>;
  /** When each needed process last granted, or became needed: what a heartbeat names as silent (R13). */
  readonly lastGrant: Map<string, number>;

  up: UpLink | undefined;
  down: DownLink | undefined;
  readonly hellos: ParkedHello[];
  /** When the link to the predecessor was last heard on, or activation: for silent peers. */
  upHeardAt: number;
  nextSession: number;
  /** Tail only: has committed all that it held when the token came (R7), or carried over (R8). */
  authority: boolean;
  /** The index that the watermark must reach before the tail takes authority; undefined before the token. */
  authorityAt: number | undefined;

  /** Requests that wait; not replayable, and nothing is decided on it but whom to answer. */
  readonly waiting: {
    /** By revision: the tokens to answer when it is committed. */
    readonly writes: Map<number, { readonly id: EntryId; readonly tokens: Token[] }>;
    /** Strong reads without a lease. */
    unleased: ReadRequest[];
    /** Dirty reads that no query covers yet. */
    parked: ParkedRead[];
    query: TailQuery | undefined;
    /** Queries of others that came before this tail had authority. */
    queries: { readonly from: Name; readonly nonce: number; readonly epoch: number }[];
  };
  nextNonce: number;
  /** R18: comparing the state with the neighbours'. */
  comparison: Comparison;
  /** What is wrong with this store, or with another's, as far as this node has found. */
  damage: StoreDamage | undefined;
  readonly counters: Counters;
  /** When a suspension was noticed last: what was asked for before it is granted to a past. */
  leasesDroppedAt: number;
  /** Clocks at the last tick, to notice a suspended machine. */
  lastTick: ClockReading | undefined;
  lastPromiseRound: number;
  /** Of the head: which clients' sessions are to end. */
  readonly silence: Silence;
}

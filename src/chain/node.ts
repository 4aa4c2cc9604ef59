import type { Observable } from 'rxjs';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Timing } from '../base/timing.js';
import type {
  FollowDown,
  FollowUp,
  InspectResponse,
  PeerMessage,
} from '../gen/keychaindb/v1/chain.js';
import type { CoordinatorPush, NodeHeartbeat, View } from '../gen/keychaindb/v1/coordinator.js';
import type {
  Operation,
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../gen/keychaindb/v1/kv.js';
import type { EventLog } from '../log/event-log.js';
import type { Acceptor, Dialer } from '../wire/channel.js';
import type { OperationLimits } from '../wire/validate.js';
import type { CompactionOptions } from './compaction.js';
import type { ComparePace } from './comparison.js';
import type { ChainEvent } from './events.js';
import type { ForwardMeter } from './forwarder.js';
import type { HotObjects } from './hot-objects.js';
import type { Queue } from './queues.js';
import type { NodeState } from './state.js';
import type { NodeTelemetry, NodeTracing } from './tracing.js';

/* What a chain node is given, and what it gives. */

export interface NodeOptions {
  readonly identity: {
    readonly id: string;
    readonly incarnation: number;
    readonly storeId: Uint8Array;
    readonly address: string;
    /** The first incarnation of this process. */
    readonly process?: number;
  };
  readonly chainId: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly timing: Timing;
  readonly log: EventLog;
  /** Ask to be a member. */
  readonly join: boolean;
  /** Of the program, for people. */
  readonly version?: string;
  readonly peers: Dialer<PeerMessage, PeerMessage>;
  readonly links: Dialer<FollowUp, FollowDown>;
  readonly coordinators: {
    readonly addresses: readonly string[];
    readonly dialer: Dialer<NodeHeartbeat, CoordinatorPush>;
  };
  readonly limits: OperationLimits;
  /** How neighbours compare their states. */
  readonly compare?: ComparePace;
  /** Milliseconds of silence after which a client's session ends; by default an hour. */
  readonly sessionSilenceMs?: number;
  /** Bytes of objects that are kept in memory; 0: none. */
  readonly objectCacheBytes?: number;
  /** How far its log may grow, and how slowly it is made shorter. */
  readonly compaction?: Partial<CompactionOptions>;
  readonly telemetry?: NodeTelemetry;
  /** Called once; after it the process must end. */
  readonly fatal: (error: unknown) => void;
  /** What coordinators tell the operator of this node, e.g. that it isn't a member. */
  readonly notice?: (text: string) => void;
}

/** Why an incarnation is over; `wipe`: its store starts from nothing. */
export interface Removal {
  readonly wipe: boolean;
  readonly why: string;
  /** The next incarnation is higher than this one too. */
  readonly above: number;
}

export interface NodeHandle {
  readonly acceptPeer: Acceptor<PeerMessage, PeerMessage>;
  readonly acceptFollow: Acceptor<FollowDown, FollowUp>;
  readonly acceptSession: Acceptor<SessionResponse, SessionRequest>;
  /** One operation, in process; `timeoutMs` counts from now. Never rejects. */
  execute(operation: Operation): Promise<OperationResult>;
  readonly view: View | undefined;
  /** For tests, tools and assertions; nobody outside the room changes it. */
  readonly state: NodeState;
  readonly tracing: NodeTracing;
  /** What waits and how much of it may, by name; for /metrics. */
  readonly queues: readonly Queue[];
  /** Messages and entries sent to successors by this incarnation. */
  readonly linkMeter: Readonly<ForwardMeter>;
  readonly objectCache: Readonly<Pick<HotObjects, 'bytes' | 'hits' | 'misses'>>;
  /** Every event, after it was applied. */
  readonly events$: Observable<ChainEvent>;
  inspect(hash: boolean): Promise<InspectResponse>;
  /** This incarnation is out of the chain: start again under a higher one, on the same store. */
  readonly removed: Promise<Removal>;
  close(): Promise<void>;
}

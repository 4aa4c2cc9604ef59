import { toMapKey } from '../../src/base/bytes.js';
import { promiseMs } from '../../src/base/timing.js';
import { comparePaceDefault, type RangeHash } from '../../src/chain/comparison.js';
import { step } from '../../src/chain/core.js';
import { emptyLedger, type StoreChanges } from '../../src/chain/fold.js';
import type { ChainEffect, ChainInput } from '../../src/chain/inputs.js';
import { checkNode } from '../../src/chain/invariants.js';
import { markOfWatermark } from '../../src/chain/kept.js';
import { downMessage, upMessage } from '../../src/chain/link.js';
import type { KeyValue, ReadAnswer, WriteAnswer } from '../../src/chain/messages.js';
import { cutAfter } from '../../src/chain/spans.js';
import { startState } from '../../src/chain/start.js';
import type { NodeState } from '../../src/chain/state.js';
import { stateEnd } from '../../src/chain/state-chunk.js';
import type { Member, View } from '../../src/gen/keychaindb/v1/coordinator.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { EntryId, RequestId } from '../../src/gen/keychaindb/v1/log.js';
import { type LogBlock, origin } from '../../src/log/event-log.js';

export const timing = { heartbeatMs: 50, detectionMs: 250, leaseMs: 400, drift: 0.01 };
export const promise = promiseMs(timing.leaseMs, timing.drift);

const states: Readonly<Record<string, MemberState>> = {
  sync: MemberState.SYNCING,
  join: MemberState.JOINING,
};

/** `view(2, 'a b c~join')`: head first; `b2` is incarnation 2 of b; `others` likewise. */
export function view(epoch: number, members: string, others = ''): View {
  const parse = (text: string, state: MemberState): Member[] =>
    text
      .split(' ')
      .filter((word) => word !== '')
      .map((word) => {
        const [name = '', suffix] = word.split('~');
        const id = name.replace(/\d+$/, '');
        return {
          id,
          incarnation: Number(name.slice(id.length)) || 1,
          address: id,
          state: suffix === undefined ? state : (states[suffix] ?? state),
          storeId: new TextEncoder().encode(`store-${id}`),
          since: 0,
          drained: false,
          spare: false,
          note: '',
        };
      });
  return {
    chainId: 1,
    epoch,
    lineage: 1,
    length: 0,
    clusterId: new Uint8Array(16),
    members: parse(members, MemberState.SERVING),
    others: parse(others, MemberState.OFFLINE),
  };
}

const emptyBase = { objects: 0, sessions: 0, time: 0, stateHash: '', spans: [] };

interface Feed {
  readonly follower: string;
  readonly link: number;
  after: EntryId;
  /** A snapshot ends at `after`: blocks come when the follower has acknowledged it. */
  isSnapshot: boolean;
}

class PureNode {
  state: NodeState;
  /** Blocks in the log, durable or not. */
  log: LogBlock[] = [];
  objects = new Map<string, KeyValue>();
  feed: Feed | undefined;
  stopped: { wipe: boolean; why: string } | undefined;
  alive = true;
  /** Who dialed on each accepted link. */
  readonly dialers = new Map<number, string>();

  constructor(state: NodeState) {
    this.state = state;
  }
}

export interface Packet {
  readonly from: string;
  readonly to: string;
  readonly input: (now: number) => ChainInput;
  readonly text: string;
}

/** Real cores, a disk that syncs at once, messages delivered in order unless a test holds or drops them. */
export class PureCluster {
  now = 1_000;
  /** By so much the wall clocks are ahead of the monotonic ones. */
  wallAheadMs = 0;
  readonly nodes = new Map<string, PureNode>();
  readonly reads = new Map<number, ReadAnswer>();
  readonly writes = new Map<number, WriteAnswer>();
  readonly held: Packet[] = [];
  /** Packets for which this is true are kept in `held`. */
  hold: (packet: Packet) => boolean = () => false;
  /** Nodes whose disk doesn't sync until `sync` is called. */
  readonly slowDisks = new Set<string>();
  /** How often nodes that are started from here on compare their states. */
  pace = comparePaceDefault;
  /** What a node's state is, where it isn't what the log says. */
  readonly altered = new Map<string, string>();
  #packets: Packet[] = [];
  #token = 1;
  #seq = 1;
  #link = 1;

  get wall(): number {
    return Math.floor(this.now) + this.wallAheadMs;
  }

  start(id: string, incarnation = 1): PureNode {
    const self = {
      id,
      incarnation,
      storeId: new TextEncoder().encode(`store-${id}`),
      address: id,
    };
    const node = new PureNode(
      startState(self, 1, timing, this.now - promise, {}, { pace: this.pace }),
    );
    this.nodes.set(id, node);
    return node;
  }

  node(id: string): PureNode {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  show(shown: View, ...ids: string[]): void {
    for (const id of ids) this.give(id, { type: 'ViewPersisted', view: shown, now: this.now });
    this.run();
  }

  /** A chain that serves: every member active, leased, the tail with authority. */
  serve(shown: View): void {
    for (const m of shown.members) if (!this.nodes.has(m.id)) this.start(m.id, m.incarnation);
    this.show(shown, ...shown.members.map((m) => m.id));
    this.pass(timing.heartbeatMs * 2);
  }

  give(id: string, input: ChainInput): void {
    const node = this.node(id);
    if (!node.alive) return;
    const { events, effects } = step(node.state, input, changesOf(node));
    checkNode(node.state);
    for (const event of events) {
      if (event.type === 'BlockAppended' && !event.stored) node.log.push(event.block);
      if (event.type === 'SuffixCut') {
        node.log = node.log.filter((b) => b.end.index <= event.after.index);
      }
      if (event.type === 'LogDropped') {
        node.log = node.log.filter((b) => b.end.index > event.through.id.index);
      }
      if (event.type === 'SnapshotBegun') {
        node.log = [];
        node.objects.clear();
      }
      if (event.type === 'DownAcked' && node.feed?.isSnapshot === true) {
        node.feed.isSnapshot = event.synced.index < node.feed.after.index;
      }
      if (event.type === 'Activated') node.feed = undefined;
    }
    for (const effect of effects) this.#perform(id, node, effect);
    if (!this.slowDisks.has(id)) this.sync(id);
    this.#pump(id, node);
  }

  /** The disk of a node completes what it was given. */
  sync(id: string): void {
    const { state } = this.node(id);
    const { last, synced } = state.ledger;
    if (last.index === synced.index) return;
    this.give(id, { type: 'LogSynced', through: last, blocks: [], now: this.now });
  }

  run(): void {
    for (let steps = 0; this.#packets.length > 0; steps += 1) {
      if (steps > 100_000) throw new Error('messages without end');
      const packet = this.#packets.shift();
      if (packet === undefined) return;
      if (this.hold(packet)) this.held.push(packet);
      else if (this.nodes.has(packet.to)) this.give(packet.to, packet.input(this.now));
    }
  }

  /** Delivers what was held. */
  release(): void {
    this.hold = () => false;
    this.#packets.push(...this.held.splice(0));
    this.run();
  }

  /** Time passes, with ticks. */
  pass(milliseconds: number): void {
    const until = this.now + milliseconds;
    while (this.now < until) {
      this.now += Math.min(10, until - this.now);
      for (const id of this.nodes.keys()) {
        this.give(id, { type: 'Ticked', now: this.now, wall: this.wall });
      }
      this.run();
    }
  }

  /** The node has a base of what it has committed: the log may go through the one before. */
  base(id: string): void {
    const { state } = this.node(id);
    this.give(id, { type: 'BaseWritten', base: markOfWatermark(state), now: this.now });
  }

  crash(id: string): void {
    this.node(id).alive = false;
  }

  put(id: string, key: string, value: string, request?: RequestId): number {
    const token = this.#token++;
    const bytes = new TextEncoder().encode(key);
    this.give(id, {
      type: 'WritesReceived',
      writes: [
        {
          token,
          operation: { type: 'put', key: bytes, value: new TextEncoder().encode(value) },
          request: request ?? this.request(),
          trace: new Uint8Array(0),
          deadline: this.now + 5_000,
          stored: this.node(id).objects.get(toMapKey(bytes)),
        },
      ],
      now: this.now,
      wall: this.wall,
    });
    this.run();
    return token;
  }

  request(): RequestId {
    return { clientId: new Uint8Array(16), seq: this.#seq++, answeredBelow: 1 };
  }

  get(id: string, key: string): number {
    const token = this.#token++;
    const bytes = new TextEncoder().encode(key);
    const stored = this.node(id).objects.get(toMapKey(bytes));
    const read = { token, key: bytes, deadline: this.now + 5_000, stored };
    this.give(id, { type: 'ReadsReceived', reads: [read], now: this.now });
    this.run();
    return token;
  }

  /** What a read came to: the value, 'absent', the reason of its refusal, or 'waits'. */
  readOf(token: number): string {
    const answer = this.reads.get(token);
    if (answer === undefined) return 'waits';
    if (answer.type === 'refused') return answer.reason;
    return answer.found === undefined ? 'absent' : new TextDecoder().decode(answer.found.value);
  }

  writeOf(token: number): string {
    const answer = this.writes.get(token);
    if (answer === undefined) return 'waits';
    return answer.type === 'refused' ? answer.reason : `committed ${answer.outcome.revision}`;
  }

  #send(from: string, to: string, text: string, input: (now: number) => ChainInput): void {
    this.#packets.push({ from, to, text, input });
  }

  #perform(id: string, node: PureNode, effect: ChainEffect): void {
    switch (effect.type) {
      case 'say': {
        const { message, to } = effect;
        const text = message.message?.$case ?? 'nothing';
        this.#send(id, to.address, text, (now) =>
          message.message?.$case === 'view'
            ? { type: 'ViewPersisted', view: message.message.value, now }
            : { type: 'PeerSaid', message, now },
        );
        break;
      }
      case 'dialPredecessor': {
        const link = this.#link++;
        this.node(effect.address)?.dialers.set(link, id);
        this.#send(id, effect.address, 'hello', (now) => ({
          type: 'SuccessorSaid',
          link,
          message: effect.hello,
          now,
        }));
        break;
      }
      case 'acknowledge': {
        const message = upMessage(node.state);
        const to = node.state.up?.to.id;
        if (message === undefined || to === undefined) break;
        const link = this.node(to).feed?.link ?? 0;
        this.#send(id, to, 'ack', (now) => ({ type: 'SuccessorSaid', link, message, now }));
        break;
      }
      case 'feed': {
        const follower = node.dialers.get(effect.link) ?? '';
        node.feed = { follower, link: effect.link, after: effect.common, isSnapshot: false };
        const { first } = effect;
        this.#send(id, follower, 'reconcile', (now) => ({
          type: 'PredecessorSaid',
          message: first,
          blocks: [],
          chunks: [],
          now,
        }));
        break;
      }
      case 'feedSnapshot': {
        const follower = node.dialers.get(effect.link) ?? '';
        const { id: at } = node.state.kept.base;
        node.feed = { follower, link: effect.link, after: at, isSnapshot: true };
        const snapshot = { ...emptyBase, at, chunks: 2 };
        for (const [i, text] of ['snapshot', 'chunk', 'chunk'].entries()) {
          const message = i === 0 ? { ...effect.first, snapshot } : downMessage(node.state);
          const chunk = { at, sequence: i - 1, last: i === 2, records: [], checksum: 0 };
          this.#send(id, follower, text, (now) => ({
            type: 'PredecessorSaid',
            message,
            blocks: [],
            chunks: i === 0 ? [] : [chunk],
            now,
          }));
        }
        break;
      }
      case 'storeChunk': {
        const { session, chunk } = effect;
        this.#send(id, id, 'stored', (now) => ({
          type: 'ChunksStored',
          session,
          chunks: chunk.sequence + 1,
          now,
        }));
        break;
      }
      case 'completeInstall': {
        const { session } = effect;
        const from = this.node(node.state.up?.to.id ?? '');
        const at = node.state.up?.install?.at ?? origin;
        node.objects = new Map(from.objects);
        const spans = cutAfter(from.state.ledger.spans, at.index);
        const ledger = { ...emptyLedger(), last: at, synced: at, watermark: at, spans };
        this.#send(id, id, 'installed', (now) => ({
          type: 'SnapshotInstalled',
          session,
          ledger,
          now,
        }));
        break;
      }
      case 'refreshFollower':
        this.#header(id, node, []);
        break;
      case 'answerRead':
        this.reads.set(effect.token, effect.answer);
        break;
      case 'answerWrite':
        this.writes.set(effect.token, effect.answer);
        break;
      case 'readAgain': {
        const { read } = effect;
        this.#send(id, id, 'read', (now) => ({
          type: 'ReadsReceived',
          reads: [{ ...read, stored: node.objects.get(toMapKey(read.key)) }],
          now,
        }));
        break;
      }
      case 'stop':
        node.stopped = effect;
        break;
      default:
        this.#scan(id, node, effect);
    }
  }

  /** A state is one range, and hashes to what it is and the entry that it is of. */
  #scan(id: string, { state }: PureNode, effect: ChainEffect): void {
    const hashed = (at: EntryId, to: Uint8Array): RangeHash => {
      return { at, to, hash: `${this.altered.get(id) ?? ''} ${at.index}` };
    };
    const { watermark } = state.ledger;
    switch (effect.type) {
      case 'readRange': {
        const { nonce, from } = effect;
        const range = { from, to: stateEnd, isLast: true, through: watermark };
        this.#send(id, id, 'range', (now) => ({ type: 'RangeRead', nonce, range, now }));
        break;
      }
      case 'hashRange': {
        const { asked } = effect;
        const at = watermark.index > asked.atLeast.index ? watermark : asked.atLeast;
        const hash = hashed(at, asked.to);
        this.#send(id, id, 'hash', (now) => ({ type: 'RangeHashed', asked, hash, now }));
        break;
      }
      case 'rollRange': {
        const { nonce, theirs } = effect;
        const own = hashed(theirs.at, theirs.to);
        this.#send(id, id, 'roll', (now) => ({ type: 'RangeRolled', nonce, theirs, own, now }));
        break;
      }
      default:
    }
  }

  #pump(id: string, node: PureNode): void {
    const { feed, state } = node;
    if (feed === undefined || feed.isSnapshot || state.down?.link !== feed.link) return;
    const blocks = node.log.filter(
      (b) => b.end.index > feed.after.index && b.end.index <= state.ledger.synced.index,
    );
    const end = blocks.at(-1)?.end;
    if (end === undefined) return;
    feed.after = end;
    this.#header(id, node, blocks);
  }

  #header(id: string, node: PureNode, blocks: readonly LogBlock[]): void {
    const { feed, state } = node;
    if (feed === undefined || state.down?.link !== feed.link) return;
    const message = downMessage(state);
    this.#send(id, feed.follower, blocks.length > 0 ? 'blocks' : 'header', (now) => ({
      type: 'PredecessorSaid',
      message,
      blocks,
      chunks: [],
      now,
    }));
  }
}

function changesOf(node: PureNode): StoreChanges {
  return {
    object(key, version) {
      if (version.value === undefined) node.objects.delete(toMapKey(key));
      else {
        node.objects.set(toMapKey(key), {
          value: version.value,
          createRevision: version.createRevision,
          modRevision: version.revision,
          version: version.version,
        });
      }
    },
    outcome: () => undefined,
    session: () => undefined,
  };
}

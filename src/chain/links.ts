import type { Clock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { FollowAck, FollowDown, FollowUp } from '../gen/keychaindb/v1/chain.js';
import type { EntryId, SnapshotChunk } from '../gen/keychaindb/v1/log.js';
import { decodeBlock } from '../log/block.js';
import {
  BlocksDropped,
  type EventLog,
  isDamage,
  type LogBlock,
  origin,
  sameEntry,
} from '../log/event-log.js';
import type { Channel, ChannelHandler, Dialer } from '../wire/channel.js';
import { FeedFaults } from './feed-faults.js';
import { Forwarder } from './forwarder.js';
import type { Hops } from './hops.js';
import type { ChainEffect, ChainInput } from './inputs.js';
import { downMessage, upMessage } from './link.js';
import { Pace } from './pace.js';
import { RareNotice } from './rare-notice.js';
import { SnapshotFeed } from './snapshot-feed.js';
import type { NodeState } from './state.js';
import { countsIn, servingOf } from './views.js';

type LinkEffect = Extract<
  ChainEffect,
  {
    type:
      | 'dialPredecessor'
      | 'hangUpPredecessor'
      | 'acknowledge'
      | 'feed'
      | 'feedSnapshot'
      | 'snapshotAcked'
      | 'keepWaiting'
      | 'refreshFollower'
      | 'hangUpFollower';
  }
>;

/** Milliseconds after which a follower is let go that could not be fed: less than it waits before it names this node. */
const feedRetryMs = 200;

/** The streams to the predecessor (dialed) and from successors (accepted); the core knows them by number. */
export class Links {
  readonly #state: NodeState;
  readonly #log: EventLog;
  readonly #dialer: Dialer<FollowUp, FollowDown>;
  readonly #clock: Clock;
  readonly #give: (input: ChainInput) => void;
  readonly #hops: Hops;
  readonly #catchUpShare: number;
  readonly #notice: RareNotice;
  readonly #faults = new FeedFaults();
  readonly #accepted = new Map<number, Channel<FollowDown>>();
  readonly meter = { messages: 0, entries: 0 };
  #nextLink = 1;
  #up: { readonly session: number; readonly channel: Channel<FollowUp> } | undefined;
  #acknowledging = false;
  #unacknowledged = false;
  /** What was acknowledged last on this link. */
  #acknowledged: FollowAck | undefined;
  #down:
    | {
        readonly link: number;
        readonly forwarder: Forwarder;
        readonly pace: Pace | undefined;
      }
    | undefined;

  constructor(
    state: NodeState,
    log: EventLog,
    dialer: Dialer<FollowUp, FollowDown>,
    clock: Clock,
    give: (input: ChainInput) => void,
    hops: Hops,
    options: {
      /** Of the time that feeding a follower which catches up may take. */
      readonly catchUpShare: number;
      readonly notice?: (text: string) => void;
    },
  ) {
    this.#catchUpShare = options.catchUpShare;
    this.#notice = new RareNotice(options.notice);
    this.#hops = hops;
    this.#state = state;
    this.#log = log;
    this.#dialer = dialer;
    this.#clock = clock;
    this.#give = give;
  }

  /** Bytes on the link to the follower that it hasn't acknowledged, or that wait to be sent. */
  get windowBytes(): number {
    return this.#down?.forwarder.windowBytes ?? 0;
  }

  /** A successor has dialed. */
  accept(channel: Channel<FollowDown>): ChannelHandler<FollowUp> {
    const link = this.#nextLink;
    this.#nextLink += 1;
    this.#accepted.set(link, channel);
    return {
      message: (message) =>
        this.#give({ type: 'SuccessorSaid', link, message, now: this.#clock.monotonic() }),
      closed: () => {
        this.#dropFollower(link, 'closed by the follower');
        this.#give({ type: 'DownLinkClosed', link, now: this.#clock.monotonic() });
      },
    };
  }

  perform(effect: LinkEffect): void {
    switch (effect.type) {
      case 'dialPredecessor':
        this.#dial(effect.address, effect.session, effect.hello);
        break;
      case 'hangUpPredecessor':
        this.#hangUp(effect.session, effect.why);
        break;
      case 'acknowledge':
        this.#unacknowledged = true;
        this.#acknowledge();
        break;
      case 'feed':
        this.#feed(effect.link, effect.first, effect.common);
        break;
      case 'feedSnapshot':
        this.#feed(effect.link, effect.first, undefined);
        break;
      case 'snapshotAcked':
        if (this.#down?.link === effect.link) this.#down.forwarder.chunksAcked(effect.chunks);
        break;
      case 'keepWaiting':
        this.#accepted.get(effect.link)?.send(effect.message);
        break;
      case 'refreshFollower':
        if (this.#down?.link === effect.link) this.#down.forwarder.refresh();
        break;
      case 'hangUpFollower':
        this.#dropFollower(effect.link, effect.why);
        break;
    }
  }

  /** The follower has synced through here: there may be room in its window. */
  acked(index: number): void {
    this.#down?.forwarder.acked(index);
  }

  #dial(address: string, session: number, hello: FollowUp): void {
    this.#up?.channel.close('a newer session');
    const channel: Channel<FollowUp> = this.#dialer.dial(address, {
      message: (message) => this.#predecessorSaid(session, message),
      closed: () => {
        if (this.#up?.session === session) this.#up = undefined;
        this.#give({ type: 'UpLinkClosed', session, now: this.#clock.monotonic() });
      },
    });
    this.#up = { session, channel };
    this.#acknowledging = false;
    this.#acknowledged = undefined;
    channel.send(hello);
  }

  #predecessorSaid(session: number, message: FollowDown): void {
    if (this.#up?.session !== session) return;
    const blocks: LogBlock[] = [];
    const chunks: SnapshotChunk[] = [];
    try {
      for (const { item } of message.items) {
        if (item?.$case === 'block') blocks.push(decodeBlock(item.value));
        else if (item?.$case === 'snapshot') chunks.push(item.value);
      }
    } catch (error) {
      this.#hangUp(session, `a block came damaged: ${String(error)}`);
      this.#give({ type: 'UpLinkClosed', session, now: this.#clock.monotonic() });
      return;
    }
    this.#give({ type: 'PredecessorSaid', message, blocks, chunks, now: this.#clock.monotonic() });
  }

  #hangUp(session: number, why: string): void {
    if (this.#up?.session !== session) return;
    this.#up.channel.close(why);
    this.#up = undefined;
  }

  /** One acknowledgment at a time: what changes while it is on its way goes with the next. */
  #acknowledge(): void {
    const up = this.#up;
    if (up === undefined || this.#acknowledging || !this.#unacknowledged) return;
    const message = this.#state.up?.session === up.session ? upMessage(this.#state) : undefined;
    if (message === undefined || up.channel.isClosed) return;
    this.#unacknowledged = false;
    const ack = message.message?.$case === 'ack' ? message.message.value : undefined;
    // One step may sync and commit: one message says both.
    if (ack !== undefined && isSameAck(ack, this.#acknowledged)) return;
    this.#acknowledged = ack;
    this.#acknowledging = true;
    up.channel.send(message);
    if (ack !== undefined) {
      this.#hops.acknowledge(ack.watermark?.index ?? 0, this.#clock.monotonic());
    }
    void up.channel.drained().then(() => {
      if (this.#up !== up) return;
      this.#acknowledging = false;
      this.#acknowledge();
    });
  }

  /** @param common undefined: what the follower needs first is a snapshot */
  #feed(link: number, first: FollowDown, common: EntryId | undefined): void {
    const channel = this.#accepted.get(link);
    if (channel === undefined) return;
    this.#stopFeeding();
    const { session } = first;
    const header = (): FollowDown => downMessage(this.#state);
    const forwarder = new Forwarder(
      channel,
      () => {
        const message = header();
        return message.session === session ? message : { ...first, common: undefined };
      },
      this.meter,
      (through) => this.#hops.forward(through, this.#clock.monotonic()),
      this.#clock,
      () => this.#state.ledger.last.index,
    );
    const { active } = this.#state;
    const follower = this.#state.down?.from;
    // The chain waits for who counts in it: such a one is fed as fast as it takes. So is the second one, before anything
    // else. A snapshot always goes with rests.
    const counts = active !== undefined && follower !== undefined && countsIn(active, follower);
    const isAwaited = active === undefined || !follower || counts || servingOf(active).length < 2;
    const paced = new Pace(this.#clock, this.#catchUpShare);
    const pace = isAwaited && common !== undefined ? undefined : paced;
    this.#down = { link, forwarder, pace };
    const fed =
      common === undefined
        ? new SnapshotFeed(forwarder, this.#log, paced).run(first)
        : forwarder.run(this.#log, first, common, pace);
    fed.catch((error: unknown) => {
      const { message: what, reason } = KeychainError.from(error);
      const now = this.#clock.monotonic();
      if (reason === 'INTERNAL' && !(error instanceof BlocksDropped)) {
        if (counts) this.#faults.failed(now);
        this.#notice.say(`a follower can't be fed: ${what}`, now);
        // It asks again at once, and what failed may leave something behind each time.
        this.#clock.after(feedRetryMs, () => this.#failFollower(link, what));
        return;
      }
      this.#failFollower(link, what);
      // The follower asks again for ever. A base that can't be read may have given way to a newer one.
      if (common === undefined || !isDamage(error)) return;
      this.#give({ type: 'DamageFound', what, now });
    });
    this.#clock.after(2 * feedRetryMs, () => {
      if (this.#down?.link === link) this.#faults.over();
    });
  }

  #failFollower(link: number, what: string): void {
    if (!this.#accepted.has(link)) return;
    this.#dropFollower(link, `its log can't be read: ${what}`);
    this.#give({ type: 'DownLinkClosed', link, now: this.#clock.monotonic() });
  }

  /** Milliseconds for which a follower that the chain waits for could not be fed; 0: none needs what can't be read. */
  faultMs(now: number): number {
    return this.#faults.lastedMs(now);
  }

  #dropFollower(link: number, why: string): void {
    if (this.#down?.link === link) this.#stopFeeding();
    this.#accepted.get(link)?.close(why);
    this.#accepted.delete(link);
  }

  #stopFeeding(): void {
    this.#down?.forwarder.stop();
    this.#down?.pace?.stop();
    this.#down = undefined;
  }

  close(): void {
    this.#stopFeeding();
    this.#up?.channel.close('shutting down');
    this.#up = undefined;
    for (const channel of this.#accepted.values()) channel.close('shutting down');
    this.#accepted.clear();
  }
}

function isSameAck(ack: FollowAck, other: FollowAck | undefined): boolean {
  return (
    other !== undefined &&
    sameEntry(ack.synced ?? origin, other.synced ?? origin) &&
    sameEntry(ack.watermark ?? origin, other.watermark ?? origin) &&
    ack.snapshotChunks === other.snapshotChunks
  );
}

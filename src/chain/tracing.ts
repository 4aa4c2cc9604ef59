import { noBytes, toMapKey } from '../base/bytes.js';
import type { Cancel, Clock } from '../base/clock.js';
import { reasonStatus } from '../base/errors.js';
import type { View } from '../gen/keychaindb/v1/coordinator.js';
import type { OperationResult } from '../gen/keychaindb/v1/kv.js';
import type { Envelope, HopRecord, RequestId } from '../gen/keychaindb/v1/log.js';
import type { EventLog } from '../log/event-log.js';
import {
  type Attributes,
  placeAttributes,
  type Span,
  SpanKind,
  type SpanSink,
  spanOf,
} from '../telemetry/span.js';
import { spanIdOf, writeNamed } from '../telemetry/span-ids.js';
import { isSampled, parentIdOf, traceIdOf } from '../telemetry/trace-context.js';
import { activationSpan } from '../telemetry/view-spans.js';
import {
  blockSpans,
  nodeInstance,
  type WriteSpanOptions,
  writeSpans,
} from '../telemetry/write-spans.js';
import type { ChainEvent } from './events.js';
import { HopStore } from './hop-store.js';
import type { Hops, Passage, Place } from './hops.js';
import type { NodeMeter } from './meter.js';
import type { Answered } from './pending.js';
import type { NodeState } from './state.js';
import { isHead, type Name, predecessorOf, sameName, servingOf } from './views.js';

/** What a node reports to; all but the meter is absent where nothing is recorded. */
export interface NodeTelemetry {
  readonly meter: NodeMeter;
  readonly sink?: SpanSink;
  /** Milliseconds since 1970 where the monotonic clock is 0. */
  readonly originMs?: () => number;
  /** Bytes of keys and values that spans show. */
  readonly contentBytes?: number;
}

/** Milliseconds after which the spans of blocks that are over are made, so that no answer waits for them. */
const gatherMs = 20;

/** The spans of one incarnation: made of hop records and envelopes, after the fact. */
export class NodeTracing {
  readonly #state: NodeState;
  readonly #log: EventLog;
  readonly #clock: Clock;
  readonly #telemetry: NodeTelemetry;
  readonly #hops: Hops;
  readonly #store: HopStore;
  #place: Place | undefined;
  #over: { readonly hop: HopRecord; readonly entries: readonly Envelope[] }[] = [];
  #cancel: Cancel | undefined;
  #closed = false;
  #seen: { readonly epoch: number; readonly at: number } | undefined;

  constructor(state: NodeState, log: EventLog, clock: Clock, telemetry: NodeTelemetry, hops: Hops) {
    this.#state = state;
    this.#log = log;
    this.#clock = clock;
    this.#telemetry = telemetry;
    this.#hops = hops;
    this.#store = new HopStore(log, clock);
  }

  /** Is there anybody who takes spans? */
  get isOn(): boolean {
    return this.#telemetry.sink !== undefined;
  }

  /** Where this node stands in the active view. */
  get place(): Place | undefined {
    return this.#place;
  }

  /** A view was seen, became active, or its tail has taken authority. */
  changed(event: ChainEvent, now: number): void {
    const { active, self } = this.#state;
    if (event.type === 'ViewSeen') {
      this.#seen = { epoch: event.view.epoch, at: now };
    } else if (event.type === 'Activated') {
      this.#place = placeIn(event.view, self);
      this.#hops.stand(isHead(event.view, self));
      const began = this.#seen?.epoch === event.view.epoch ? this.#seen.at : now;
      this.#activated(event.view, this.#place, 'chain.activate', began, now);
    } else if (event.type === 'AuthorityTaken' && active !== undefined) {
      const place = this.#place ?? placeIn(active, self);
      this.#activated(active, place, 'chain.authority', this.#seen?.at ?? now, now);
    }
  }

  #activated(view: View, place: Place, name: string, from: number, to: number): void {
    const own = nodeInstance(this.#state.self.id);
    const [fromUs, toUs] = [this.#micros(from), this.#micros(to)];
    this.#telemetry.sink?.record(activationSpan(own, view, name, fromUs, toUs, place));
  }

  /** A block is over. */
  passed({ slot, block, cut }: Passage): void {
    this.#telemetry.meter.passed(this.#hops.durations(slot));
    if (block === undefined || this.#closed) return;
    const { entries } = block;
    this.#over.push({ hop: this.#record(slot, cut), entries });
    this.#cancel ??= this.#clock.after(gatherMs, () => this.#gather());
  }

  /** A request was answered here. */
  answered(answered: Answered, result: OperationResult['result']): void {
    const { kind, trace, beganAt } = answered;
    const now = this.#clock.monotonic();
    const reason = result?.$case === 'error' ? result.value.reason : '';
    this.#telemetry.meter.requests.observe(kind, reasonStatus(reason), reason, now - beganAt);
    const { sink } = this.#telemetry;
    if (sink === undefined || !isSampled(trace)) return;
    if (kind === 'get') this.#read(sink, answered, result, now, reason);
    else if (reason !== '')
      sink.record(this.#served(answered, 'chain.refuse', now, { error: reason }));
  }

  /** Spans of this node in the trace, of what it remembers; also of writes that were not sampled. */
  async find(wanted: {
    readonly traceId?: string | undefined;
    readonly id?: { readonly generation: number; readonly index: number } | undefined;
    readonly request?: RequestId | undefined;
  }): Promise<readonly Span[]> {
    const spans: Span[] = [];
    const seen = new Set<number>();
    const take = async (slot: number, isWanted: (entry: Envelope) => boolean): Promise<void> => {
      if (seen.has(slot)) return;
      seen.add(slot);
      const hop = this.#record(slot, false);
      const block = await this.#block(hop);
      const entries = block?.filter(isWanted) ?? [];
      spans.push(...entries.flatMap((entry) => writeSpans(hop, entry, this.#options)));
    };
    const id = wanted.id ?? this.#named(wanted);
    if (id !== undefined) {
      const slot = this.#hops.find(id);
      if (slot !== undefined) await take(slot, (entry) => entry.index === id.index);
    }
    const { traceId } = wanted;
    if (traceId !== undefined) {
      for (const slot of this.#hops.tracedSlots()) {
        await take(slot, (entry) => traceIdOf(entry.trace) === traceId);
      }
    }
    return spans;
  }

  close(): void {
    this.#gather();
    this.#store.flush();
    this.#closed = true;
  }

  /** The entry that an id of ours or a known request names. */
  #named({
    traceId,
    request,
  }: {
    readonly traceId?: string | undefined;
    readonly request?: RequestId | undefined;
  }): { readonly generation: number; readonly index: number } | undefined {
    const { ledger, chainId } = this.#state;
    if (request !== undefined) {
      const session = ledger.sessions.get(toMapKey(request.clientId));
      const outcome = session?.outcomes.get(request.seq);
      if (outcome !== undefined) return { generation: outcome.generation, index: outcome.revision };
      return session?.staged.get(request.seq);
    }
    if (traceId === undefined) return undefined;
    const name = writeNamed(this.#options.clusterId, traceId);
    return name.chainId === chainId ? name.id : undefined;
  }

  /** The entries of a block that passed; undefined where it isn't in the log any more. */
  async #block(hop: HopRecord): Promise<readonly Envelope[] | undefined> {
    const { end } = hop;
    for (const staged of this.#state.ledger.staged) {
      if (staged.end.index === end?.index) return staged.entries.map(({ envelope }) => envelope);
    }
    const before = await this.#log.blockEndingAt(end?.index ?? 0);
    return before?.end.generation === end?.generation ? before?.entries : undefined;
  }

  #gather(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    const over = this.#over.splice(0);
    const { sink } = this.#telemetry;
    if (over.length === 0 || sink === undefined || this.#closed) return;
    for (const { hop, entries } of over) {
      this.#store.keep(hop);
      try {
        for (const span of blockSpans(hop, entries, this.#options)) sink.record(span);
      } catch {
        // A trace is lost; the node goes on.
      }
    }
  }

  #read(
    sink: SpanSink,
    answered: Answered,
    result: OperationResult['result'],
    now: number,
    reason: string,
  ): void {
    const { trace, handedAt, tailAt } = answered;
    const found = result?.$case === 'get' ? result.value : undefined;
    const served = this.#served(answered, 'chain.read', now, {
      attributes: {
        'db.system.name': 'keychaindb',
        'keychaindb.asked_tail': tailAt > 0,
        'keychaindb.revision': found?.revision ?? 0,
        'keychaindb.watermark': this.#state.ledger.watermark.index,
      },
      error: reason === 'KEY_NOT_FOUND' ? '' : reason,
    });
    sink.record(served);
    if (tailAt === 0) return;
    const { traceId, instance } = served;
    sink.record(
      spanOf(served, {
        traceId,
        spanId: spanIdOf(traceId, parentIdOf(trace), instance, 'tail'),
        parentId: served.spanId,
        name: 'chain.tail_query',
        kind: SpanKind.CLIENT,
        startUs: this.#micros(handedAt),
        endUs: this.#micros(tailAt),
        attributes: { 'keychaindb.tail': servingOf(this.#state.active ?? noView).at(-1)?.id ?? '' },
      }),
    );
  }

  /** What this node did with a request that made no entry here. */
  #served(
    { trace, beganAt, kind }: Answered,
    name: string,
    now: number,
    { attributes = {}, error }: { readonly attributes?: Attributes; readonly error: string },
  ): Span {
    const traceId = traceIdOf(trace);
    const own = nodeInstance(this.#state.self.id);
    const parentId = parentIdOf(trace);
    return spanOf(own, {
      traceId,
      spanId: spanIdOf(traceId, parentId, own.instance, name),
      parentId,
      name,
      kind: SpanKind.SERVER,
      startUs: this.#micros(beganAt),
      endUs: this.#micros(now),
      attributes: {
        'db.operation.name': kind,
        'keychaindb.chain.id': this.#state.chainId,
        ...attributes,
        ...(this.#place === undefined ? {} : placeAttributes(this.#place)),
      },
      error,
    });
  }

  #record(slot: number, cut: boolean): HopRecord {
    return this.#hops.record(slot, this.#state.self.id, this.#telemetry.originMs?.() ?? 0, cut);
  }

  #micros(monotonicMs: number): number {
    return (monotonicMs + (this.#telemetry.originMs?.() ?? 0)) * 1_000;
  }

  get #options(): WriteSpanOptions {
    return {
      chainId: this.#state.chainId,
      clusterId: this.#state.seen?.clusterId ?? noBytes,
      contentBytes: this.#telemetry.contentBytes ?? 0,
    };
  }
}

const noView = { members: [] };

/** Where a process stands in a view. */
export function placeIn(view: View, self: Name): Place {
  const serving = servingOf(view);
  const index = serving.findIndex((member) => sameName(member, self));
  const last = serving.length - 1;
  const predecessor = predecessorOf(view, self)?.id ?? '';
  if (index < 0) {
    return { epoch: view.epoch, position: serving.length + 1, role: 'joining', predecessor };
  }
  const role = last === 0 ? 'only' : index === 0 ? 'head' : index === last ? 'tail' : 'middle';
  return { epoch: view.epoch, position: index + 1, role, predecessor };
}

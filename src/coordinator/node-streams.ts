import type { Clock } from '../base/clock.js';
import type { Timing } from '../base/timing.js';
import type { CoordinatorPush, NodeHeartbeat, View } from '../gen/keychaindb/v1/coordinator.js';
import type { Channel } from '../wire/channel.js';
import type { Prober } from '../wire/probe.js';
import type { Probes } from './probes.js';

/** The streams on which nodes beat, and the probes where one has ended. */
export class NodeStreams {
  readonly #probes: Probes;
  readonly #prober: Prober;
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #timing: Timing;
  /** The last beat on every stream that stands. */
  readonly #beating = new Map<Channel<CoordinatorPush>, NodeHeartbeat>();

  constructor(probes: Probes, prober: Prober, clock: Pick<Clock, 'monotonic'>, timing: Timing) {
    this.#probes = probes;
    this.#prober = prober;
    this.#clock = clock;
    this.#timing = timing;
  }

  beat(channel: Channel<CoordinatorPush>, beat: NodeHeartbeat): void {
    if (!channel.isClosed) this.#beating.set(channel, beat);
  }

  /** This coordinator ends it, which says nothing of the node. */
  forget(channel: Channel<CoordinatorPush>): void {
    this.#beating.delete(channel);
  }

  /** It has ended. Of a process that beats on another one, or of an older one, that says nothing. */
  over(channel: Channel<CoordinatorPush>): void {
    const last = this.#beating.get(channel);
    this.#beating.delete(channel);
    if (last === undefined) return;
    const isLast = [...this.#beating.values()].every(
      ({ id, incarnation }) => id !== last.id || incarnation < last.incarnation,
    );
    if (isLast) this.#probes.ended(last);
  }

  /** Asks the kernels of all that are due; `answered` follows each answer. */
  probe(view: View, answered: () => void): void {
    const now = this.#clock.monotonic();
    const { heartbeatMs } = this.#timing;
    for (const probed of this.#probes.due(view, this.#timing, now)) {
      probed.probedAt = now;
      void this.#prober.probe(probed.address, heartbeatMs).then((answer) => {
        this.#probes.answered(probed, now, answer, this.#clock.monotonic());
        answered();
      });
    }
  }
}

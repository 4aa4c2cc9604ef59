import type {
  OperationResult,
  SessionRequest,
  SessionResponse,
} from '../../src/gen/keychaindb/v1/kv.js';
import type { Acceptor, Channel } from '../../src/wire/channel.js';
import { check } from './check.js';
import type { Schedule } from './schedule.js';

/** A read that a node was asked for. */
interface Asked {
  readonly key: string;
  /** Highest revision of the key that any client knew of when the request came to the node. */
  readonly floor: number;
  readonly at: number;
}

/**
 * What each node answers, whether or not anybody still waits for it: a strong answer shows at least what was known
 * when it was asked for. So a node that was left behind says nothing after the others went on.
 */
export class Answers {
  /** By key: the highest revision that was acknowledged or read. */
  readonly floors = new Map<string, number>();
  readonly #schedule: Schedule;
  isTimely = true;
  failure: unknown;

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  floorOf(key: string): number {
    return this.floors.get(key) ?? 0;
  }

  /** Some client knows this revision of the key. */
  learn(key: string, revision: number): void {
    this.floors.set(key, Math.max(this.floorOf(key), revision));
  }

  /** The sessions of a node, listened to. */
  watch(
    id: string,
    accept: Acceptor<SessionResponse, SessionRequest>,
  ): Acceptor<SessionResponse, SessionRequest> {
    return (channel) => {
      const asked = new Map<number, Asked>();
      const handler = accept(this.#listening(id, channel, asked));
      return {
        message: (request) => {
          for (const { id: token, operation } of request.operations) {
            if (operation?.$case !== 'get') continue;
            const key = Buffer.from(operation.value.key).toString();
            asked.set(token, { key, floor: this.floorOf(key), at: this.#schedule.now });
          }
          handler.message(request);
        },
        closed: (reason) => handler.closed(reason),
      };
    };
  }

  #listening(
    id: string,
    channel: Channel<SessionResponse>,
    asked: Map<number, Asked>,
  ): Channel<SessionResponse> {
    return {
      send: (response) => {
        for (const result of response.results) this.#answered(id, result, asked);
        return channel.send(response);
      },
      drained: () => channel.drained(),
      close: (reason) => channel.close(reason),
      get queued() {
        return channel.queued;
      },
      get isClosed() {
        return channel.isClosed;
      },
    };
  }

  #answered(id: string, { id: token, result }: OperationResult, asked: Map<number, Asked>): void {
    const read = asked.get(token);
    asked.delete(token);
    if (read === undefined || result?.$case !== 'get' || !this.isTimely) return;
    const { revision } = result.value;
    try {
      check(
        revision >= read.floor,
        'answers of nodes',
        'no node answers a strong read from the past',
        {
          id,
          revision,
          ...read,
          now: this.#schedule.now,
        },
      );
    } catch (error) {
      this.failure ??= error;
    }
  }
}

import { KeychainError } from '../base/errors.js';
import type { RequestId } from '../gen/keychaindb/v1/log.js';
import {
  clientIdOf,
  confirm,
  isFull,
  nextId,
  type RequestIds,
  requestIds,
  take,
} from '../retry/request-ids.js';
import { laneSpanMax, lanesMax, renewalsMax, writesMax } from './limits.js';

/** A write's name, and the lane that it came from. */
export interface WriteId {
  readonly lane: RequestIds;
  readonly request: RequestId;
  /** How often the write was given another. */
  readonly renewals: number;
}

/** The names of a client's writes, in lanes of which each has a client id. */
export class WriteIds {
  readonly #seed: Uint8Array;
  readonly #lanes: RequestIds[] = [];
  /** Client ids made so far. */
  #idsMade = 0;
  /** Names that are out. */
  #writes = 0;

  /** @param seed 16 random bytes */
  constructor(seed: Uint8Array) {
    this.#seed = seed;
  }

  /** A name for one more write. Throws OVERLOADED. */
  take(): WriteId {
    const id = this.#writes < writesMax ? this.#next(0) : undefined;
    if (id === undefined) {
      const metadata = { limit: String(writesMax), actual: String(this.#writes), flag: '' };
      const message = `${this.#writes} writes wait for their answer and the limit is ${writesMax}`;
      throw new KeychainError('OVERLOADED', message, metadata);
    }
    this.#writes += 1;
    return id;
  }

  /** Another name for a write whose session is gone; undefined where there is none, or it had its share of them. */
  renew(expired: WriteId): WriteId | undefined {
    if (expired.renewals >= renewalsMax) return undefined;
    const index = this.#lanes.indexOf(expired.lane);
    if (index >= 0) this.#lanes[index] = this.#newLane();
    const id = this.#next(expired.renewals + 1);
    if (id !== undefined) confirm(expired.lane, expired.request.seq);
    return id;
  }

  /** The write has its answer, or nobody asks for it again. */
  done({ lane, request }: WriteId): void {
    this.#writes -= 1;
    confirm(lane, request.seq);
  }

  /** Undefined where every lane waits for its lowest name. */
  #next(renewals: number): WriteId | undefined {
    let lane = this.#lanes.find((each) => !isFull(each));
    if (lane === undefined && this.#lanes.length < lanesMax) {
      lane = this.#newLane();
      this.#lanes.push(lane);
    }
    if (lane === undefined) return undefined;
    const request = nextId(lane);
    take(lane);
    return { lane, request, renewals };
  }

  #newLane(): RequestIds {
    this.#idsMade += 1;
    return requestIds(clientIdOf(this.#seed, this.#idsMade), laneSpanMax);
  }
}

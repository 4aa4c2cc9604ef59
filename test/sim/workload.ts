import { assert } from '../../src/base/assert.js';
import { noBytes, toHex } from '../../src/base/bytes.js';
import type { Operation, OperationResult } from '../../src/gen/keychaindb/v1/kv.js';
import type { ProxyHandle } from '../../src/proxy/runtime.js';
import type { Place, SimCluster } from './cluster.js';
import type { SeededRandom } from './schedule.js';

interface Write {
  readonly isDelete: boolean;
  readonly value: string;
  /** Simulated milliseconds; undefined while nobody knows. */
  end: number | undefined;
}

interface KeyHistory {
  /** Highest revision of this key that was acknowledged or read. */
  floor: number;
  /** What was acknowledged or read at a revision: the value, or undefined for a delete. */
  readonly known: Map<number, string | undefined>;
  readonly writes: Map<string, Write>;
}

/** Milliseconds that one attempt of an operation may take. */
const timeoutMs = 3_000;
const attemptsMax = 4;

/**
 * Clients that put, get and delete through the proxies, and look from outside at every answer: no stale
 * strong read, no read that goes back, no answer that the committed log doesn't hold.
 */
export class Workload {
  readonly #cluster: SimCluster;
  readonly #random: SeededRandom;
  readonly #keys: readonly string[];
  readonly #history = new Map<string, KeyHistory>();
  #isStopped = false;
  #running = 0;
  #values = 0;
  operations = 0;
  acknowledged = 0;
  failure: unknown;

  constructor(cluster: SimCluster, random: SeededRandom, keys: number) {
    this.#cluster = cluster;
    this.#random = random;
    this.#keys = Array.from({ length: keys }, (_, i) => `key-${i}`);
    for (const key of this.#keys) {
      this.#history.set(key, { floor: 0, known: new Map(), writes: new Map() });
    }
  }

  start(clients: number, pauseMs: number): void {
    for (let i = 0; i < clients; i += 1) void this.#client(pauseMs);
  }

  stop(): void {
    this.#isStopped = true;
  }

  get isIdle(): boolean {
    return this.#running === 0;
  }

  /** A client never dies: its time is the schedule's. */
  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.#cluster.schedule.after(milliseconds, resolve);
    });
  }

  async #client(pauseMs: number): Promise<void> {
    const random = this.#random.fork();
    const clientId = random.bytes(16);
    let seq = 0;
    this.#running += 1;
    try {
      while (!this.#isStopped) {
        await this.#pause(random.between(0, 2 * pauseMs));
        const key = random.pick(this.#keys);
        if (random.chance(0.5)) {
          await this.#read(random, key, '');
        } else {
          seq += 1;
          await this.#write(random, key, { clientId, seq, answeredBelow: seq });
        }
      }
    } catch (error) {
      this.failure ??= error;
    }
    this.#running -= 1;
  }

  #proxy(random: SeededRandom): { readonly place: Place; readonly proxy: ProxyHandle } | undefined {
    const up = this.#cluster
      .of('proxy')
      .filter((place) => !this.#cluster.isDown(place) && place.proxy !== undefined);
    if (up.length === 0) return undefined;
    const place = random.pick(up);
    return place.proxy === undefined ? undefined : { place, proxy: place.proxy };
  }

  /** One attempt; undefined: nobody answered, it may have happened. */
  async #execute(
    random: SeededRandom,
    operation: NonNullable<Operation['operation']>,
  ): Promise<OperationResult['result'] | 'unsent'> {
    const chosen = this.#proxy(random);
    if (chosen === undefined) {
      await this.#pause(50);
      return 'unsent';
    }
    const { place, proxy } = chosen;
    const { process } = place;
    const answered = proxy
      .execute({ id: 0, timeoutMs, trace: noBytes, operation })
      .then(({ result }) => (process?.isDead === true ? undefined : result));
    const late = this.#pause(timeoutMs + 500).then(() => undefined);
    return Promise.race([answered, late]);
  }

  async #write(
    random: SeededRandom,
    key: string,
    request: {
      readonly clientId: Uint8Array;
      readonly seq: number;
      readonly answeredBelow: number;
    },
  ): Promise<void> {
    const { schedule, ghost } = this.#cluster;
    const history = this.#of(key);
    const name = `${toHex(request.clientId)}:${request.seq}`;
    const isDelete = random.chance(0.2);
    this.#values += 1;
    const write: Write = { isDelete, value: `${key}=${this.#values}`, end: undefined };
    history.writes.set(name, write);
    const bytes = Buffer.from(key);
    const operation: NonNullable<Operation['operation']> = isDelete
      ? { $case: 'delete', value: { key: bytes, request } }
      : { $case: 'put', value: { key: bytes, value: Buffer.from(write.value), request } };
    for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
      const result = await this.#execute(random, operation);
      if (result === 'unsent') continue;
      this.operations += 1;
      if (result?.$case === 'put' || result?.$case === 'delete') {
        const { revision } = result.value;
        assert(ghost.requests.get(name) === revision, 'an acknowledged write is committed, once', {
          key,
          name,
          revision,
          ghost: ghost.requests.get(name),
        });
        write.end = schedule.now;
        this.acknowledged += 1;
        this.#learn(key, revision, isDelete ? undefined : write.value);
        return;
      }
      if (result?.$case === 'error' && result.value.reason === 'SESSION_EXPIRED') return;
      // Repeated with the same id, whatever became of it.
      if (random.chance(0.3)) return;
      await this.#pause(random.between(0, 200));
    }
  }

  /** Asks for a key, at one node where it is named; true: it was answered. */
  async #read(random: SeededRandom, key: string, node: string): Promise<boolean> {
    const { schedule, ghost } = this.#cluster;
    const history = this.#of(key);
    const { floor } = history;
    const began = schedule.now;
    const result = await this.#execute(random, {
      $case: 'get',
      value: { key: Buffer.from(key), node },
    });
    if (result === 'unsent' || result === undefined) return false;
    this.operations += 1;
    if (result.$case === 'error') {
      if (result.value.reason !== 'KEY_NOT_FOUND') return false;
      const isDeleted = floor === 0 || history.known.get(floor) === undefined;
      const mayBeDeleted = [...history.writes.values()].some(
        (write) => write.isDelete && (write.end === undefined || write.end >= began),
      );
      assert(isDeleted || mayBeDeleted, 'a strong read is not stale: an absent key is absent', {
        key,
        floor,
        node,
      });
      return true;
    }
    if (result.$case !== 'get') throw new Error(`a read was answered with ${result.$case}`);
    const { revision, value, served } = result.value;
    const facts = { key, revision, floor, served, now: schedule.now };
    assert(revision >= floor, 'a strong read is not stale, and no read goes back', facts);
    assert(revision <= ghost.committed.length, 'only committed data is read', facts);
    this.#learn(key, revision, Buffer.from(value).toString());
    return true;
  }

  #learn(key: string, revision: number, value: string | undefined): void {
    const history = this.#of(key);
    if (history.known.has(revision)) {
      assert(history.known.get(revision) === value, 'one revision has one value', {
        key,
        revision,
        value,
        known: history.known.get(revision),
      });
    }
    history.known.set(revision, value);
    history.floor = Math.max(history.floor, revision);
  }

  #of(key: string): KeyHistory {
    const history = this.#history.get(key);
    if (history === undefined) throw new Error(`no such key: ${key}`);
    return history;
  }

  /** At the end: every key at every node, until answered. */
  async readAll(nodes: readonly string[]): Promise<void> {
    const random = this.#random.fork();
    for (const node of nodes) {
      for (const key of this.#keys) {
        let answered = false;
        for (let attempt = 0; attempt < 10 && !answered; attempt += 1) {
          answered = await this.#read(random, key, node);
          if (!answered) await this.#pause(200);
        }
        assert(answered, 'a healthy node answers', { node, key, now: this.#cluster.schedule.now });
      }
    }
  }
}

import { toHex } from '../../src/base/bytes.js';
import { KeychainError } from '../../src/base/errors.js';
import type { HistoryOperation } from '../history/operation.js';
import { check } from './check.js';
import { SimClient } from './client.js';
import type { SimCluster } from './cluster.js';
import type { SeededRandom } from './schedule.js';

/** A write whose outcome its client doesn't know; `requests`: the ids under which it was asked. */
interface Unknown {
  readonly operation: HistoryOperation;
  readonly requests: readonly string[];
}

/**
 * Clients that put, get and delete through the proxies and write down what they were told. What they say of a
 * key is checked as a whole at the end (`history`), and at once for what one answer alone shows.
 */
export class Workload {
  readonly #cluster: SimCluster;
  readonly #random: SeededRandom;
  readonly #keys: readonly string[];
  /** What clients were told, in order of the answers. */
  readonly answered: HistoryOperation[] = [];
  readonly #unknown: Unknown[] = [];
  /** Requests of which a client was told that they had no effect. */
  readonly #refused = new Set<string>();
  #isStopped = false;
  #running = 0;
  #values = 0;
  #lonely = 0;
  operations = 0;
  failure: unknown;

  constructor(cluster: SimCluster, random: SeededRandom, keys: number) {
    this.#cluster = cluster;
    this.#random = random;
    this.#keys = Array.from({ length: keys }, (_, i) => `key-${i}`);
  }

  start(clients: number, pauseMs: number): void {
    for (let i = 0; i < clients; i += 1) void this.#run(`client-${i + 1}`, pauseMs);
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

  async #run(name: string, pauseMs: number): Promise<void> {
    const random = this.#random.fork();
    const client = new SimClient(name, this.#cluster, random);
    // Whoever doesn't know the outcome of an operation goes on as another process of the history.
    let life = 1;
    this.#running += 1;
    try {
      while (!this.#isStopped) {
        await this.#pause(random.between(0, 2 * pauseMs));
        const key = random.pick(this.#keys);
        const process = `${name}.${life}`;
        const isKnown = random.chance(0.5)
          ? await this.#read(client, process, key, '')
          : await this.#write(client, process, key);
        if (!isKnown) life += 1;
      }
    } catch (error) {
      this.failure ??= error;
    }
    this.#running -= 1;
  }

  async #write(client: SimClient, process: string, key: string): Promise<boolean> {
    const { schedule, ghost, coverage } = this.#cluster;
    const isDelete = client.random.chance(0.2);
    this.#values += 1;
    const value = `${key}=${this.#values}`;
    const start = schedule.now;
    const asked = isDelete
      ? ({ process, operation: 'delete', key, start } as const)
      : ({ process, operation: 'put', key, input: value, start } as const);
    const requests: string[] = [];
    const bytes = Buffer.from(key);
    try {
      const answer = await client.write(
        (request) =>
          isDelete
            ? { $case: 'delete', value: { key: bytes, request } }
            : { $case: 'put', value: { key: bytes, value: Buffer.from(value), request } },
        ({ clientId, seq }) => requests.push(`${toHex(clientId)}:${seq}`),
      );
      this.operations += 1;
      check(
        answer.$case === (isDelete ? 'delete' : 'put'),
        'answers',
        'a write is answered as one',
      );
      const { revision } = answer.value as { readonly revision: number };
      const name = requests.at(-1) ?? '';
      check(
        ghost.requests.get(name) === revision,
        'durability',
        'an acknowledged write is committed, once',
        {
          key,
          name,
          revision,
          committed: ghost.requests.get(name),
        },
      );
      for (const renewed of requests.slice(0, -1)) this.#refused.add(renewed);
      if (requests.length > 1) coverage.count('session expired');
      this.#cluster.answers.learn(key, revision);
      this.answered.push({ ...asked, end: schedule.now, output: { revision } });
      return true;
    } catch (error) {
      if (!(error instanceof KeychainError)) throw error;
      // Corrupt and internal: the answerer doesn't know either.
      if (['OUTCOME_UNKNOWN', 'CORRUPT', 'INTERNAL'].includes(error.reason)) {
        this.#unknown.push({ operation: asked, requests });
        return false;
      }
      for (const request of requests) this.#refused.add(request);
      return true;
    }
  }

  /** Asks for a key, at one node where it is named; true: it was answered. */
  async #read(client: SimClient, process: string, key: string, node: string): Promise<boolean> {
    const { schedule, ghost, coverage } = this.#cluster;
    const floor = this.#cluster.answers.floorOf(key);
    const start = schedule.now;
    const asked = { process, operation: 'get', key, start } as const;
    try {
      const answer = await client.get(Buffer.from(key), node);
      this.operations += 1;
      check(answer.$case === 'get', 'answers', 'a read is answered as one');
      const { revision, value, served } = answer.value;
      const facts = { key, revision, floor, served, now: schedule.now };
      if (revision < floor && !ghost.isTimely) coverage.count('beyond the bound: stale read');
      check(
        revision >= floor || !ghost.isTimely,
        'freshness',
        'a strong read is not stale, and none goes back',
        facts,
      );
      check(revision <= ghost.committed.length, 'durability', 'only committed data is read', facts);
      if (served?.askedTail === true) coverage.count('dirty read');
      this.#cluster.answers.learn(key, revision);
      const output = { value: Buffer.from(value).toString(), revision };
      this.answered.push({ ...asked, end: schedule.now, output });
      return true;
    } catch (error) {
      if (!(error instanceof KeychainError)) throw error;
      if (error.reason !== 'KEY_NOT_FOUND') return false;
      this.operations += 1;
      this.answered.push({ ...asked, end: schedule.now, output: { value: null } });
      return true;
    }
  }

  /** One write of a key that nobody else writes; true: its outcome is known. */
  writeAlone(): Promise<boolean> {
    this.#lonely += 1;
    const name = `lonely-${this.#lonely}`;
    return this.#write(new SimClient(name, this.#cluster, this.#random.fork()), name, 'lonely');
  }

  /** What clients saw, with what the log says of the writes whose outcome they don't know. */
  history(): readonly HistoryOperation[] {
    const { ghost } = this.#cluster;
    const history = [...this.answered];
    for (const { operation, requests } of this.#unknown) {
      const committed = requests.map((name) => ghost.requests.get(name));
      const [revision, more] = committed.filter((index) => index !== undefined);
      check(more === undefined, 'exactly once', 'a write is applied at most once', { requests });
      // Of one that isn't in the log nobody may have seen anything: it never was.
      if (revision !== undefined) history.push({ ...operation, output: { revision } });
    }
    for (const name of this.#refused) {
      const revision = ghost.requests.get(name);
      check(revision === undefined, 'exactly once', 'what was refused had no effect', {
        name,
        revision,
      });
    }
    return history;
  }

  /** At the end: every key at every node, until answered. */
  async readAll(nodes: readonly string[]): Promise<void> {
    const client = new SimClient('reader', this.#cluster, this.#random.fork());
    let life = 0;
    for (const node of nodes) {
      for (const key of this.#keys) {
        let answered = false;
        for (let attempt = 0; attempt < 10 && !answered; attempt += 1) {
          life += 1;
          answered = await this.#read(client, `reader.${life}`, key, node);
          if (!answered) await this.#pause(200);
        }
        const { now } = this.#cluster.schedule;
        const isRotten = this.#cluster.of('node').find(({ id }) => id === node)?.rotten === true;
        check(answered || isRotten, 'liveness', 'a healthy node answers', { node, key, now });
      }
    }
  }
}

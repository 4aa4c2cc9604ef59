/*
 * Every process of a cluster of 3 coordinators, 5 nodes and 2 proxies is told to end (SIGTERM) and started again, one
 * after the other, under a steady load over HTTP. A client knows both proxies and moves on to the other one only where a
 * connection is refused, or closed before the request was sent. Prints what each restart took and every request that
 * failed; exit code 1 where one did. node dist/tools/rolling-restart.js [REQUESTS A SECOND [MAIN]]; MAIN: the main.js of another
 * version, with which every process begins: a rolling upgrade.
 */
import { request } from 'node:http';
import { systemClock } from '../src/base/clock.js';
import { statusReport } from '../src/proxy/status.js';
import { clusterVerbs } from '../src/retry/cluster-verbs.js';
import { Lab, type LabProcess } from './lab/cluster.js';

const perSecond = Number(process.argv[2] ?? 100);
const from = process.argv[3];
const keys = 50;
const timeoutMs = 10_000;

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One request on a connection of its own; undefined where nothing of it was sent. */
function once(
  address: string,
  method: string,
  path: string,
  body?: string,
): Promise<Answer | undefined> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host,
        port,
        method,
        path,
        agent: false,
        timeout: timeoutMs,
        headers: { 'content-type': 'application/octet-stream' },
      },
      (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
        response.on('error', reject);
      },
    );
    sent.on('timeout', () => sent.destroy(new Error('no answer in time')));
    sent.on('error', (error: NodeJS.ErrnoException) => {
      const isUnsent = error.code === 'ECONNREFUSED' || (sent.socket?.bytesWritten ?? 0) === 0;
      if (isUnsent) resolve(undefined);
      else reject(error);
    });
    sent.end(body);
  });
}

class Client {
  readonly failures: string[] = [];
  answered = 0;
  moved = 0;
  longestMs = 0;
  readonly #proxies: readonly string[];
  /** What each key may hold: the newest value that was acknowledged, and those of writes under way. */
  readonly #acknowledged = new Map<number, number>();
  #next = 0;

  constructor(proxies: readonly string[]) {
    this.#proxies = proxies;
  }

  async turn(): Promise<void> {
    const turn = this.#next;
    this.#next += 1;
    const key = turn % keys;
    const from = performance.now();
    const least = this.#acknowledged.get(key) ?? -1;
    const isWrite = turn % 3 === 0;
    try {
      const answer = isWrite
        ? await this.#ask('PUT', `/v1/keys/key-${key}`, String(turn))
        : await this.#ask('GET', `/v1/keys/key-${key}`);
      if (isWrite && answer.status === 200) {
        this.#acknowledged.set(key, Math.max(this.#acknowledged.get(key) ?? -1, turn));
      } else if (answer.status === 200) {
        const { value } = JSON.parse(answer.body) as { value: string };
        const held = Number(Buffer.from(value, 'base64').toString());
        if (held < least) throw new Error(`stale: ${held}, ${least} was acknowledged`);
      } else if (!(answer.status === 404 && least < 0)) {
        throw new Error(`${answer.status} ${answer.body}`);
      }
      this.answered += 1;
    } catch (error) {
      this.failures.push(`${isWrite ? 'PUT' : 'GET'} key-${key}: ${String(error)}`);
    }
    this.longestMs = Math.max(this.longestMs, performance.now() - from);
  }

  async #ask(method: string, path: string, body?: string): Promise<Answer> {
    const first = this.#next % this.#proxies.length;
    for (let i = 0; i < this.#proxies.length; i += 1) {
      const address = this.#proxies[(first + i) % this.#proxies.length] ?? '';
      const answer = await once(address, method, path, body);
      if (answer !== undefined) return answer;
      this.moved += 1;
    }
    throw new Error('no proxy takes a connection');
  }
}

/** Values of one key are written in the order of turns, so that the newest is the largest: one write at a time a key. */
async function load(client: Client, until: () => boolean): Promise<void> {
  const under = new Set<Promise<void>>();
  const begun = performance.now();
  for (let count = 0; !until(); count += 1) {
    const due = begun + (count * 1_000) / perSecond;
    const early = due - performance.now();
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    const turn = client.turn();
    under.add(turn);
    void turn.finally(() => under.delete(turn));
  }
  await Promise.all(under);
}

async function ended(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const size = { coordinators: 3, nodes: 5, proxies: 2 };
const lab = await Lab.start(from === undefined ? size : { ...size, from });
let isOver = false;
try {
  const proxies = lab.of('proxy');
  const coordinators = lab.of('coordinator').map(({ grpc }) => grpc);
  const verbs = clusterVerbs({ addresses: coordinators, clock: systemClock });
  const healthy = async (): Promise<void> => {
    for (;;) {
      try {
        const both = await Promise.all([verbs.chainStatus(2_000), verbs.status(2_000)]);
        const { healthy: isWell, nodes } = statusReport(...both);
        // One that was drained is no problem, and not back yet.
        if (isWell && nodes.every(({ state }) => state === 'SERVING')) return;
      } catch {
        // It is asked again.
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const client = new Client(proxies.map(({ http }) => http));
  const running = load(client, () => isOver);
  const restart = async (each: LabProcess): Promise<void> => {
    const before = client.failures.length;
    const from = performance.now();
    const { pid } = each;
    process.kill(pid, 'SIGTERM');
    await ended(pid);
    const downMs = performance.now() - from;
    lab.start(each.id);
    if (each.role === 'proxy') {
      while ((await once(each.http, 'GET', '/readyz').catch(() => undefined))?.status !== 200) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    await healthy();
    const failed = client.failures.length - before;
    process.stdout.write(
      `${each.id.padEnd(14)} ended in ${Math.round(downMs)} ms, back after ${((performance.now() - from) / 1_000).toFixed(1)} s, ${failed} failed\n`,
    );
  };
  for (const each of [...lab.of('coordinator'), ...lab.of('node'), ...proxies]) await restart(each);
  isOver = true;
  await running;
  verbs.close();
  for (const failure of client.failures.slice(0, 20)) process.stdout.write(`  ${failure}\n`);
  process.stdout.write(
    `${client.answered} requests answered, ${client.failures.length} failed, ${client.moved} moved on to the other proxy, longest ${Math.round(client.longestMs)} ms\n`,
  );
  process.exitCode = client.failures.length === 0 ? 0 : 1;
} finally {
  isOver = true;
  await lab.stop();
}

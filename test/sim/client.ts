import { toHex } from '../../src/base/bytes.js';
import type { Clock } from '../../src/base/clock.js';
import { isReason, KeychainError } from '../../src/base/errors.js';
import { type AttemptResult, runOperation } from '../../src/client/attempts.js';
import { isFailed } from '../../src/client/kv-plan.js';
import type { Operation, OperationResult } from '../../src/gen/keychaindb/v1/kv.js';
import type { RequestId } from '../../src/gen/keychaindb/v1/log.js';
import type { ProxyHandle } from '../../src/proxy/runtime.js';
import { confirm, isFull, nextId, requestIds, take } from '../../src/retry/request-ids.js';
import type { Place, SimCluster } from './cluster.js';
import { wallStart } from './process.js';
import type { SeededRandom } from './schedule.js';

type Asked = NonNullable<Operation['operation']>;
export type Answer = Exclude<NonNullable<OperationResult['result']>, { readonly $case: 'error' }>;

/** Milliseconds that an operation may take. */
const timeoutMs = 8_000;
/** Unanswered requests that a client id may have. */
const span = 8;

/** A client with the real retry room; what lies between it and a proxy delays, loses and doubles its calls. */
export class SimClient {
  readonly name: string;
  readonly random: SeededRandom;
  readonly #cluster: SimCluster;
  readonly #clock: Clock;
  #ids: ReturnType<typeof requestIds>;
  #preferred = 0;

  constructor(name: string, cluster: SimCluster, random: SeededRandom) {
    this.name = name;
    this.random = random;
    this.#cluster = cluster;
    const { schedule } = cluster;
    this.#clock = {
      monotonic: () => schedule.now,
      wall: () => wallStart + Math.floor(schedule.now),
      after: (milliseconds, then) => schedule.after(milliseconds, then),
      soon: (then) => schedule.after(0, then),
    };
    this.#ids = requestIds(random.bytes(16), span);
  }

  /** Strong, at one node where it is named; rejects with what the client is told. */
  get(key: Uint8Array, node: string): Promise<Answer> {
    const plan = this.#plan('read', () => ({ $case: 'get', value: { key, node } }));
    return runOperation<Answer>(this.#clock, { ...plan, renew: () => false });
  }

  /** `took`: every request id under which it was asked. */
  async write(
    asked: (request: RequestId) => Asked,
    took: (request: RequestId) => void,
  ): Promise<Answer> {
    let request = this.#take();
    took(request);
    try {
      return await runOperation<Answer>(this.#clock, {
        ...this.#plan('write', () => asked(request)),
        renew: () => {
          this.#ids = requestIds(this.random.bytes(16), span);
          request = this.#take();
          took(request);
          return true;
        },
      });
    } finally {
      if (request.clientId === this.#ids.clientId) confirm(this.#ids, request.seq);
    }
  }

  #take(): RequestId {
    if (isFull(this.#ids)) this.#ids = requestIds(this.random.bytes(16), span);
    const request = nextId(this.#ids);
    take(this.#ids);
    return request;
  }

  #plan(kind: 'read' | 'write', asked: () => Asked) {
    const proxies = this.#cluster.of('proxy');
    let index = this.#preferred % proxies.length;
    const leave = (): void => {
      if (this.#preferred % proxies.length === index) this.#preferred += 1;
    };
    return {
      kind,
      timeoutMs,
      isPatient: proxies.length === 1,
      attempt: (remainingMs: number, ended: (result: AttemptResult<Answer>) => void) => {
        index = this.#preferred % proxies.length;
        void this.#attempt(proxies[index], asked(), remainingMs).then((result) => {
          if (isFailed(result)) leave();
          ended(result);
        });
        return () => false;
      },
      leave,
      settled: () => undefined,
    };
  }

  /** A call, there and back. Sometimes its bytes come twice, the second time late. */
  #attempt(
    place: Place | undefined,
    asked: Asked,
    remainingMs: number,
  ): Promise<AttemptResult<Answer>> {
    const { schedule, network } = this.#cluster;
    const { random } = this;
    return new Promise((resolve) => {
      const later = (result: AttemptResult<Answer>): void => {
        schedule.after(network.delay(), () => resolve(result));
      };
      schedule.after(network.delay(), () => {
        const { process, proxy } = place ?? {};
        if (process === undefined || proxy === undefined || process.isDead) {
          later({ type: 'unsent' });
          return;
        }
        if (random.chance(0.02)) {
          later({ type: 'lost' });
          return;
        }
        const call = (): void => this.#call(place, proxy, asked, remainingMs, later);
        process.run(call);
        if (random.chance(0.03)) schedule.after(random.between(0, 300), () => process.run(call));
        schedule.after(remainingMs, () => resolve({ type: 'timedOut' }));
      });
    });
  }

  #call(
    place: Place | undefined,
    proxy: ProxyHandle,
    asked: Asked,
    remainingMs: number,
    later: (result: AttemptResult<Answer>) => void,
  ): void {
    const { process } = place ?? {};
    const isLost = this.random.chance(0.02);
    const isRepeated = this.#isCommitted(asked);
    void proxy
      .execute({
        id: 0,
        timeoutMs: remainingMs,
        trace: this.#cluster.spans.context(),
        operation: asked,
      })
      .then(({ result }) => {
        if (isRepeated && result?.$case !== 'error')
          this.#cluster.coverage.count('deduplicated retry');
        if (process?.isDead === true || isLost) later({ type: 'lost' });
        else later(resultOf(result));
      });
  }

  #isCommitted(asked: Asked): boolean {
    if (asked.$case === 'get' || asked.value.request === undefined) return false;
    const { clientId, seq } = asked.value.request;
    return this.#cluster.ghost.requests.has(`${toHex(clientId)}:${seq}`);
  }
}

function resultOf(result: OperationResult['result']): AttemptResult<Answer> {
  if (result === undefined) return { type: 'lost' };
  if (result.$case !== 'error') return { type: 'answered', response: result };
  const { reason, message } = result.value;
  const known = isReason(reason) ? reason : 'INTERNAL';
  return { type: 'refused', error: new KeychainError(known, message) };
}

import type { Clock } from '../base/clock.js';
import type { LogLevel } from '../telemetry/log-levels.js';
import { MetricsSum } from '../telemetry/metrics-sum.js';
import type { Span } from '../telemetry/span.js';
import type { Answer, FromPrimary, Gathered, Question } from './worker-messages.js';

/** Milliseconds after which those that haven't answered are left out; less than the asking worker waits. */
const answerMs = 1_000;
/** Questions under way; what comes beyond is not answered. */
const gatheringsMax = 64;

/** A question that goes to all workers. */
interface Gathering {
  /** Who asked. */
  readonly by: number;
  readonly question: Question;
  readonly missing: Set<number>;
  readonly spans: Span[];
  readonly done: () => void;
}

/** The primary's part in what one worker asks of all: it passes on questions, and brings the answers together. */
export class Gatherings {
  readonly #clock: Clock;
  readonly #tell: (worker: number, message: FromPrimary) => void;
  readonly #workers = new Set<number>();
  readonly #underWay = new Map<number, Gathering>();
  readonly #metrics = new MetricsSum();
  #logLevel: LogLevel | undefined;
  #nextId = 1;

  constructor(clock: Clock, tell: (worker: number, message: FromPrimary) => void) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** It serves, and is asked from now on. */
  joined(worker: number): void {
    this.#workers.add(worker);
    if (this.#logLevel === undefined) return;
    const question = { kind: 'log-level', level: this.#logLevel } as const;
    this.#tell(worker, { type: 'question', id: 0, question });
  }

  left(worker: number): void {
    this.#workers.delete(worker);
    this.#metrics.ended(worker);
    for (const [id, gathering] of this.#underWay) {
      // The next one of its number asks anew, by the same ids.
      if (gathering.by === worker) this.#underWay.delete(id);
      else heardFrom(gathering, worker);
    }
  }

  /** @param asked the number that the asking worker gave its question */
  ask(by: number, asked: number, question: Question): void {
    if (this.#underWay.size >= gatheringsMax) return;
    if (question.kind === 'log-level') this.#logLevel = question.level;
    const id = this.#nextId;
    this.#nextId += 1;
    const spans: Span[] = [];
    const cancel = this.#clock.after(answerMs, () => gathering.done());
    const gathering: Gathering = {
      by,
      question,
      missing: new Set(this.#workers),
      spans,
      done: () => {
        cancel();
        if (!this.#underWay.delete(id)) return;
        void this.#gathered(question, spans)
          .catch((): Gathered => ({}))
          .then((gathered) => this.#tell(by, { type: 'gathered', id: asked, gathered }));
      },
    };
    this.#underWay.set(id, gathering);
    for (const worker of this.#workers) this.#tell(worker, { type: 'question', id, question });
  }

  answered(worker: number, id: number, { samples, spans }: Answer): void {
    // Also what comes late: it is newer than what is known.
    if (samples !== undefined && this.#workers.has(worker)) this.#metrics.seen(worker, samples);
    const gathering = this.#underWay.get(id);
    if (gathering === undefined) return;
    gathering.spans.push(...(spans ?? []));
    heardFrom(gathering, worker);
  }

  async #gathered({ kind }: Question, spans: readonly Span[]): Promise<Gathered> {
    if (kind === 'metrics') return { metrics: await this.#metrics.text() };
    return { spans };
  }
}

function heardFrom({ missing, done }: Gathering, worker: number): void {
  missing.delete(worker);
  if (missing.size === 0) done();
}

import { Histogram } from './histogram.js';

/** What answers are counted by: OK or a gRPC status, and the reason where there is one. */
interface Count {
  readonly verb: string;
  readonly code: string;
  readonly reason: string;
  count: number;
}

/** Requests and their latencies by verb and code. Labels are closed sets, so what is kept is bounded. */
export class RequestMeter {
  readonly #counts = new Map<string, Map<string, Count>>();
  /** Seconds, by verb. */
  readonly durations = new Map<string, Histogram>();

  /** @param reason of docs/names.md; '' for OK @param milliseconds from arrival to answer */
  observe(verb: string, code: string, reason: string, milliseconds: number): void {
    let reasons = this.#counts.get(verb);
    if (reasons === undefined) {
      reasons = new Map();
      this.#counts.set(verb, reasons);
    }
    let count = reasons.get(reason);
    if (count === undefined) {
      count = { verb, code, reason, count: 0 };
      reasons.set(reason, count);
    }
    count.count += 1;
    let durations = this.durations.get(verb);
    if (durations === undefined) {
      durations = new Histogram();
      this.durations.set(verb, durations);
    }
    durations.observe(milliseconds / 1_000);
  }

  get counts(): readonly Readonly<Count>[] {
    return [...this.#counts.values()].flatMap((reasons) => [...reasons.values()]);
  }

  /** Answered requests of a verb, whatever the answer. */
  total(verb: string): number {
    let total = 0;
    for (const { count } of this.#counts.get(verb)?.values() ?? []) total += count;
    return total;
  }
}

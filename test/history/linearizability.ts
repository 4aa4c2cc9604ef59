import type { HistoryOperation } from './operation.js';

/*
 * Is a history linearizable? Herlihy & Wing 1990 for the definition, and for why each key may be looked at alone;
 * Wing & Gong 1993 for the search, Lowe 2017 for remembering where it has been.
 */

export type Verdict =
  | { readonly ok: true; readonly operations: number; readonly steps: number }
  | {
      readonly ok: false;
      /** `bound`: nobody knows, which is not a pass. */
      readonly kind: 'violation' | 'bound' | 'malformed';
      readonly key: string;
      readonly message: string;
      /** The operations around the first one that no order explains. */
      readonly operations: readonly HistoryOperation[];
    };

export interface Bounds {
  /** Steps of the search, over all keys. */
  readonly stepsMax?: number;
}

const stepsMaxDefault = 20_000_000;
/** Operations shown around one that can't be explained. */
const shownMax = 24;

/** Decides whether one order of the operations explains every answer; see docs/history.md. */
export function checkHistory(
  operations: readonly HistoryOperation[],
  { stepsMax = stepsMaxDefault }: Bounds = {},
): Verdict {
  const wrong = malformed(operations);
  if (wrong !== undefined) return wrong;
  const byKey = new Map<string, HistoryOperation[]>();
  for (const operation of operations) {
    const found = byKey.get(operation.key);
    if (found === undefined) byKey.set(operation.key, [operation]);
    else found.push(operation);
  }
  let steps = 0;
  for (const [key, ofKey] of byKey) {
    const search = new Search(ofKey, stepsMax - steps);
    const outcome = search.run();
    steps += search.steps;
    if (outcome === 'ordered') continue;
    const shown = search.window();
    return outcome === 'bound'
      ? {
          ok: false,
          kind: 'bound',
          key,
          message: `no verdict within ${stepsMax} steps: this counts as failed`,
          operations: shown,
        }
      : {
          ok: false,
          kind: 'violation',
          key,
          message: `no order of the ${ofKey.length} operations on this key explains all answers`,
          operations: shown,
        };
  }
  return { ok: true, operations: operations.length, steps };
}

function malformed(operations: readonly HistoryOperation[]): Verdict | undefined {
  const lastOf = new Map<string, HistoryOperation>();
  const sorted = [...operations].sort((a, b) => a.start - b.start);
  for (const operation of sorted) {
    const { process, start, end, key } = operation;
    const before = lastOf.get(process);
    lastOf.set(process, operation);
    const message = faultOf(operation, before);
    if (message === '') continue;
    const shown = before === undefined ? [operation] : [before, operation];
    return {
      ok: false,
      kind: 'malformed',
      key,
      message: `${message} (process ${process}, start ${start}, end ${end})`,
      operations: shown,
    };
  }
  return undefined;
}

function faultOf(
  { operation, input, start, end, output }: HistoryOperation,
  before: HistoryOperation | undefined,
): string {
  if (!Number.isFinite(start) || (end !== undefined && !Number.isFinite(end))) {
    return 'start and end are numbers of milliseconds';
  }
  if (end !== undefined && end < start) return 'an operation ends before it starts';
  if (operation === 'put' && input === undefined) return 'a put has its value as input';
  if (operation === 'get' && end !== undefined && output?.value === undefined) {
    return 'an answered get has a value, or null';
  }
  if (before === undefined) return '';
  if (before.end === undefined) {
    return 'a process whose operation has an unknown outcome is not used again';
  }
  return before.end > start ? 'a process has one operation at a time' : '';
}

/** What a key holds; a revision that isn't known is learned from whoever reads it. */
interface Register {
  readonly value: string | null;
  readonly revision: number | undefined;
  /** Highest revision so far. */
  readonly highest: number;
}

const empty: Register = { value: null, revision: undefined, highest: 0 };

/** The sequential specification: a register whose revisions rise. Undefined: the answer would be another one. */
export function applied(
  state: Register,
  { operation, input, output }: HistoryOperation,
): Register | undefined {
  const revision = output?.revision;
  if (operation !== 'get') {
    if (revision !== undefined && revision <= state.highest) return undefined;
    const value = operation === 'put' ? (input ?? null) : null;
    return { value, revision, highest: revision ?? state.highest };
  }
  if (output?.value !== state.value) return undefined;
  if (state.value === null || revision === undefined) return state;
  if (state.revision !== undefined) return state.revision === revision ? state : undefined;
  return revision > state.highest ? { ...state, revision, highest: revision } : undefined;
}

/** One end of an operation, in a list of all ends in order of time. */
interface Event {
  readonly operation: number;
  readonly isCall: boolean;
  previous: Event | undefined;
  next: Event | undefined;
}

interface Taken {
  readonly call: Event;
  readonly state: Register;
}

/** The search for one key. */
class Search {
  readonly #operations: readonly HistoryOperation[];
  /** By operation: its answer, if it must take effect. */
  readonly #returns: (Event | undefined)[] = [];
  readonly #head: Event;
  readonly #stepsMax: number;
  /** Operations that must take effect and have not. */
  #left = 0;
  /** By operation: it has taken effect. */
  readonly #done: Uint8Array;
  /** Every operation below this one has taken effect, or need not. */
  #low = 0;
  /** Those that have taken effect and that `#low` doesn't say so of. */
  readonly #beyond = new Set<number>();
  /** Where the search has been: what has taken effect, and the state after it. */
  readonly #seen = new Set<string>();
  readonly #stack: Taken[] = [];
  /** The most operations that an order explained, and the one after them that it didn't. */
  #furthest = -1;
  #stuckAt = 0;
  steps = 0;

  constructor(operations: readonly HistoryOperation[], stepsMax: number) {
    this.#operations = relevant(operations).sort((a, b) => a.start - b.start);
    this.#stepsMax = stepsMax;
    this.#done = new Uint8Array(this.#operations.length);
    this.#head = this.#link();
  }

  /** All ends in order of time; what was called at the moment of an answer overlaps it. */
  #link(): Event {
    const events: { readonly at: number; readonly event: Event }[] = [];
    const eventOf = (operation: number, isCall: boolean): Event => ({
      operation,
      isCall,
      previous: undefined,
      next: undefined,
    });
    for (const [index, operation] of this.#operations.entries()) {
      events.push({ at: operation.start, event: eventOf(index, true) });
      if (!isRequired(operation)) {
        this.#returns.push(undefined);
        continue;
      }
      const event = eventOf(index, false);
      this.#returns.push(event);
      events.push({ at: operation.end ?? Number.POSITIVE_INFINITY, event });
      this.#left += 1;
    }
    events.sort((a, b) => a.at - b.at || Number(b.event.isCall) - Number(a.event.isCall));
    const head = eventOf(-1, true);
    let last = head;
    for (const { event } of events) {
      last.next = event;
      event.previous = last;
      last = event;
    }
    return head;
  }

  run(): 'ordered' | 'violation' | 'bound' {
    let state = empty;
    let event = this.#head.next;
    while (this.#left > 0) {
      this.steps += 1;
      if (this.steps > this.#stepsMax) return 'bound';
      const operation = event && this.#operations[event.operation];
      if (event?.isCall === true && operation !== undefined) {
        const next = applied(state, operation);
        if (next !== undefined && this.#take(event, state, next)) {
          state = next;
          event = this.#head.next;
        } else {
          event = event.next;
        }
        continue;
      }
      // An answer came and no order so far explains it: the last choice was wrong.
      this.#stuck(event);
      const taken = this.#stack.pop();
      if (taken === undefined) return 'violation';
      this.#giveBack(taken.call);
      state = taken.state;
      event = taken.call.next;
    }
    return 'ordered';
  }

  /** Lets an operation take effect next, unless the search has been there. */
  #take(call: Event, before: Register, after: Register): boolean {
    const { operation } = call;
    this.#mark(operation);
    const place = this.#place(after);
    if (this.#seen.has(place)) {
      this.#unmark(operation);
      return false;
    }
    this.#seen.add(place);
    this.#stack.push({ call, state: before });
    unlink(call);
    const answer = this.#returns[operation];
    if (answer !== undefined) {
      unlink(answer);
      this.#left -= 1;
    }
    return true;
  }

  #giveBack(call: Event): void {
    const { operation } = call;
    this.#unmark(operation);
    const answer = this.#returns[operation];
    if (answer !== undefined) {
      relink(answer);
      this.#left += 1;
    }
    relink(call);
  }

  #mark(operation: number): void {
    this.#done[operation] = 1;
    this.#beyond.add(operation);
    while (this.#low < this.#done.length && this.#isPast(this.#low)) {
      if (this.#isRequired(this.#low)) this.#beyond.delete(this.#low);
      this.#low += 1;
    }
  }

  #unmark(operation: number): void {
    this.#done[operation] = 0;
    this.#beyond.delete(operation);
    if (!this.#isRequired(operation)) return;
    for (let above = operation + 1; above < this.#low; above += 1) {
      if (this.#done[above] === 1) this.#beyond.add(above);
    }
    this.#low = Math.min(this.#low, operation);
  }

  #isRequired(operation: number): boolean {
    return this.#returns[operation] !== undefined;
  }

  #isPast(operation: number): boolean {
    return this.#done[operation] === 1 || !this.#isRequired(operation);
  }

  /** What has taken effect, said shortly, and the state: two orders that agree in it have one future. */
  #place({ value, revision, highest }: Register): string {
    const beyond = [...this.#beyond].sort((a, b) => a - b);
    return JSON.stringify([this.#low, beyond, value, revision, highest]);
  }

  #stuck(event: Event | undefined): void {
    if (this.#stack.length <= this.#furthest) return;
    this.#furthest = this.#stack.length;
    this.#stuckAt = event?.operation ?? this.#operations.length - 1;
  }

  /** The operations around the answer that nothing explains, in order of their start. */
  window(): readonly HistoryOperation[] {
    const stuck = this.#operations[this.#stuckAt];
    const until = stuck?.end ?? Number.POSITIVE_INFINITY;
    const begun = this.#operations.filter(({ start }) => start <= until);
    return begun.slice(-shownMax);
  }
}

function unlink({ previous, next }: Event): void {
  if (previous !== undefined) previous.next = next;
  if (next !== undefined) next.previous = previous;
}

/** In the reverse order of `unlink`: its neighbours are those of then. */
function relink(event: Event): void {
  if (event.previous !== undefined) event.previous.next = event;
  if (event.next !== undefined) event.next.previous = event;
}

/** Must it be in the order: it was answered, or the log has it. */
function isRequired({ end, output }: HistoryOperation): boolean {
  return end !== undefined || output?.revision !== undefined;
}

/**
 * What can make a difference. A read that wasn't answered says nothing. A write of unknown outcome whose value no
 * read shows may be left out: an order that has it stays one without it, as nobody sees the state after it.
 */
function relevant(operations: readonly HistoryOperation[]): HistoryOperation[] {
  const shown = new Set<string | null>();
  for (const { operation, output, end } of operations) {
    if (operation === 'get' && end !== undefined) shown.add(output?.value ?? null);
  }
  return operations.filter((operation) => {
    if (operation.operation === 'get') return operation.end !== undefined;
    if (isRequired(operation)) return true;
    return shown.has(operation.operation === 'put' ? (operation.input ?? null) : null);
  });
}

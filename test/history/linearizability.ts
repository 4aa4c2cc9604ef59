import type { HistoryOperation } from './operation.js';

/*
 * Is a history linearizable? Herlihy & Wing 1990 for the definition, and for why each key may be looked at alone;
 * Wing & Gong 1993 for the search, Lowe 2017 for its list of calls and answers and for remembering where it has been.
 * What it need not try, and why, stands where it doesn't: five rules, none of which changes a verdict.
 */

export type Verdict =
  | { readonly ok: true; readonly operations: number; readonly steps: number }
  | {
      readonly ok: false;
      /** `bound`: nobody knows, which is not a pass. */
      readonly kind: 'violation' | 'bound' | 'malformed';
      readonly key: string;
      readonly message: string;
      /** In order of their start; of a violation the end of the shortest prefix that no order explains. */
      readonly operations: readonly HistoryOperation[];
    };

export interface Bounds {
  /** Steps of the search, over all keys. */
  readonly stepsMax?: number;
}

/** Each step may leave a place to remember: this many fit into the memory that Node has by default. */
const stepsMaxDefault = 5_000_000;
/** Operations shown of a prefix that can't be ordered. */
const shownMax = 24;
/** Writes of the value that was read, shown beside them where they are older. */
const writersShownMax = 4;

/** Decides whether one order of the operations explains every answer; see docs/history.md. */
export function checkHistory(
  operations: readonly HistoryOperation[],
  { stepsMax = stepsMaxDefault }: Bounds = {},
): Verdict {
  const wrong = malformed(operations);
  if (wrong !== undefined) return wrong;
  let steps = 0;
  for (const [key, sorted] of byKey(operations)) {
    const search = new Search(sorted, stepsMax - steps);
    const outcome = search.run();
    steps += search.steps;
    if (outcome === 'bound') return beyondBound(key, sorted, search.reached, stepsMax);
    if (outcome === 'violation') return violation(key, sorted, stepsMax);
  }
  return { ok: true, operations: operations.length, steps };
}

/** Each in order of start. */
function byKey(operations: readonly HistoryOperation[]): ReadonlyMap<string, HistoryOperation[]> {
  const keys = new Map<string, HistoryOperation[]>();
  for (const operation of operations.toSorted(inOrderOfStart)) {
    const found = keys.get(operation.key);
    if (found === undefined) keys.set(operation.key, [operation]);
    else found.push(operation);
  }
  return keys;
}

const endOf = ({ end }: HistoryOperation): number => end ?? Number.POSITIVE_INFINITY;

/** Of two that start together the one that ends first comes first: one process may have asked both. */
function inOrderOfStart(a: HistoryOperation, b: HistoryOperation): number {
  if (a.start !== b.start) return a.start - b.start;
  return endOf(a) === endOf(b) ? 0 : endOf(a) - endOf(b);
}

function malformed(operations: readonly HistoryOperation[]): Verdict | undefined {
  for (const operation of operations) {
    const message = faultOf(operation);
    if (message !== undefined) return malformedAt(message, [operation], operation);
  }
  const lastOf = new Map<string, HistoryOperation>();
  for (const operation of operations.toSorted(inOrderOfStart)) {
    const before = lastOf.get(operation.process);
    lastOf.set(operation.process, operation);
    if (before === undefined || endOf(before) <= operation.start) continue;
    const message =
      before.end === undefined
        ? 'a process whose operation has an unknown outcome is not used again'
        : 'a process has one operation at a time';
    return malformedAt(message, [before, operation], operation);
  }
  return undefined;
}

function malformedAt(
  message: string,
  operations: readonly HistoryOperation[],
  { process, key, start, end }: HistoryOperation,
): Verdict {
  return {
    ok: false,
    kind: 'malformed',
    key,
    message: `${message} (process ${process}, start ${start}, end ${end ?? 'unknown'})`,
    operations,
  };
}

function faultOf({ operation, input, start, end, output }: HistoryOperation): string | undefined {
  if (!Number.isFinite(start) || (end !== undefined && !Number.isFinite(end))) {
    return 'start and end are numbers of milliseconds';
  }
  if (end !== undefined && end < start) return 'an operation ends before it starts';
  if (operation === 'put' && input === undefined) return 'a put has its value as input';
  if (operation === 'get' && end !== undefined && output?.value === undefined) {
    return 'an answered get has a value, or null';
  }
  const revision = output?.revision;
  return revision === undefined || (Number.isSafeInteger(revision) && revision >= 0)
    ? undefined
    : 'a revision is a whole number';
}

function beyondBound(
  key: string,
  sorted: readonly HistoryOperation[],
  reached: number,
  stepsMax: number,
): Verdict {
  return {
    ok: false,
    kind: 'bound',
    key,
    message: `no verdict within ${stepsMax} steps: this counts as failed`,
    operations: sorted.filter(({ start }) => start <= reached).slice(-shownMax),
  };
}

function violation(key: string, sorted: readonly HistoryOperation[], stepsMax: number): Verdict {
  const until = shortestPrefix(sorted, stepsMax);
  const prefix = sorted.filter(({ start }) => start <= until);
  const extent = `the first ${prefix.length} of ${sorted.length} operations`;
  const answers = Number.isFinite(until) ? `what was answered until ${until} ms` : 'all answers';
  return {
    ok: false,
    kind: 'violation',
    key,
    message: `no order of ${extent} on this key explains ${answers}`,
    operations: shownOf(prefix, until),
  };
}

/**
 * When the first answer came that no order explains. A part of an order orders a prefix, so that one prefix can't be
 * ordered if a shorter one can't: halving finds the shortest.
 */
function shortestPrefix(sorted: readonly HistoryOperation[], stepsMax: number): number {
  const ends = sorted.flatMap(({ end }) => end ?? []).sort((a, b) => a - b);
  let ordered = -1;
  // What can't be ordered at the last answer: an unknown write of which the log has the revision.
  let wrong = ends.length;
  while (wrong - ordered > 1) {
    const middle = Math.floor((ordered + wrong) / 2);
    const search = new Search(sorted, stepsMax, ends[middle]);
    if (search.run() === 'violation') wrong = middle;
    else ordered = middle;
  }
  return ends[wrong] ?? Number.POSITIVE_INFINITY;
}

/** The end of the prefix, and who wrote what its last answer shows, which may have been long ago. */
function shownOf(prefix: readonly HistoryOperation[], until: number): readonly HistoryOperation[] {
  const last = prefix.slice(-shownMax);
  const answers = prefix.filter(({ end }) => end === until);
  const values = new Set(answers.flatMap(({ output }) => output?.value ?? []));
  const writers = prefix
    .slice(0, -shownMax)
    .filter(({ operation, input }) => operation === 'put' && values.has(input ?? ''));
  const missing = answers.filter((answer) => !last.includes(answer) && !writers.includes(answer));
  return [...writers.slice(-writersShownMax), ...missing, ...last].sort(inOrderOfStart);
}

/** Values are numbers here, so that a place is short however long they are. */
type ValueNumber = number;
const absent: ValueNumber = 0;
/** All values that no read shows: none of them differs from another to anybody. */
const unseen: ValueNumber = 1;

/** The sequential specification's register: what a key holds. */
interface Register {
  readonly value: ValueNumber;
  /** Undefined after a write whose revision nobody knows, until a read shows it. */
  readonly revision: number | undefined;
  /** Highest revision so far: revisions rise. */
  readonly highest: number;
}

/** An operation as the search sees it. */
interface Candidate {
  readonly isRead: boolean;
  /** What it writes, or what it was shown. */
  readonly value: ValueNumber;
  readonly revision: number | undefined;
  readonly start: number;
  /** When it must have taken effect; undefined: it need not. */
  readonly due: number | undefined;
  /** The place of its revision among those known, if it must take effect and has one. */
  readonly rank: number | undefined;
  /** What was answered to the same process at the moment when it asked this; mostly nothing. */
  readonly before: readonly number[];
}

/** One end of an operation, in a list of all ends in order of time. */
interface Event {
  readonly candidate: number;
  readonly isCall: boolean;
  readonly at: number;
  previous: Event | undefined;
  next: Event | undefined;
}

/** One that takes effect, with what it needs to have taken effect just before. */
interface Move {
  readonly candidates: readonly number[];
  readonly after: Register;
}

/** A choice: what to try after it, and what to go back to. */
interface Choice {
  readonly call: Event;
  readonly before: Register;
  /** How many had taken effect before it. */
  readonly taken: number;
}

/** How many of each number are left. */
class Counts {
  readonly #counts: number[] = [];

  of(number: number): number {
    return this.#counts[number] ?? 0;
  }

  add(number: number, change: 1 | -1): void {
    this.#counts[number] = this.of(number) + change;
  }
}

/** The search for one key: an order for what was answered until a moment; what was answered later is open then. */
class Search {
  readonly #candidates: readonly Candidate[];
  readonly #stepsMax: number;
  readonly #head: Event = eventOf(-1, true, Number.NEGATIVE_INFINITY);
  readonly #calls: (Event | undefined)[] = [];
  readonly #answers: (Event | undefined)[] = [];
  /** By value: writes that need not take effect, first asked first. */
  readonly #optional = new Map<ValueNumber, number[]>();
  /** By candidate: it has taken effect. */
  readonly #isDone: boolean[];
  /** All that have taken effect, in that order. */
  readonly #taken: number[] = [];
  readonly #choices: Choice[] = [];
  /** Where the search has been: what has taken effect, and the state after it. */
  readonly #seen = new Set<string>();
  /** By value: reads that were shown it and writes of it, of those that have not taken effect. */
  readonly #readers = new Counts();
  readonly #writers = new Counts();
  /** By rank: those that have not taken effect, and the lowest rank that has some. */
  readonly #ranked = new Counts();
  #rank = 0;
  #ranks = 0;
  /** Those that must take effect and have not. */
  #left = 0;
  #state: Register = { value: absent, revision: undefined, highest: -1 };
  /** The calls before the first answer that is to come, and that answer. */
  #window: number[] = [];
  #answer: Event | undefined;
  /** The latest answer up to which an order was found. */
  reached = Number.NEGATIVE_INFINITY;
  steps = 0;

  constructor(
    sorted: readonly HistoryOperation[],
    stepsMax: number,
    until = Number.POSITIVE_INFINITY,
  ) {
    this.#candidates = candidatesOf(sorted, until);
    this.#stepsMax = stepsMax;
    this.#isDone = this.#candidates.map(() => false);
    this.#link();
  }

  /** All ends in order of time; what was called at the moment of an answer overlaps it. */
  #link(): void {
    const events: Event[] = [];
    for (const [index, { isRead, value, due, rank, start }] of this.#candidates.entries()) {
      (isRead ? this.#readers : this.#writers).add(value, 1);
      if (due === undefined) {
        const same = this.#optional.get(value);
        if (same === undefined) this.#optional.set(value, [index]);
        else same.push(index);
        continue;
      }
      const call = eventOf(index, true, start);
      const answer = eventOf(index, false, due);
      this.#calls[index] = call;
      this.#answers[index] = answer;
      events.push(call, answer);
      if (rank !== undefined) {
        this.#ranked.add(rank, 1);
        this.#ranks = Math.max(this.#ranks, rank + 1);
      }
      this.#left += 1;
    }
    events.sort((a, b) =>
      a.at === b.at ? Number(b.isCall) - Number(a.isCall) : a.at < b.at ? -1 : 1,
    );
    let last = this.#head;
    for (const event of events) {
      last.next = event;
      event.previous = last;
      last = event;
    }
  }

  run(): 'ordered' | 'violation' | 'bound' {
    this.#settle();
    let event = this.#head.next;
    while (this.#left > 0) {
      if (this.steps >= this.#stepsMax) return 'bound';
      this.steps += 1;
      if (event?.isCall === true) {
        const move = this.#moveOf(event.candidate);
        const isNew = move !== undefined && this.#make(move, event);
        event = isNew ? this.#head.next : event.next;
        continue;
      }
      // An answer comes and no order so far explains it: the last choice was wrong.
      const choice = this.#choices.pop();
      if (choice === undefined) return 'violation';
      this.#goBack(choice);
      event = choice.call.next;
    }
    return 'ordered';
  }

  /** Makes a move, unless it leads to where the search has been. */
  #make({ candidates, after }: Move, call: Event): boolean {
    const choice = { call, before: this.#state, taken: this.#taken.length };
    for (const candidate of candidates) this.#take(candidate);
    this.#state = after;
    this.#settle();
    const place = this.#place();
    if (this.#seen.has(place)) {
      this.#goBack(choice);
      return false;
    }
    this.#seen.add(place);
    this.#choices.push(choice);
    return true;
  }

  #goBack({ before, taken }: Choice): void {
    while (this.#taken.length > taken) this.#giveBack();
    this.#state = before;
    this.#look();
  }

  /**
   * Rule 1: a read that was shown the present value takes effect at once and is not tried elsewhere. It changes
   * nothing, so that an order which has it later has it here as well. (Not so where it would show us a revision.)
   */
  #settle(): void {
    let event = this.#head.next;
    while (event?.isCall === true) {
      if (this.#isShown(event.candidate)) this.#take(event.candidate);
      event = event.next;
    }
    this.#look();
  }

  #isShown(index: number): boolean {
    const { isRead, value, revision } = this.#candidate(index);
    if (!isRead || value !== this.#state.value || !this.#isPossible(index)) return false;
    return value === absent || revision === undefined || revision === this.#state.revision;
  }

  #look(): void {
    this.#window = [];
    let event = this.#head.next;
    while (event?.isCall === true) {
      this.#window.push(event.candidate);
      event = event.next;
    }
    this.#answer = event;
    if (event !== undefined) this.reached = Math.max(this.reached, event.at);
  }

  /**
   * What has taken effect, and the state after it: two orders that agree in it have one future. Of those called before
   * the next answer all but the window have taken effect, of those after it none has, so that a place is no longer
   * than what is under way at once. Writes that need not take effect matter as long as somebody was shown their value.
   */
  #place(): string {
    const { value, revision, highest } = this.#state;
    const used: number[] = [];
    for (const [optional, indexes] of this.#optional) {
      if (this.#readers.of(optional) === 0) continue;
      for (const index of indexes) if (this.#isDone[index] === true) used.push(index);
    }
    return `${this.#answer?.candidate}|${this.#window.join()}|${used.join()}|${value}|${revision}|${highest}`;
  }

  /**
   * Rule 2: what has a known revision takes effect in the order of revisions, as none could follow a higher one.
   * A process asks one thing after the other, also where both bear the same time.
   */
  #isPossible(index: number, taken: readonly number[] = []): boolean {
    const { rank, before } = this.#candidate(index);
    if (rank !== undefined && rank !== this.#rank) return false;
    return before.every((other) => this.#isDone[other] === true || taken.includes(other));
  }

  #moveOf(index: number): Move | undefined {
    return this.#candidate(index).isRead ? this.#readMove(index) : this.#writeMove(index);
  }

  /** A read that tells the revision of the present value, or that shows a write which need not have taken effect. */
  #readMove(index: number): Move | undefined {
    const { value, revision } = this.#candidate(index);
    const { highest } = this.#state;
    const isRevisionKnown = value !== absent && revision !== undefined;
    if (isRevisionKnown && revision <= highest) return undefined;
    const after = isRevisionKnown
      ? { value, revision, highest: revision }
      : { value, revision: undefined, highest };
    if (value === this.#state.value && this.#state.revision === undefined) {
      return this.#isPossible(index) ? { candidates: [index], after } : undefined;
    }
    if (!this.#isOverwritable()) return undefined;
    const unseenBefore = this.#unseenWrites();
    const write = this.#optionalWrite(value, unseenBefore);
    if (write === undefined || !this.#isPossible(index, unseenBefore)) return undefined;
    return { candidates: [...unseenBefore, write, index], after };
  }

  /**
   * Rule 3: a write that need not take effect does so just before a read that shows it, and only where nothing else
   * explains the read: an order that has it elsewhere stays one without it. Of several with one value the one asked
   * first: whoever could stand here can stand later as well.
   */
  #optionalWrite(value: ValueNumber, taken: readonly number[]): number | undefined {
    const now = this.#answer?.at ?? Number.POSITIVE_INFINITY;
    return this.#optional.get(value)?.find((index) => {
      const isAsked = this.#candidate(index).start <= now;
      return this.#isDone[index] !== true && isAsked && this.#isPossible(index, taken);
    });
  }

  #writeMove(index: number): Move | undefined {
    const { value, revision } = this.#candidate(index);
    const { highest } = this.#state;
    if (revision !== undefined && revision <= highest) return undefined;
    if (!this.#isOverwritable()) return undefined;
    if (this.#isUnseen(index) && !this.#isUnseenDue()) return undefined;
    const unseenBefore = this.#unseenWrites().filter((other) => other !== index);
    if (!this.#isPossible(index, unseenBefore)) return undefined;
    return {
      candidates: [...unseenBefore, index],
      after: { value, revision, highest: revision ?? highest },
    };
  }

  /** Rule 4: a value that reads are still to be shown, and that nobody is to write again, is not overwritten. */
  #isOverwritable(): boolean {
    const { value } = this.#state;
    return this.#readers.of(value) === 0 || this.#writers.of(value) > 0;
  }

  /**
   * Rule 5: in every order a write whose value no read shows is followed by a write, or by nothing. So it takes effect
   * together with the next write, however many there are; alone only when the time of an answer to such a one has
   * come. (Those with a known revision have their place by rule 2.)
   */
  #unseenWrites(): readonly number[] {
    const found: number[] = [];
    for (const index of this.#window) {
      if (this.#isUnseen(index) && this.#isPossible(index, found)) found.push(index);
    }
    return found;
  }

  #isUnseen(index: number): boolean {
    const { value, revision } = this.#candidate(index);
    return value === unseen && revision === undefined;
  }

  #isUnseenDue(): boolean {
    return this.#answer !== undefined && this.#isUnseen(this.#answer.candidate);
  }

  #candidate(index: number): Candidate {
    const found = this.#candidates[index];
    if (found === undefined) throw new RangeError(`no operation ${index}`);
    return found;
  }

  #take(index: number): void {
    const { isRead, value, due, rank } = this.#candidate(index);
    this.#isDone[index] = true;
    this.#taken.push(index);
    (isRead ? this.#readers : this.#writers).add(value, -1);
    if (due === undefined) return;
    this.#left -= 1;
    // The answer first: it may be what follows the call, which whoever walks the list goes on from.
    unlink(this.#answers[index]);
    unlink(this.#calls[index]);
    if (rank === undefined) return;
    this.#ranked.add(rank, -1);
    while (this.#rank < this.#ranks && this.#ranked.of(this.#rank) === 0) this.#rank += 1;
  }

  #giveBack(): void {
    const index = this.#taken.pop();
    if (index === undefined) return;
    const { isRead, value, due, rank } = this.#candidate(index);
    this.#isDone[index] = false;
    (isRead ? this.#readers : this.#writers).add(value, 1);
    if (due === undefined) return;
    this.#left += 1;
    relink(this.#calls[index]);
    relink(this.#answers[index]);
    if (rank === undefined) return;
    this.#ranked.add(rank, 1);
    this.#rank = Math.min(this.#rank, rank);
  }
}

function eventOf(candidate: number, isCall: boolean, at: number): Event {
  return { candidate, isCall, at, previous: undefined, next: undefined };
}

function unlink(event: Event | undefined): void {
  if (event?.previous !== undefined) event.previous.next = event.next;
  if (event?.next !== undefined) event.next.previous = event.previous;
}

/** In the reverse order of `unlink`: its neighbours are those of then. */
function relink(event: Event | undefined): void {
  if (event?.previous !== undefined) event.previous.next = event;
  if (event?.next !== undefined) event.next.previous = event;
}

/** When it must have taken effect: it was answered, or the log has it (then whenever); undefined: it need not. */
function dueOf({ end, output }: HistoryOperation, until: number): number | undefined {
  if (end !== undefined && end <= until) return end;
  return output?.revision === undefined ? undefined : Number.POSITIVE_INFINITY;
}

function contentOf({ operation, input, output }: HistoryOperation): string | null {
  if (operation === 'get') return output?.value ?? null;
  return operation === 'put' ? (input ?? null) : null;
}

/**
 * What can make a difference. A read that wasn't answered says nothing. A write that need not take effect, and whose
 * value no read shows, is left out: an order that has it stays one without it, as nobody sees the state after it and
 * no revision of it is known. Nothing else can need it: what must be in the order is there by itself.
 */
function candidatesOf(sorted: readonly HistoryOperation[], until: number): readonly Candidate[] {
  const begun = sorted.filter(({ operation, start, end }) => {
    return start <= until && (operation !== 'get' || (end !== undefined && end <= until));
  });
  const reads = begun.filter(({ operation }) => operation === 'get');
  const numbers = new Map<string | null, ValueNumber>([[null, absent]]);
  for (const read of reads) {
    const value = contentOf(read);
    if (!numbers.has(value)) numbers.set(value, numbers.size + unseen);
  }
  const isNullRead = reads.some((read) => contentOf(read) === null);
  const numberOf = (operation: HistoryOperation): ValueNumber => {
    const value = contentOf(operation);
    if (value === null) return isNullRead ? absent : unseen;
    return numbers.get(value) ?? unseen;
  };
  const relevant = begun.filter(
    (operation) => dueOf(operation, until) !== undefined || numberOf(operation) !== unseen,
  );
  const ranks = ranksOf(relevant.filter((operation) => dueOf(operation, until) !== undefined));
  const beforeOf = predecessors(relevant);
  return relevant.map((operation, index) => {
    const due = dueOf(operation, until);
    const revision = operation.output?.revision;
    const isRanked = due !== undefined && revision !== undefined && isRevisionSaid(operation);
    return {
      isRead: operation.operation === 'get',
      value: numberOf(operation),
      revision,
      start: operation.start,
      due,
      rank: isRanked ? ranks.get(revision) : undefined,
      before: beforeOf[index] ?? [],
    };
  });
}

/** By operation: those of the same process that ended as it began. Of two without length nobody knows the order. */
function predecessors(sorted: readonly HistoryOperation[]): readonly (readonly number[])[] {
  const ended = new Map<string, { readonly at: number; readonly indexes: number[] }>();
  return sorted.map((operation, index) => {
    const { process, start } = operation;
    const end = endOf(operation);
    const found = ended.get(process);
    const at = found?.at === start ? found.indexes : [];
    const before = at.filter((other) => end > start || (sorted[other]?.start ?? start) < start);
    if (found !== undefined && found.at === end) found.indexes.push(index);
    else ended.set(process, { at: end, indexes: [index] });
    return before;
  });
}

/** The revision at which a key is absent is nobody's. */
function isRevisionSaid({ operation, output }: HistoryOperation): boolean {
  if (output?.revision === undefined) return false;
  return operation !== 'get' || (output.value ?? null) !== null;
}

function ranksOf(required: readonly HistoryOperation[]): ReadonlyMap<number, number> {
  const revisions = required
    .filter(isRevisionSaid)
    .flatMap(({ output }) => output?.revision ?? [])
    .sort((a, b) => a - b);
  return new Map([...new Set(revisions)].map((revision, rank) => [revision, rank]));
}

/** What the simulator's checkers found, looking from outside; not an assertion of the program. */
export class CheckFailure extends Error {
  override readonly name = 'CheckFailure';
  /** Which checker. */
  readonly checker: string;

  constructor(checker: string, message: string) {
    super(message);
    this.checker = checker;
  }
}

/** States what must be seen from outside. */
export function check(
  condition: boolean,
  checker: string,
  what: string,
  facts: Readonly<Record<string, unknown>> = {},
): asserts condition {
  if (!condition) throw new CheckFailure(checker, `${what} ${JSON.stringify(facts)}`);
}

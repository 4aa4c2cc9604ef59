/** A broken invariant: a fault of the program. It ends the process; the log brings it back. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/**
 * States an invariant. Stays on in production.
 * @param facts the numbers that a person needs to see why it broke
 */
export function assert(
  condition: boolean,
  invariant: string,
  facts: Readonly<Record<string, unknown>> = {},
): asserts condition {
  if (!condition) throw new AssertionError(`${invariant} ${describe(facts)}`);
}

/** The arm of a switch that can't be reached: a new case that nobody handles doesn't compile. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${describe({ value })}`);
}

function describe(facts: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(facts, (_key, value: unknown) =>
    typeof value === 'bigint' ? value.toString() : value,
  );
}

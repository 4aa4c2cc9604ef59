import type { HistoryOperation } from './operation.js';

/** One line of a history file. */
export function formatOperation(operation: HistoryOperation): string {
  const { end } = operation;
  return JSON.stringify(end === undefined ? { ...operation, unknown: true } : operation);
}

/** A line that is no operation: which one, and why. */
export class HistoryError extends Error {
  override readonly name = 'HistoryError';
}

/** Reads a history, one JSON object a line; throws HistoryError at the first line that is none. */
export function parseHistory(lines: Iterable<string>): readonly HistoryOperation[] {
  const operations: HistoryOperation[] = [];
  let number = 0;
  for (const line of lines) {
    number += 1;
    if (line.trim() === '') continue;
    operations.push(parseOperation(line, number));
  }
  return operations;
}

const verbs: readonly unknown[] = ['get', 'put', 'delete'];

function parseOperation(line: string, number: number): HistoryOperation {
  const refuse = (why: string): never => {
    throw new HistoryError(`line ${number}: ${why}`);
  };
  let found: unknown;
  try {
    found = JSON.parse(line);
  } catch {
    return refuse('not JSON');
  }
  if (typeof found !== 'object' || found === null) return refuse('not an object');
  const fields = found as Readonly<Record<string, unknown>>;
  const { process, operation, key, input, output, start, end, unknown } = fields;
  if (typeof process !== 'string') return refuse('process: a string is wanted');
  if (!verbs.includes(operation)) return refuse('operation: get, put or delete is wanted');
  if (typeof key !== 'string') return refuse('key: a string is wanted');
  if (input !== undefined && typeof input !== 'string') return refuse('input: a string is wanted');
  if (typeof start !== 'number') return refuse('start: milliseconds are wanted');
  if (end !== undefined && typeof end !== 'number') return refuse('end: milliseconds are wanted');
  if (end === undefined && unknown !== true) {
    return refuse('end: milliseconds are wanted, or "unknown": true');
  }
  if (end !== undefined && unknown === true) return refuse('unknown: true, though it has an end');
  return {
    process,
    operation: operation as HistoryOperation['operation'],
    key,
    start,
    ...(input === undefined ? undefined : { input }),
    ...(end === undefined ? undefined : { end }),
    ...outputOf(output, refuse),
  };
}

function outputOf(
  output: unknown,
  refuse: (why: string) => never,
): Pick<HistoryOperation, 'output'> | undefined {
  if (output === undefined) return undefined;
  if (typeof output !== 'object' || output === null) return refuse('output: an object is wanted');
  const { value, revision } = output as Readonly<Record<string, unknown>>;
  if (value !== undefined && value !== null && typeof value !== 'string') {
    return refuse('output.value: a string or null is wanted');
  }
  if (revision !== undefined && typeof revision !== 'number') {
    return refuse('output.revision: a number is wanted');
  }
  return {
    output: {
      ...(value === undefined ? undefined : { value }),
      ...(revision === undefined ? undefined : { revision }),
    },
  };
}

/*
 * Is the history in a file linearizable? node dist/tools/check-history.js FILE (or -, for stdin). docs/history.md.
 */
import { readFileSync } from 'node:fs';
import { formatOperation, HistoryError, parseHistory } from '../test/history/file.js';
import { checkHistory } from '../test/history/linearizability.js';
import type { HistoryOperation } from '../test/history/operation.js';

const usage =
  'usage: check-history FILE (- for stdin): one JSON object a line, see docs/history.md';
const [file, ...more] = process.argv.slice(2);

function fail(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

function read(path: string): readonly HistoryOperation[] {
  try {
    const text = readFileSync(path === '-' ? 0 : path, 'utf8');
    return parseHistory(text.split('\n'));
  } catch (error) {
    if (error instanceof HistoryError) return fail(`${path}: ${error.message}`);
    return fail(`${path} can't be read: ${String(error)}`);
  }
}

if (file === '--help') {
  process.stdout.write(`${usage}\n`);
  process.exit(0);
}
if (file === undefined || more.length > 0) fail(usage);
const operations = read(file);
const verdict = checkHistory(operations);
const keys = new Set(operations.map(({ key }) => key)).size;
if (verdict.ok) {
  process.stdout.write(`${operations.length} operations on ${keys} keys: linearizable\n`);
  process.exit(0);
}
process.stdout.write(
  `${operations.length} operations on ${keys} keys: ${verdict.kind} at key ${verdict.key}: ${verdict.message}\n`,
);
for (const operation of verdict.operations) process.stdout.write(`${formatOperation(operation)}\n`);
process.exit(1);

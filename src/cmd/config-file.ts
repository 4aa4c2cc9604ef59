import { readFileSync } from 'node:fs';
import { type Command, CommanderError, type Option } from 'commander';
import { KeychainError } from '../base/errors.js';

/*
 * A file that gives flags their values: a JSON object whose keys are flags without their dashes, `{"listen":
 * "127.0.0.1:7100", "heartbeat-ms": 50}`. Named by --config or KEYCHAINDB_CONFIG. A flag wins over the environment, that
 * over the file, the file over the default.
 */

const configVariable = 'KEYCHAINDB_CONFIG';

/** Gives the command that `argv` (without node and script) names what its file says. Throws KeychainError BAD_REQUEST. */
export function applyConfigFile(root: Command, argv: readonly string[]): void {
  const file = fileIn(argv) ?? process.env[configVariable];
  if (file === undefined || file === '') return;
  const command = commandIn(root, argv);
  for (const [key, value] of Object.entries(objectIn(file))) give(command, key, value, file);
}

function fileIn(argv: readonly string[]): string | undefined {
  const at = argv.findIndex((word) => word === '--config' || word.startsWith('--config='));
  if (at < 0) return undefined;
  const word = argv[at] ?? '';
  return word === '--config' ? argv[at + 1] : word.slice('--config='.length);
}

/** Subcommands come before anything else. */
function commandIn(root: Command, argv: readonly string[]): Command {
  let command = root;
  for (const word of argv) {
    const next = command.commands.find((c) => c.name() === word);
    if (next === undefined) break;
    command = next;
  }
  return command;
}

function objectIn(file: string): Readonly<Record<string, unknown>> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw bad(`the config file ${file} can't be read: ${String(error)}`, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw bad(`the config file ${file} is not JSON: ${String(error)}`, error);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw bad(`the config file ${file} holds no JSON object`);
  }
  return value as Readonly<Record<string, unknown>>;
}

function give(command: Command, key: string, value: unknown, file: string): void {
  const options = command.options.filter((o) => o.long !== '--config');
  const option = options.find((o) => o.long === `--${key}`);
  if (option === undefined) {
    const names = options.map((o) => o.long?.slice(2) ?? '');
    const near = nearest(key, names);
    const hint = near === undefined ? `it may have ${names.join(', ')}` : `is "${near}" meant?`;
    throw bad(`${file}: ${command.name()} has no setting "${key}": ${hint}`);
  }
  command.setOptionValueWithSource(
    option.attributeName(),
    parsed(option, key, value, file),
    'config',
  );
}

function parsed(option: Option, key: string, value: unknown, file: string): unknown {
  if (option.isBoolean()) {
    if (typeof value === 'boolean') return value;
    throw bad(`${file}: "${key}" is true or false`);
  }
  const text = textOf(value);
  if (text === undefined) throw bad(`${file}: "${key}" is a text, a number or a list of texts`);
  if (option.argChoices !== undefined && !option.argChoices.includes(text)) {
    throw bad(`${file}: "${key}" is one of ${option.argChoices.join(', ')}, not "${text}"`);
  }
  if (option.parseArg === undefined) return text;
  try {
    return option.parseArg(text, undefined);
  } catch (error) {
    const why = error instanceof CommanderError || error instanceof Error ? error.message : '';
    throw bad(`${file}: "${key}": "${text}" is not taken: ${why}`, error);
  }
}

function textOf(value: unknown): string | undefined {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) return undefined;
  return value.join(',');
}

function bad(message: string, cause?: unknown): KeychainError {
  return new KeychainError('BAD_REQUEST', message, { field: 'config' }, cause);
}

/** The name that differs by the fewest letters, where those are not too many. */
function nearest(key: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((name) => ({ name, distance: distance(key, name) }))
    .sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= Math.max(2, key.length / 3) ? best.name : undefined;
}

/** Letters to insert, delete or change (Levenshtein 1966). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const changed = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(changed, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

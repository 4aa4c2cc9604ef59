import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import t from 'tap';
import { allReasons, httpNumber, KeychainError, statusNumber } from '../src/base/errors.js';
import { exitCodes } from '../src/cmd/exit-codes.js';
import { program } from '../src/cmd/program.js';
import { httpStatusOf } from '../src/proxy/json.js';
import { routes } from '../src/proxy/routes.js';

/* docs/names.md is the one list of public names: what the program has stands there, and the other way round. */
const root = fileURLToPath(new URL('../..', import.meta.url));
const names = readFileSync(join(root, 'docs/names.md'), 'utf8');

t.test('every reason stands in the table of errors, with its status and HTTP number', async (t) => {
  for (const reason of allReasons) {
    const error = new KeychainError(reason, '');
    const row = names.split('\n').find((line) => line.startsWith(`| ${error.status} `));
    t.match(row, new RegExp(`\\b${reason}\\b`), reason);
    t.match(row, new RegExp(`\\| ${httpNumber[error.status]} `), error.status);
    t.ok(statusNumber[error.status] > 0);
  }
  const table = names.slice(names.indexOf('## Errors'), names.indexOf('An error without'));
  for (const word of table.match(/\b[A-Z]+_[A-Z_]+\b/g) ?? []) {
    const isStatus = Object.hasOwn(statusNumber, word);
    t.ok(isStatus || allReasons.some((reason) => reason === word), word);
  }
  t.equal(httpStatusOf(new KeychainError('CONDITION_FAILED', '')), 412);
});

t.test('every verb and flag stands in the list', async (t) => {
  const walk = (command: Command, path: string): void => {
    for (const sub of command.commands) {
      const name = `${path}${sub.name()}`;
      if (sub.commands.length === 0) t.ok(names.includes(name), name);
      for (const { long } of sub.options) {
        if (long !== undefined && long !== null) t.ok(names.includes(long), `${name} ${long}`);
      }
      walk(sub, `${name} `);
    }
  };
  walk(program(), '');
});

t.test('every flag has its environment variable', async (t) => {
  const walk = (command: Command): void => {
    for (const sub of command.commands) {
      for (const option of sub.options) {
        const variable = `KEYCHAINDB_${option.name().toUpperCase().replaceAll('-', '_')}`;
        t.equal(option.envVar, variable);
      }
      walk(sub);
    }
  };
  walk(program());
});

t.test('every route stands in the list', async (t) => {
  const paths = new Map([
    ['/v1/keys/', '/v1/keys/{key}'],
    ['/v1/chain/members/', '/v1/chain/members/{id}'],
  ]);
  for (const { method, path } of routes) {
    const shown = paths.get(path) ?? path;
    const isProbe = /^\/(livez|readyz|healthz|metrics)/.test(path);
    t.ok(names.includes(isProbe ? shown : `${method} ${shown}`), `${method} ${path}`);
  }
});

t.test('every call of every service stands in the list', async (t) => {
  const dir = join(root, 'proto/keychaindb/v1');
  for (const file of readdirSync(dir)) {
    const text = readFileSync(join(dir, file), 'utf8');
    for (const [, service, body] of text.matchAll(/^service (\w+) \{([\s\S]*?)^\}/gm)) {
      t.ok(names.includes(`\`${service}\``), service ?? '');
      const isPublic = service === 'KV' || service === 'Coordinator';
      for (const [, call] of (body ?? '').matchAll(/rpc (\w+)/g)) {
        if (isPublic && call !== 'Heartbeat') t.match(names, new RegExp(`\\b${call}\\b`));
      }
    }
  }
});

t.test('the exit codes are those of the list', async (t) => {
  const line = names.slice(names.indexOf('Exit codes:')).split('\n\n')[0] ?? '';
  const listed = [...line.matchAll(/(\d+) /g)].map(([, code]) => Number(code));
  t.same(new Set(Object.values(exitCodes)), new Set(listed));
});

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { applyConfigFile } from '../../src/cmd/config-file.js';
import { program } from '../../src/cmd/program.js';
import { refusal } from '../refusal.js';

const main = fileURLToPath(new URL('../../src/cmd/main.js', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'keychaindb-config-'));
t.teardown(() => rmSync(dir, { recursive: true }));

function fileOf(content: unknown): string {
  const file = join(dir, `${Math.random()}.json`);
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

/** What a verb would run with. */
async function valuesOf(
  verb: string,
  content: unknown,
  args: readonly string[] = [],
): Promise<Readonly<Record<string, unknown>>> {
  const root = program();
  const file = fileOf(content);
  const argv = [verb, ...args, '--config', file];
  applyConfigFile(root, argv);
  const command = root.commands.find((c) => c.name() === verb);
  let values: Record<string, unknown> = {};
  command?.action(function (this: typeof command) {
    values = this?.opts() ?? {};
  } as never);
  await root.parseAsync(argv, { from: 'user' });
  return values;
}

const node = {
  id: 'n1',
  listen: '127.0.0.1:1',
  http: '127.0.0.1:2',
  'data-dir': '/tmp/n1',
  coordinators: ['127.0.0.1:3', '127.0.0.1:4'],
};

t.test('a file gives flags their values, mandatory ones too', async (t) => {
  const values = await valuesOf('node', { ...node, 'heartbeat-ms': 70, join: true });
  t.match(values, { id: 'n1', heartbeatMs: 70, join: true, dataDir: '/tmp/n1' });
  t.same(values['coordinators'], ['127.0.0.1:3', '127.0.0.1:4']);
  t.equal(values['leaseMs'], 400, 'the default of what it does not name');
});

t.test('a flag wins over the environment, that over the file', async (t) => {
  process.env['KEYCHAINDB_LEASE_MS'] = '2000';
  t.teardown(() => delete process.env['KEYCHAINDB_LEASE_MS']);
  const content = { ...node, 'heartbeat-ms': 70, 'lease-ms': 3000, 'detection-ms': 900 };
  const values = await valuesOf('node', content, ['--heartbeat-ms', '80']);
  t.match(values, { heartbeatMs: 80, leaseMs: 2000, detectionMs: 900 });
});

t.test('a key that there is not is refused, with the one that was meant', async (t) => {
  await t.rejects(valuesOf('node', { ...node, 'hartbeat-ms': 70 }), /is "heartbeat-ms" meant\?/);
  await t.rejects(
    valuesOf('node', { ...node, colour: 'red' }),
    /no setting "colour": it may have id/,
  );
  await t.rejects(valuesOf('get', { listen: '127.0.0.1:1' }, ['key']), refusal('BAD_REQUEST'));
});

t.test('what a flag would not take a file may not say', async (t) => {
  await t.rejects(valuesOf('node', { ...node, 'heartbeat-ms': 'often' }), /whole number/);
  await t.rejects(valuesOf('node', { ...node, listen: 'nowhere' }), /HOST:PORT/);
  await t.rejects(valuesOf('node', { ...node, join: 'yes' }), /true or false/);
  await t.rejects(valuesOf('node', { ...node, id: { name: 'n1' } }), /a text, a number/);
  await t.rejects(valuesOf('get', { output: 'xml' }, ['key']), /one of table, json/);
  await t.rejects(valuesOf('node', '{"id": '), /is not JSON/);
  await t.rejects(valuesOf('node', '[]'), /no JSON object/);
});

t.test('a file that is not there ends the program with 2', async (t) => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [main, 'status', '--config', '/nowhere.json'],
    {
      encoding: 'utf8',
    },
  );
  t.equal(status, 2);
  t.match(stderr, /BAD_REQUEST: the config file \/nowhere.json can't be read/);
});

t.test('shells learn the verbs and flags', async (t) => {
  const scriptOf = (shell: string): string =>
    spawnSync(process.execPath, [main, 'completion', shell], { encoding: 'utf8' }).stdout;
  const asked = (words: readonly string[]): string => {
    const list = words.map((word) => `'${word}'`).join(' ');
    const script = `${scriptOf('bash')}\nCOMP_WORDS=(${list}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _keychaindb; echo "\${COMPREPLY[*]}"`;
    return spawnSync('bash', ['-c', script], { encoding: 'utf8' }).stdout.trim();
  };
  t.equal(asked(['keychaindb', 'sta']), 'status');
  t.equal(asked(['keychaindb', 'chain', 'ad']), 'add');
  t.equal(asked(['keychaindb', 'node', '--heart']), '--heartbeat-ms');
  t.equal(asked(['keychaindb', 'get', 'key', '--nod']), '--node');
  t.match(scriptOf('zsh'), /bashcompinit/);
  t.match(scriptOf('fish'), /complete -c keychaindb .* -a status/);
  t.equal(spawnSync(process.execPath, [main, 'completion', 'tcsh']).status, 2);
});

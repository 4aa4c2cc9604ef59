import { spawnSync } from 'node:child_process';
import t from 'tap';
import { completion, shellNames } from '../../src/cmd/completion.js';
import { program } from '../../src/cmd/program.js';

/* The scripts, run by the shells that are on this machine. */

/** A line as it stands when Tab is pressed, and what of it must be offered. */
const lines: readonly (readonly [line: string, offered: string])[] = [
  ['keychaindb ', 'status'],
  ['keychaindb cha', 'chain'],
  ['keychaindb chain ', 'reorder'],
  ['keychaindb cluster tr', 'transfer'],
  ['keychaindb chain add n1 127.0.0.1:1 --sp', '--spare'],
  ['keychaindb wait --for ', 'healthy'],
  ['keychaindb wait --for healthy --time', '--timeout'],
  ['keychaindb status -o ', 'json'],
  ['keychaindb completion ', 'fish'],
];

const has = (shell: string): boolean => spawnSync(shell, ['-c', 'true']).status === 0;

t.test('bash completes verbs, flags and what they take', { skip: !has('bash') }, async (t) => {
  for (const [line, offered] of lines) {
    const script = `${completion(program(), 'bash')}
COMP_WORDS=(${line.replace(/ $/, " ''")}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
_keychaindb; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8' });
    t.equal(stderr, '', line);
    t.ok(stdout.split('\n').includes(offered), `${line}: ${stdout}`);
  }
});

t.test('fish does', { skip: !has('fish') }, async (t) => {
  for (const [line, offered] of lines) {
    const script = `${completion(program(), 'fish')}\ncomplete -C '${line}'`;
    const { stdout } = spawnSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' });
    t.ok(
      stdout.split('\n').some((each) => each.split('\t')[0] === offered),
      `${line}: ${stdout}`,
    );
  }
});

t.test('every script is one that its shell reads', async (t) => {
  for (const shell of shellNames) {
    const script = completion(program(), shell);
    t.match(script, 'keychaindb');
    if (!has(shell)) continue;
    t.equal(spawnSync(shell, ['-n'], { input: script }).status, 0, shell);
  }
});

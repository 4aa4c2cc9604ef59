import { execFile } from 'node:child_process';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { main } from '../../tools/lab/cluster.js';
import { writeLedgerSample } from '../../tools/lab/ledger-sample.js';

/* docs/log-tools.md shows what the commands print. */

const text = readFileSync(
  fileURLToPath(new URL('../../../docs/log-tools.md', import.meta.url)),
  'utf8',
);

interface Sample {
  readonly command: string;
  readonly output: readonly string[];
}

function samplesOf(markdown: string): readonly Sample[] {
  const samples: { command: string; output: string[] }[] = [];
  for (const [, block] of markdown.matchAll(/^```console\n([\s\S]*?)^```/gm)) {
    for (const line of (block ?? '').trimEnd().split('\n')) {
      if (line.startsWith('$ ')) samples.push({ command: line.slice(2), output: [] });
      else samples.at(-1)?.output.push(line);
    }
  }
  return samples;
}

function shell(command: string, cwd: string): Promise<readonly string[]> {
  const program = `keychaindb() { "${process.execPath}" "${main}" "$@" 2>&1; }; ${command}`;
  return new Promise((resolve) => {
    execFile('/bin/sh', ['-c', program], { cwd }, (_error, stdout) => resolve(stdout.split('\n')));
  });
}

t.test('the commands of the walk-through print what it shows', async (t) => {
  const dir = t.testdir();
  await writeLedgerSample(join(dir, 'node-1'));
  cpSync(join(dir, 'node-1'), join(dir, 'node-2'), { recursive: true });
  const samples = samplesOf(text);
  t.ok(samples.length >= 6);
  for (const { command, output } of samples) {
    const printed = await shell(command, dir);
    let at = 0;
    for (const line of output) {
      if (line === '…') continue;
      const found = printed.indexOf(line, at);
      if (found < 0) t.fail(`${command}: "${line}" is not printed:\n${printed.join('\n')}`);
      at = found + 1;
    }
    t.ok(at > 0, command);
  }
});

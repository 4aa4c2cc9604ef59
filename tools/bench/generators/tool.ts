import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Tools under way: they end with the run. */
const running = new Set<ChildProcess>();

export function endTools(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** Runs a program to its end. Its CPU is what this process' ended children took meanwhile: run one at a time. */
export async function runTools(
  lines: readonly (readonly string[])[],
): Promise<readonly [outputs: readonly string[], cpuMs: number]> {
  const before = endedChildrenCpuMs();
  const outputs = await Promise.all(lines.map((line) => output(line)));
  return [outputs, endedChildrenCpuMs() - before];
}

function output([command = '', ...args]: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      running.delete(child);
      if (code === 0) resolve(stdout);
      else reject(new Error(`${command} ended with ${code}: ${stderr.slice(-500)}`));
    });
  });
}

/** cutime and cstime: of children that ended and were waited for. */
function endedChildrenCpuMs(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

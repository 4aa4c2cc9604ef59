/*
 * Runs every built test file, two at a time, and ends on the line "N passed, N failed". Each file is a process
 * of its own that speaks TAP; one that ends without its plan, or too late, has failed.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Parser } from 'tap-parser';

const root = fileURLToPath(new URL('../test', import.meta.url));
const only = process.argv.slice(2);
/** Files that load the machine run alone, at the end: their processes would slow each other. */
const alone = /integration|sim\.test/;
const fileMs = 600_000;

interface Outcome {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
}

function filesIn(dir: string): readonly string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .filter((file) => only.length === 0 || only.some((part) => file.includes(part)))
    .sort();
}

function runFile(file: string): Promise<Outcome> {
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', join(root, file)], {
      env: { ...process.env, TAP_TIMEOUT: '600' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), fileMs);
    let passed = 0;
    let failed = 0;
    let output = '';
    const parser = new Parser();
    const count = (of: Parser): void => {
      of.on('child', count);
      of.on('assert', (result: { ok: boolean; name: string }) => {
        const isSubtest = /# time=/.test(result.name);
        if (isSubtest) return;
        if (result.ok) passed += 1;
        else failed += 1;
      });
    };
    count(parser);
    let isOk = false;
    parser.on('complete', (results: { ok: boolean }) => {
      isOk = results.ok;
    });
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      parser.write(chunk.toString());
    });
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      parser.end();
      if ((code !== 0 || !isOk) && failed === 0) failed = 1;
      const seconds = ((performance.now() - started) / 1_000).toFixed(1);
      process.stdout.write(`${file}: ${passed} passed, ${failed} failed (${seconds} s)\n`);
      if (failed > 0) process.stdout.write(`${output}\n`);
      resolve({ file, passed, failed });
    });
  });
}

async function runAll(files: readonly string[], jobs: number): Promise<readonly Outcome[]> {
  const waiting = [...files];
  const outcomes: Outcome[] = [];
  await Promise.all(
    Array.from({ length: jobs }, async () => {
      for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
        outcomes.push(await runFile(file));
      }
    }),
  );
  return outcomes;
}

const files = filesIn(root);
const outcomes = [
  ...(await runAll(
    files.filter((file) => !alone.test(file)),
    2,
  )),
  ...(await runAll(
    files.filter((file) => alone.test(file)),
    1,
  )),
];
const passed = outcomes.reduce((sum, outcome) => sum + outcome.passed, 0);
const failed = outcomes.reduce((sum, outcome) => sum + outcome.failed, 0);
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;

/*
 * Puts one defect after the other into a copy of the build and prints what notices it, as a table:
 * node dist/tools/mutants.js [--only TEXT] [--rooms A,B] [--seeds N] [--seconds S] [--states N] [--jobs J].
 * Each is type-checked, run through the example-based tests of its room, hunted by search and simulator, and hunted
 * once more with the rooms' own assertions off. Exit code 1 where one is not caught.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import ts from 'typescript';
import type { Catch } from '../test/mutants/hunt.js';
import { type Mutant, mutants, redundant } from '../test/mutants/mutants.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rooms: { type: 'string' },
    seeds: { type: 'string', default: '300' },
    seconds: { type: 'string', default: '60' },
    states: { type: 'string', default: '20000' },
    jobs: { type: 'string', default: '2' },
  },
});
const root = fileURLToPath(new URL('../..', import.meta.url));
const print = (line: string): boolean => process.stdout.write(`${line}\n`);

/** The example-based tests of each room. */
const roomTests: Readonly<Record<string, readonly string[]>> = {
  raft: ['raft/core.test.js', 'raft/lost-folder.test.js'],
  coordinator: ['coordinator/registry.test.js', 'coordinator/detector.test.js'],
  chain: [
    'chain/core.test.js',
    'chain/snapshot.test.js',
    'chain/open-store.test.js',
    'sim/snapshot.test.js',
    'chain/compare.test.js',
    'chain/state-chunk.test.js',
    'chain/commit-changes.test.js',
    'chain/objects.test.js',
  ],
  log: ['log/damage.test.js', 'log/data-folder.test.js', 'log/engine.test.js'],
  retry: ['retry/retry.test.js', 'retry/request-ids.test.js'],
};

/** Type checks the sources as a mutant would have them; its own unused names are no fault. */
class Types {
  readonly #service: ts.LanguageService;
  readonly #texts = new Map<string, { readonly text: string; readonly version: number }>();
  readonly options: ts.CompilerOptions;
  #version = 1;

  constructor() {
    const path = join(root, 'tsconfig.json');
    const read = ts.readConfigFile(path, ts.sys.readFile);
    const parsed = ts.parseJsonConfigFileContent(read.config, ts.sys, root);
    this.options = { ...parsed.options, noUnusedLocals: false, noUnusedParameters: false };
    const host: ts.LanguageServiceHost = {
      getCompilationSettings: () => this.options,
      getScriptFileNames: () => parsed.fileNames,
      getScriptVersion: (file) => String(this.#texts.get(file)?.version ?? 0),
      getScriptSnapshot: (file) => {
        const text = this.#texts.get(file)?.text ?? ts.sys.readFile(file);
        return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text);
      },
      getCurrentDirectory: () => root,
      getDefaultLibFileName: ts.getDefaultLibFilePath,
      fileExists: ts.sys.fileExists,
      readFile: ts.sys.readFile,
      readDirectory: ts.sys.readDirectory,
      directoryExists: ts.sys.directoryExists,
    };
    this.#service = ts.createLanguageService(host);
  }

  /** What is wrong with these texts, or ''. */
  faults(texts: ReadonlyMap<string, string>): string {
    this.#version += 1;
    for (const [file, text] of texts) this.#texts.set(file, { text, version: this.#version });
    const found = [...texts.keys()].flatMap((file) => [
      ...this.#service.getSyntacticDiagnostics(file),
      ...this.#service.getSemanticDiagnostics(file),
    ]);
    for (const file of texts.keys()) {
      this.#version += 1;
      this.#texts.set(file, { text: readFileSync(file, 'utf8'), version: this.#version });
    }
    const [first] = found;
    return first === undefined ? '' : ts.flattenDiagnosticMessageText(first.messageText, ' ');
  }
}

/** The sources that a mutant changes, by path. */
function patched({ name, edits }: Mutant): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const { file, find, put } of edits) {
    const path = join(root, 'src', file);
    const text = texts.get(path) ?? readFileSync(path, 'utf8');
    const parts = text.split(find);
    if (parts.length !== 2) throw new Error(`${name}: found ${parts.length - 1} times in ${file}`);
    texts.set(path, parts.join(put));
  }
  return texts;
}

/** A copy of the build with a defect. */
function build(texts: ReadonlyMap<string, string>, options: ts.CompilerOptions): string {
  const dir = mkdtempSync(join(tmpdir(), 'mutant-'));
  cpSync(join(root, 'dist'), join(dir, 'dist'), { recursive: true });
  for (const name of ['node_modules', 'package.json', 'src', 'test', 'docs', 'proto']) {
    symlinkSync(join(root, name), join(dir, name));
  }
  for (const [path, text] of texts) {
    const { outputText } = ts.transpileModule(text, {
      // It is one of our modules, wherever it stands.
      compilerOptions: { ...options, module: ts.ModuleKind.ESNext },
      fileName: path,
    });
    const below = path.slice(join(root, 'src').length + 1).replace(/\.ts$/, '.js');
    writeFileSync(join(dir, 'dist/src', below), outputText);
  }
  return dir;
}

function withoutAssertions(dir: string): void {
  const path = join(dir, 'dist/src/base/assert.js');
  const text = readFileSync(path, 'utf8').replace('if (!condition)', 'if (false && !condition)');
  writeFileSync(path, text);
}

function run(
  dir: string,
  args: readonly string[],
  milliseconds: number,
  env: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number | null; readonly output: string; readonly late: boolean }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, {
      cwd: dir,
      env: { ...process.env, TAP_TIMEOUT: '120', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, milliseconds);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, output, late });
    });
  });
}

/** The first example-based test of its rooms that fails, or ''. */
async function failingTest(dir: string, { edits }: Mutant): Promise<string> {
  const rooms = new Set(edits.map(({ file }) => file.split('/')[0] ?? ''));
  for (const room of rooms) {
    for (const file of roomTests[room] ?? []) {
      const { code, output } = await run(dir, [join('dist/test', file)], 60_000);
      if (code === 0) continue;
      const [, name = file] = /^not ok \d+ - (.*?)( # time.*)?$/m.exec(output) ?? [];
      return name;
    }
  }
  return '';
}

async function hunt(
  dir: string,
  { edits }: Mutant,
  env: Readonly<Record<string, string>>,
): Promise<Hunted> {
  const room = edits[0]?.file.split('/')[0] ?? '';
  const { seeds, seconds, states } = values;
  // Scripts, walks and the search come before the seeds, and take minutes on a busy machine: who is late hangs.
  const limit = (Number(seconds) + 600) * 1_000;
  const args = ['dist/test/mutants/hunt.js', room, seeds, seconds, states];
  const { output, late, code } = await run(dir, args, limit, env);
  const lines = output.trim().split('\n');
  const last = lines.at(-1) ?? '';
  const found = last === '' ? {} : (JSON.parse(last) as Catch);
  const fell = !late && code !== 0;
  return {
    ...found,
    ...(late ? { hung: true } : undefined),
    ...(fell ? { fell: true } : undefined),
  };
}

type Hunted = Catch & {
  /** It never ended. */
  readonly hung?: boolean;
  /** An error that nothing holds ended the process. */
  readonly fell?: boolean;
};

interface Row {
  readonly mutant: Mutant;
  readonly types: string;
  readonly test: string;
  readonly on: Hunted;
  readonly off: Hunted;
}

function isCaught({ seeds, walks, script, actions, hung, fell }: Hunted): boolean {
  const ways = [seeds, walks, script, actions];
  return ways.some((way) => way !== undefined) || hung === true || fell === true;
}

/** By a checker that looks from outside: not by an assertion, nor because the defect fell over itself. */
function isSeen({ checker, walkChecker, scriptChecker, searchChecker }: Hunted): boolean {
  const own = ['assertion', 'crash', undefined];
  return [checker, walkChecker, scriptChecker, searchChecker].some((by) => !own.includes(by));
}

function said(hunted: Hunted): string {
  const { seeds, checker, walks, walkChecker, script, scriptChecker } = hunted;
  const { actions, searchChecker, hung, fell } = hunted;
  const parts: string[] = [];
  if (seeds !== undefined) parts.push(`${seeds} (${checker})`);
  if (actions !== undefined) parts.push(`search: ${actions} actions (${searchChecker})`);
  if (walks !== undefined) parts.push(`${walks} walks (${walkChecker})`);
  if (script !== undefined) parts.push(`script (${scriptChecker})`);
  if (hung === true) parts.push('hangs');
  if (fell === true) parts.push('falls over itself');
  return parts.length === 0 ? 'not caught' : parts.join('; ');
}

function lineOf({ mutant, types: fault, test, on, off }: Row): string {
  const room = fault !== '' ? `types: ${fault}` : test === '' ? 'nothing' : `test: ${test}`;
  return `| ${mutant.name} | ${mutant.rule} | ${room} | ${said(on)} | ${said(off)} |`;
}

const types = new Types();
const rooms = values.rooms?.split(',');
const chosen = mutants.filter(
  ({ name, edits }) =>
    (values.only === undefined || name.includes(values.only)) &&
    (rooms === undefined || rooms.includes(edits[0]?.file.split('/')[0] ?? '')),
);
const rows: (Row | undefined)[] = chosen.map(() => undefined);

async function work(index: number, mutant: Mutant): Promise<void> {
  const texts = patched(mutant);
  const fault = types.faults(texts);
  const dir = build(texts, types.options);
  try {
    const test = await failingTest(dir, mutant);
    const on = await hunt(dir, mutant, {});
    withoutAssertions(dir);
    const off = await hunt(dir, mutant, { HUNT_ONCE: '1' });
    const row = { mutant, types: fault, test, on, off };
    rows[index] = row;
    // A run of all takes an hour and more: what it has found is there when it is cut short.
    process.stderr.write(`${lineOf(row)}\n`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const waiting = [...chosen.entries()];
await Promise.all(
  Array.from({ length: Number(values.jobs) }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      await work(...next);
  }),
);
const done = rows.filter((row) => row !== undefined);
print('| defect | breaks | its room says | seeds until caught (by) | with assertions off |');
print('| --- | --- | --- | --- | --- |');
for (const row of done) print(lineOf(row));
const caught = done.filter(({ on }) => isCaught(on)).length;
const seen = done.filter(({ off }) => isSeen(off)).length;
const quiet = done.filter(({ types: fault, test }) => fault === '' && test === '').length;
if (values.only === undefined && rooms === undefined) {
  print('');
  print('| redundant on purpose | breaks | why nothing else does |');
  print('| --- | --- | --- |');
  for (const { name, rule, why } of redundant) print(`| ${name} | ${rule} | ${why} |`);
}
print('');
print(
  `${done.length} defects: ${caught} caught, ${seen} of them with the rooms' assertions off; ${quiet} pass the types and the example-based tests of their rooms`,
);
process.exit(caught === done.length ? 0 : 1);

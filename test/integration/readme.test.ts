import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Lab } from '../../tools/lab/cluster.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const main = fileURLToPath(new URL('../../src/cmd/main.js', import.meta.url));
const readme = readFileSync(`${root}/README.md`, 'utf8');

/** The samples of one language, in order. */
function samples(language: string): readonly string[] {
  const blocks = readme.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'));
  return [...blocks].map(([, text = '']) => text);
}

function shell(command: string, env: NodeJS.ProcessEnv): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    execFile(
      'sh',
      ['-c', command],
      { env: { ...process.env, ...env }, cwd: root },
      (error, out, err) =>
        resolve({ code: typeof error?.code === 'number' ? error.code : 0, output: out + err }),
    );
  });
}

t.test('every sample of the README runs', async (t) => {
  const lab = await Lab.start();
  t.teardown(() => lab.stop());
  const [proxy] = lab.of('proxy');
  const here = (text: string): string =>
    text
      .replaceAll('127.0.0.1:7480', proxy?.http ?? '')
      .replaceAll('127.0.0.1:7400', proxy?.grpc ?? '')
      .replaceAll('127.0.0.1:7108', lab.named('node-2').grpc)
      .replaceAll('npx keychaindb', `${process.execPath} ${main}`)
      .replaceAll('keychaindb-data', lab.dir)
      .replaceAll('<pid of node-1>', String(lab.named('node-1').pid))
      .replaceAll('curl ', 'curl -sS --fail-with-body ');
  const env = { KEYCHAINDB_ENDPOINTS: proxy?.grpc };
  const lines = samples('sh')
    .flatMap((block) => block.split('\n'))
    // The two commands of a fresh machine are what CI does.
    .filter((line) => line !== '' && !line.startsWith('npm '));
  t.ok(lines.length > 10);
  await shell(here('npx keychaindb put greeting hello'), env);
  for (const line of lines) {
    const isGone = line.includes('get greeting') || line.endsWith('/v1/keys/greeting');
    if (isGone) await shell(here('npx keychaindb put greeting hello'), env);
    const { code, output } = await shell(here(line), env);
    // While node-1 is dead and another is added, the status names a problem.
    t.ok(code === 0, line, { output });
  }
  const [sample = ''] = samples('ts');
  // Within the package its own name resolves to its exports.
  const file = `${root}/dist/readme-sample.mjs`;
  writeFileSync(file, here(sample));
  const { code, output } = await shell(`${process.execPath} ${file}`, {});
  t.equal(code, 0, output);
  t.equal(output, 'hello\n');
});

t.test('every file that the README names is there', async (t) => {
  for (const [, path = ''] of readme.matchAll(/\]\(([^)#]+)\)/g)) {
    t.doesNotThrow(() => readFileSync(`${root}/${path.endsWith('/') ? 'README.md' : path}`), path);
  }
});

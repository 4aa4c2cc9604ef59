import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { pause, systemClock } from '../../src/base/clock.js';
import { keyBytesMaxDefault, valueBytesMaxDefault } from '../../src/base/limits.js';
import { timingDefault } from '../../src/base/timing.js';
import type { NodeFlags } from '../../src/cmd/node.js';
import { MemberState } from '../../src/gen/keychaindb/v1/coordinator.js';
import type { StatusReport } from '../../src/proxy/status.js';
import { Lab, main } from '../../tools/lab/cluster.js';

/* A node of another version beside a cluster of this one. */

const lab = await Lab.start({ nodes: 1 });
t.teardown(() => lab.stop());
const coordinators = lab.of('coordinator');

/** A process that says it speaks another version; its log goes to what is returned. */
function node(id: string, dataDir: string, protocol: { major: number; minor: number }) {
  const flags: NodeFlags = {
    ...timingDefault,
    ...{ id, dataDir, listen: '127.0.0.1:0', http: '127.0.0.1:0', join: true },
    coordinators: coordinators.map(({ grpc }) => grpc),
    ...{ keyBytesMax: keyBytesMaxDefault, valueBytesMax: valueBytesMaxDefault },
    ...{ otlpProtocol: 'http', traceContent: 0, compareInterval: 60_000, compareShare: 0.02 },
    ...{ slow: 1_000, logLevel: 'info', objectCacheBytes: 0 },
    ...{ logBytesMax: 256 << 20, compactionShare: 0.2 },
  };
  const script = `import { runNode } from ${JSON.stringify(new URL('../../src/cmd/node.js', import.meta.url).href)};
    await runNode(${JSON.stringify(flags)}, ${JSON.stringify(protocol)});
    process.exit();`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const lines: string[] = [];
  child.stderr?.setEncoding('utf8').on('data', (text: string) => lines.push(text));
  return { child, log: () => lines.join('') };
}

async function ended(child: ChildProcess): Promise<void> {
  child.kill('SIGTERM');
  if (child.exitCode === null) await once(child, 'exit');
}

function statusNow(): Promise<{ readonly code: number; readonly report: StatusReport }> {
  const [proxy] = lab.of('proxy');
  const line = [main, 'status', '-o', 'json', '--endpoints', proxy?.grpc ?? ''];
  return new Promise((resolve) => {
    execFile(process.execPath, line, (error, stdout) =>
      resolve({
        code: Number(error?.code ?? 0),
        report: JSON.parse(stdout) as StatusReport,
      }),
    );
  });
}

const refusalsIn = (log: string): number => log.match(/"VERSION_UNKNOWN"/g)?.length ?? 0;

t.test('a node of a newer minor version joins, serves, and leaves', async (t) => {
  const { child } = node('newer', join(t.testdir(), 'newer'), { major: 1, minor: 7 });
  t.teardown(() => child.kill('SIGKILL'));
  await lab.until('both serve', ({ members }) => {
    const serving = members.filter(({ state }) => state === MemberState.SERVING);
    return serving.length === 2;
  });
  const client = lab.client();
  await client.put('greeting', 'hello');
  const found = await client.get('greeting', { node: 'newer' });
  t.equal(Buffer.from(found?.value ?? []).toString(), 'hello');
  await ended(child);
});

t.test('a node of another major version is refused, and status says so', async (t) => {
  const before = (await statusNow()).report.epoch;
  const { child, log } = node('next', join(t.testdir(), 'next'), { major: 2, minor: 0 });
  t.teardown(() => child.kill('SIGKILL'));
  let now = await statusNow();
  while (!now.report.problems.some(({ kind }) => kind === 'version-unknown')) {
    now = await statusNow();
  }
  t.equal(now.code, 6);
  t.match(
    now.report.problems.filter(({ kind }) => kind === 'version-unknown'),
    [
      {
        id: 'node next',
        message:
          /^node next speaks protocol 2\.0, coordinator \S+ speaks 1\.1: they exchange nothing$/,
        command: /^upgrade coordinator \S+, or start node next with the program/,
      },
    ],
  );
  t.equal(now.report.epoch, before, 'the chain is as it was');
  const found = await lab.client().get('greeting');
  t.equal(Buffer.from(found?.value ?? []).toString(), 'hello');
  const logs = (): readonly number[] =>
    coordinators.map(({ id }) => refusalsIn(readFileSync(join(lab.dir, `${id}.log`), 'utf8')));
  // Each of them hears from it many times a second.
  while (logs().includes(0) || refusalsIn(log()) < coordinators.length)
    await pause(systemClock, 50);
  await pause(systemClock, 5 * timingDefault.heartbeatMs);
  t.same(logs(), [1, 1, 1], 'each coordinator says it once');
  t.equal(refusalsIn(log()), coordinators.length, 'so does the node, of each');
  const metrics = await (await fetch(`http://${coordinators[0]?.http}/metrics`)).text();
  t.match(metrics, /^keychaindb_peers_refused\{[^}]*\} 1$/m);
  await ended(child);
});

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HttpShape } from '../protocols.js';
import { type Generated, secondsOf, spread, together, wholeSeconds } from './generator.js';
import { runTools } from './tool.js';

/* wrk: a closed loop over HTTP/1.1, one request at a time on each connection. */

export interface WrkPlan {
  readonly addresses: readonly string[];
  readonly shape: HttpShape;
  readonly keys: readonly string[];
  readonly value: Uint8Array;
  readonly connections: number;
  readonly seconds: number;
}

export async function wrk(plan: WrkPlan): Promise<Generated> {
  const dir = await mkdtemp(join(tmpdir(), 'keychaindb-wrk-'));
  try {
    const script = join(dir, 'requests.lua');
    await writeFile(script, wrkScript(plan));
    const connections = spread(plan.connections, plan.addresses.length);
    const [outputs, cpuMs] = await runTools(
      plan.addresses.map((address, i) => [
        ...['wrk', '-t', '1', '-c', `${connections[i] ?? 1}`, '-d', wholeSeconds(plan.seconds)],
        ...['--latency', '-s', script, `http://${address}/`],
      ]),
    );
    return { ...together(outputs.map(wrkReport)), cpuMs };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Requests made before the run, one for each key, and taken in turn. */
export function wrkScript({ shape, keys, value }: WrkPlan): string {
  const lines = keys.map((key) => {
    const shown = shape.isKeyBase64 ? Buffer.from(key).toString('base64') : key;
    const path = JSON.stringify(shape.path.replace('KEY', encodeURIComponent(shown)));
    const [before = '', after] = shape.body.replace('KEY', shown).split('VALUE');
    const body =
      after === undefined ? quoted(before) : `${quoted(before)} .. value .. ${quoted(after)}`;
    return `requests[#requests + 1] = wrk.format("${shape.method}", ${path}, headers, ${shape.body === '' ? 'nil' : body})`;
  });
  return [
    `local value = "${Buffer.from(value).toString('base64')}"`,
    'local headers = { ["Content-Type"] = "application/json" }',
    'local requests = {}',
    'local turn = 0',
    'function init(args)',
    ...lines.map((line) => `  ${line}`),
    'end',
    'function request()',
    '  turn = turn % #requests + 1',
    '  return requests[turn]',
    'end',
    '',
  ].join('\n');
}

function quoted(text: string): string {
  return `'${text}'`;
}

/** Reads what wrk prints at its end. */
export function wrkReport(text: string): Generated {
  const total = /(\d+) requests in ([\d.]+)(us|ms|s|m)\b/.exec(text);
  if (total === null) throw new Error(`wrk said something else: ${text.slice(-300)}`);
  const answered = Number(total[1]);
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  const lost = [...(/Socket errors: (.*)/.exec(text)?.[1] ?? '').matchAll(/(\d+)/g)].reduce(
    (sum, [count]) => sum + Number(count),
    0,
  );
  return {
    seconds: secondsOf(total[2], total[3]),
    cpuMs: 0,
    answered: answered - refused,
    failed: refused + lost,
  };
}

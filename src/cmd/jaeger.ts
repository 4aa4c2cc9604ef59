import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, open, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { pause, systemClock } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';

/** A Jaeger that the demo runs. */
export interface Jaeger {
  /** Of its collector: OTLP over HTTP. */
  readonly otlp: string;
  /** Of its page. */
  readonly page: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** Milliseconds until its page must answer. */
const readyMs = 20_000;
/** Milliseconds that it may take to end. */
const stopMs = 3_000;
const lookMs = 100;
/** Milliseconds that one answer may take. */
const answerMs = 2_000;

/** `JAEGER_BIN`, or `jaeger` on the PATH; undefined where there is none. */
export async function findJaeger(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const named = env['JAEGER_BIN'];
  const places =
    named === undefined || named === ''
      ? (env['PATH'] ?? '').split(delimiter).map((dir) => join(dir, 'jaeger'))
      : [named];
  for (const place of places) {
    const isThere = await access(place, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return place;
  }
  return undefined;
}

/** Starts a Jaeger v2 with its store in memory. Rejects with BAD_REQUEST where there is none. */
export async function startJaeger(options: {
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly otlpPort: number;
  readonly pagePort: number;
  readonly grpcPort: number;
}): Promise<Jaeger> {
  const { dir, env, otlpPort, pagePort, grpcPort } = options;
  const binary = await findJaeger(env);
  if (binary === undefined) {
    throw new KeychainError(
      'BAD_REQUEST',
      '--jaeger: there is no `jaeger` (version 2) on the PATH: set JAEGER_BIN, or run one (monitoring/compose.yaml) and use --otlp http://127.0.0.1:4318',
      { flag: '--jaeger' },
    );
  }
  const config = join(dir, 'jaeger.yaml');
  await writeFile(config, jaegerConfig({ otlpPort, pagePort, grpcPort }));
  const output = await open(join(dir, 'jaeger.log'), 'a');
  const child = spawn(binary, ['--config', config], { stdio: ['ignore', output.fd, output.fd] });
  await output.close();
  const page = `http://127.0.0.1:${pagePort}`;
  await answers(child, page, dir);
  return {
    otlp: `http://127.0.0.1:${otlpPort}`,
    page,
    pid: child.pid ?? 0,
    stop: () => stopped(child),
  };
}

/** Configuration of Jaeger v2. Clock skew isn't adjusted: hops here are shorter than what it would move. */
export function jaegerConfig(ports: {
  readonly otlpPort: number;
  readonly pagePort: number;
  readonly grpcPort: number;
}): string {
  const { otlpPort, pagePort, grpcPort } = ports;
  return `service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces:
      receivers: [otlp]
      processors: [batch]
      exporters: [jaeger_storage_exporter]
  telemetry:
    metrics:
      level: none
extensions:
  jaeger_query:
    storage:
      traces: memory
    max_clock_skew_adjust: 0s
    http:
      endpoint: 127.0.0.1:${pagePort}
    grpc:
      endpoint: 127.0.0.1:${grpcPort}
  jaeger_storage:
    backends:
      memory:
        memory:
          max_traces: 100000
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:${otlpPort}
processors:
  batch:
exporters:
  jaeger_storage_exporter:
    trace_storage: memory
`;
}

async function answers(child: ChildProcess, page: string, dir: string): Promise<void> {
  let failure: string | undefined;
  child.once('error', (error) => {
    failure = error.message;
  });
  child.once('exit', (code) => {
    failure = `it ended with exit code ${code}`;
  });
  const deadline = performance.now() + readyMs;
  while (performance.now() < deadline && failure === undefined) {
    const signal = AbortSignal.timeout(answerMs);
    const response = await fetch(page, { signal }).catch(() => undefined);
    await response?.arrayBuffer().catch(() => undefined);
    if (response !== undefined) return;
    await pause(systemClock, lookMs);
  }
  child.kill('SIGKILL');
  const why = failure ?? `its page did not answer within ${readyMs / 1_000} s`;
  throw new KeychainError('INTERNAL', `jaeger did not start: ${why}; look into ${dir}/jaeger.log`);
}

function stopped(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    const cancel = systemClock.after(stopMs, () => child.kill('SIGKILL'));
    child.once('exit', () => {
      cancel();
      resolve();
    });
    child.kill('SIGTERM');
  });
}

/*
 * A write to a chain of five through HTTP, with a caller's traceparent, and its trace as `keychaindb trace` draws it:
 * what docs/tracing.md shows.
 * node dist/tools/trace-sample.js
 */
import { execFileSync } from 'node:child_process';
import { Lab, main } from './lab/cluster.js';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const lab = await Lab.start({ nodes: 5 });
try {
  const [proxy] = lab.of('proxy');
  const put = async (headers: Readonly<Record<string, string>>): Promise<void> => {
    const response = await fetch(`http://${proxy?.http}/v1/keys/greeting`, {
      method: 'PUT',
      headers: { 'content-type': 'application/octet-stream', ...headers },
      body: 'hello',
    });
    await response.arrayBuffer();
  };
  // What runs for the first time is slower than it will ever be again.
  for (let n = 0; n < 200; n += 1) await put({});
  await put({ traceparent: `00-${traceId}-b7ad6b7169203331-01` });
  const args = [main, 'trace', '--endpoints', proxy?.grpc ?? '', traceId];
  const drawn = (): string => execFileSync(process.execPath, args).toString();
  let text = drawn();
  for (let n = 0; n < 20 && !text.includes('26 spans'); n += 1) text = drawn();
  process.stdout.write(text);
} finally {
  await lab.stop();
}

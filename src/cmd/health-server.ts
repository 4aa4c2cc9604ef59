import { createServer } from 'node:http';
import { type Metrics, metricsContentType } from '../telemetry/metrics.js';
import { bindError } from '../wire/grpc-server.js';

export interface HealthCheck {
  readonly name: string;
  /** '' where it passes. */
  readonly failed: string;
}

export interface HealthServer {
  readonly address: string;
  close(): Promise<void>;
}

/** /livez, /readyz[?verbose], /healthz and /metrics of a coordinator or a node; a proxy's stand in its gateway. */
export function startHealthServer(
  address: string,
  checks: () => readonly HealthCheck[],
  metrics: Metrics,
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    const send = ({ status, type, body }: Answer): void => {
      const length = Buffer.byteLength(body);
      response.writeHead(status, { 'content-type': type, 'content-length': length });
      response.end(body);
    };
    if (request.url?.split('?')[0] !== '/metrics') {
      send(answer(request.url ?? '/', checks));
      return;
    }
    metrics.text().then(
      (body) => send({ status: 200, type: metricsContentType, body }),
      (error: unknown) => send({ status: 500, type: 'text/plain', body: `${String(error)}\n` }),
    );
  });
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon);
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(bindError(error, address, '--http')));
    server.listen(Number(address.slice(colon + 1)), host, () => {
      const bound = server.address();
      const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
      resolve({
        address: `${host}:${port}`,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

function answer(url: string, checks: () => readonly HealthCheck[]): Answer {
  const plain = 'text/plain; charset=utf-8';
  const [path, query = ''] = url.split('?');
  if (path === '/livez') return { status: 200, type: plain, body: 'ok\n' };
  const all = checks();
  const isReady = all.every(({ failed }) => failed === '');
  const status = isReady ? 200 : 503;
  if (path === '/healthz') {
    const body = `{"status":"${isReady ? 'SERVING' : 'NOT_SERVING'}"}`;
    return { status, type: 'application/json', body };
  }
  if (path === '/readyz') {
    if (isReady && !new URLSearchParams(query).has('verbose')) {
      return { status, type: plain, body: 'ok\n' };
    }
    const lines = all.map(({ name, failed }) =>
      failed === '' ? `[+]${name} ok` : `[-]${name} failed: ${failed}`,
    );
    const body = `${lines.join('\n')}\nreadyz check ${isReady ? 'passed' : 'failed'}\n`;
    return { status, type: plain, body };
  }
  const message = `there is no GET ${path}`;
  const detail = { reason: 'ROUTE_NOT_FOUND', domain: 'keychaindb', metadata: {} };
  const body = JSON.stringify({ code: 5, message, details: [detail] });
  return { status: 404, type: 'application/json', body };
}

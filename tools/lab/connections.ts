import { execFile } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Ends every TCP connection from and to a port of this machine, as the kernel alone can. */
export async function endConnections(port: number): Promise<void> {
  await run('ss', ['-K', 'state', 'established', `( sport = :${port} or dport = :${port} )`]);
}

/** Why the kernel ends no connections here; undefined where it does. */
export async function obstacleToEndConnections(): Promise<string | undefined> {
  const server = createServer((socket) => socket.on('error', () => undefined));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const socket = connect(port, '127.0.0.1');
  try {
    await new Promise((resolve) => socket.once('connect', resolve));
    const ended = isEnded(socket, 1_000);
    await endConnections(port);
    return (await ended) ? undefined : 'this kernel ends no connections for `ss -K`';
  } catch (error) {
    return `ss -K: ${error instanceof Error ? error.message.trim() : String(error)}`;
  } finally {
    socket.destroy();
    server.close();
  }
}

function isEnded(socket: Socket, withinMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.once('close', () => resolve(true));
    setTimeout(() => resolve(false), withinMs).unref();
  });
}

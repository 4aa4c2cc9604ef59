import { type ChildProcess, fork } from 'node:child_process';
import { createServer, type ServerResponse } from 'node:http';
import { fileURLToPath } from 'node:url';

/*
 * A collector that takes OTLP over HTTP and looks at none of it, in a process of its own: what is measured is what it
 * costs to send. Told `hang`, it takes connections and answers nothing.
 */

type Command = 'hang' | 'resume';

export interface Sink {
  readonly url: string;
  readonly pid: number;
  tell(command: Command): void;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
}

const own = fileURLToPath(import.meta.url);

export function startSink(port = 0): Promise<Sink> {
  const child: ChildProcess = fork(own, [String(port)]);
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the sink ended (${code})`)));
    child.once('message', (bound) => {
      resolve({
        url: `http://127.0.0.1:${String(bound)}`,
        pid: child.pid ?? 0,
        tell: (command) => child.send(command),
        kill: () =>
          new Promise((done) => {
            child.once('exit', () => done());
            child.kill('SIGKILL');
          }),
      });
    });
  });
}

if (process.argv[1] === own) {
  let hanging: ServerResponse[] | undefined;
  const server = createServer((request, response) => {
    request.resume();
    request.once('end', () => {
      if (hanging === undefined) response.writeHead(200).end();
      else hanging.push(response);
    });
  });
  process.on('message', (command: Command) => {
    if (command === 'hang') hanging ??= [];
    else {
      for (const response of hanging ?? []) response.writeHead(200).end();
      hanging = undefined;
    }
  });
  process.once('disconnect', () => process.exit(0));
  server.listen(Number(process.argv[2]), '127.0.0.1', () => {
    const address = server.address();
    process.send?.(typeof address === 'object' && address !== null ? address.port : 0);
  });
}

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Counts, Door, ServerProcess, System } from './system.js';

const echo = fileURLToPath(new URL('echo.js', import.meta.url));

export type EchoKind = 'grpc' | 'http';

/** A process that answers reads and writes with messages of the same sizes, and does nothing: what Node costs. */
export class Floor implements System {
  readonly name: string;
  readonly processes: readonly ServerProcess[];
  readonly door: Door;
  readonly #child: ChildProcess;

  private constructor(kind: EchoKind, child: ChildProcess, port: number) {
    this.name = `bare ${kind} echo`;
    this.#child = child;
    this.processes = [{ id: this.name, role: 'echo', pid: child.pid ?? 0 }];
    const address = `127.0.0.1:${port}`;
    this.door = {
      name: this.name,
      protocol: 'keychaindb',
      grpc: kind === 'grpc' ? [address] : [],
      http: kind === 'http' ? [address] : [],
      processes: this.processes,
      counts: () => this.#counts(),
    };
  }

  static async start(kind: EchoKind, valueBytes: number, execPath: string): Promise<Floor> {
    const child = fork(echo, [kind, `${valueBytes}`], { execPath });
    const [port] = (await once(child, 'message')) as [number];
    return new Floor(kind, child, port);
  }

  async #counts(): Promise<Counts> {
    const answer = once(this.#child, 'message');
    this.#child.send('count');
    const [ok] = (await answer) as [number];
    return { OK: ok };
  }

  async stop(): Promise<void> {
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }
}

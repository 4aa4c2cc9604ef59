import type { Writable } from 'node:stream';

/** Characters collected before they go out. */
const chunkMax = 64 << 10;

/** The reader of a pipe has gone: nothing more is wanted. */
export class PipeClosed extends Error {}

/** Lines on their way to a stream: as fast as it takes them, never faster. */
export class Output {
  readonly #stream: Writable;
  #chunk: string[] = [];
  #size = 0;
  #failure: Error | undefined;

  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = error.code === 'EPIPE' ? new PipeClosed() : error;
    });
  }

  /** Resolves when more may come; throws PipeClosed where nobody reads any more. */
  async line(text: string): Promise<void> {
    await this.piece(`${text}\n`);
  }

  /** As `line`, without its end. */
  async piece(text: string): Promise<void> {
    this.#chunk.push(text);
    this.#size += text.length;
    if (this.#size >= chunkMax) await this.flush();
  }

  async flush(): Promise<void> {
    const text = this.#chunk.join('');
    this.#chunk = [];
    this.#size = 0;
    if (this.#failure !== undefined) throw this.#failure;
    if (text === '') return;
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(text, (error) => {
        if (error === null || error === undefined) resolve();
        else reject((error as NodeJS.ErrnoException).code === 'EPIPE' ? new PipeClosed() : error);
      });
    });
  }
}

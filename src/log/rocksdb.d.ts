/** The part of the binding that we use: abstract-leveldown 7, callbacks. Never its getMany. */
declare module 'rocksdb' {
  export type Callback<T = void> = (error: Error | null | undefined, result: T) => void;

  export interface RocksBatch {
    put(key: Buffer, value: Buffer): RocksBatch;
    del(key: Buffer): RocksBatch;
    write(options: { sync: boolean }, done: Callback): void;
  }

  export interface RocksIterator {
    next(done: (error: Error | null | undefined, key?: Buffer, value?: Buffer) => void): void;
    end(done: Callback): void;
  }

  export interface RocksOptions {
    createIfMissing?: boolean;
    errorIfExists?: boolean;
    readOnly?: boolean;
    infoLogLevel?: string | null;
    compression?: boolean;
    cacheSize?: number;
    writeBufferSize?: number;
    maxOpenFiles?: number;
  }

  export interface RocksRange {
    gte?: Buffer;
    lt?: Buffer;
    reverse?: boolean;
    limit?: number;
    keyAsBuffer?: boolean;
    valueAsBuffer?: boolean;
    highWaterMark?: number;
  }

  export interface RocksDatabase {
    open(options: RocksOptions, done: Callback): void;
    close(done: Callback): void;
    get(key: Buffer, options: { asBuffer: boolean }, done: Callback<Buffer>): void;
    batch(): RocksBatch;
    iterator(range: RocksRange): RocksIterator;
    getProperty(name: string): string;
  }

  function rocksdb(location: string): RocksDatabase;
  export default rocksdb;
}

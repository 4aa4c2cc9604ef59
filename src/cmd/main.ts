#!/usr/bin/env node
/*
 * Nothing is imported statically: a Node that is too old is refused before a native module loads.
 */
const wanted = [20, 13] as const;
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < wanted[0] || (major === wanted[0] && minor < wanted[1])) {
  process.stderr.write(
    `keychaindb needs Node ${wanted.join('.')} or newer; this is ${process.versions.node}\n`,
  );
  process.exit(2);
}
// RocksDB's reads and syncs run on libuv's pool; four threads are too few beside one sync in flight.
process.env['UV_THREADPOOL_SIZE'] ??= '8';
const { run } = await import('./program.js');
await run(process.argv);

export {};

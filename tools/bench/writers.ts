import type { KeychainClient } from '../../src/client/client.js';

const value = Buffer.alloc(500, 'v');

/** Writes with so many at a time, each with a value of 500 bytes; how many there were. */
export async function writeFor(
  client: KeychainClient,
  forMs: number,
  writers: number,
): Promise<number> {
  const until = performance.now() + forMs;
  let writes = 0;
  await Promise.all(
    Array.from({ length: writers }, async (_, writer) => {
      while (performance.now() < until) {
        await client.put(`bench/${writer}/${writes % 1_000}`, value);
        writes += 1;
      }
    }),
  );
  return writes;
}

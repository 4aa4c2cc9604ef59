import type { EntryId, Envelope } from '../../src/gen/keychaindb/v1/log.js';
import { encodeBlock, payloadChecksum } from '../../src/log/block.js';
import type { LogBlock } from '../../src/log/event-log.js';

export function key(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text));
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** A block of `size` entries that follows `previous`. */
export function block(
  previous: EntryId,
  size = 1,
  generation = previous.generation || 1,
): LogBlock {
  const entries = Array.from({ length: size }, (_, i): Envelope => {
    const index = previous.index + 1 + i;
    const payload = key(`entry ${index} of generation ${generation}`);
    return {
      generation,
      index,
      at: 1_700_000_000_000 + index,
      request: undefined,
      trace: new Uint8Array(0),
      payload,
      checksum: payloadChecksum(payload),
      isGroup: false,
    };
  });
  return encodeBlock({ chainId: 1, previous, entries });
}

/** `count` blocks, one after the other. */
export function blocks(
  previous: EntryId,
  count: number,
  options: { readonly size?: number; readonly generation?: number } = {},
): LogBlock[] {
  const list: LogBlock[] = [];
  let last = previous;
  for (let i = 0; i < count; i += 1) {
    const next = block(last, options.size, options.generation);
    list.push(next);
    last = next.end;
  }
  return list;
}

/** An entry for a person: `generation/index`. */
export function nameOf({ generation, index }: EntryId): string {
  return `${generation}/${index}`;
}

export function ends(list: readonly LogBlock[]): string {
  return list.map(({ end }) => nameOf(end)).join(' ');
}

import t from 'tap';
import { Forwarder } from '../../src/chain/forwarder.js';
import { catchUpBytes, joinLagEntriesMax } from '../../src/chain/limits.js';
import { Pace } from '../../src/chain/pace.js';
import type { FollowDown } from '../../src/gen/keychaindb/v1/chain.js';
import type { EventLog, LogBlock } from '../../src/log/event-log.js';
import { origin } from '../../src/log/event-log.js';
import { FakeChannel } from '../proxy/fake-channel.js';

/** Entries of a block; each block is a piece after which the feeding may rest. */
const blockEntries = 100;
/** Milliseconds that it takes to read one. */
const readMs = 10;
/** A long way behind. */
const end = 100 * joinLagEntriesMax;

const message: FollowDown = {
  header: undefined,
  session: 1,
  common: undefined,
  syncedThrough: undefined,
  watermark: undefined,
  items: [],
  snapshot: undefined,
};

/** A log of which blocks are read one after the other, while `written` entries are added for each. */
function feeding(options: { written: number; isPaced: boolean; last?: number }) {
  let now = 0;
  let rest: { readonly until: number; readonly then: () => void } | undefined;
  const clock = {
    monotonic: () => now,
    wall: () => now,
    after: (milliseconds: number, then: () => void) => {
      rest = { until: now + milliseconds, then };
      return () => undefined;
    },
    soon: (then: () => void) => queueMicrotask(then),
  };
  const last = { generation: 1, index: options.last ?? end };
  let read = 0;
  const log: Pick<EventLog, 'last' | 'follow'> = {
    last,
    async *follow(after, signal) {
      let previous = after;
      while (!signal.aborted && previous.index < last.index) {
        now += readMs;
        last.index += options.written;
        const next = { generation: 1, index: previous.index + blockEntries };
        const bytes = new Uint8Array(catchUpBytes);
        const block: LogBlock = { chainId: 1, previous, end: next, bytes, entries: [] };
        previous = next;
        read += 1;
        yield block;
      }
    },
  };
  const channel = new FakeChannel<FollowDown, never>('b', {
    message: () => undefined,
    closed: () => undefined,
  });
  const meter = { messages: 0, entries: 0 };
  const forwarder = new Forwarder(
    ...([channel, () => message, meter, () => undefined, clock, () => 0] as const),
  );
  const pace = options.isPaced ? new Pace(clock, 0.2) : undefined;
  void forwarder.blocks(log as EventLog, origin, pace);
  return {
    /** Blocks that are read in so many milliseconds. */
    async during(milliseconds: number): Promise<number> {
      for (let idle = 0; now < milliseconds && idle < 100; idle += 1) {
        const before = now;
        await Promise.resolve();
        // What was sent is on the follower's disk.
        forwarder.acked(read * blockEntries);
        if (rest !== undefined) {
          const { until, then } = rest;
          rest = undefined;
          now = until;
          then();
        }
        if (now > before) idle = 0;
      }
      forwarder.stop();
      return read;
    },
  };
}

t.test('a member that catches up is fed for a fifth of the time while writes come', async (t) => {
  const blocks = await feeding({ written: 1, isPaced: true }).during(2_000);
  t.ok(blocks >= 38 && blocks <= 42, `${blocks} blocks of 10 ms in 2 s`);
});

t.test('where nobody writes it is fed without a rest', async (t) => {
  const blocks = await feeding({ written: 0, isPaced: true }).during(1_000);
  t.equal(blocks, 100);
});

t.test('where more is written than fed there are no rests: it would never be there', async (t) => {
  const blocks = await feeding({ written: blockEntries, isPaced: true }).during(1_000);
  t.ok(blocks >= 95, `${blocks} blocks of 10 ms in 1 s`);
});

t.test(
  'close to the end, and for a member that the chain waits for, there is no rest',
  async (t) => {
    const close = feeding({ written: 1, isPaced: true, last: joinLagEntriesMax });
    t.equal(await close.during(100), 10);
    const awaited = feeding({ written: 1, isPaced: false });
    t.equal(await awaited.during(1_000), 100);
  },
);

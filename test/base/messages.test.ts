import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import t from 'tap';
import { MessageReader } from '../../src/base/message-reader.js';
import { encoded, MessageWriter } from '../../src/base/message-writer.js';
import { EntryId, Outcome } from '../../src/gen/keychaindb/v1/log.js';

const numbers = [0, 1, 127, 128, 300, 2 ** 28, 2 ** 32 - 1, 2 ** 32, 2 ** 35, 2 ** 41 + 12_345];
for (let bit = 0; bit < 53; bit += 1) numbers.push(2 ** bit, 2 ** bit - 1);
numbers.push(Number.MAX_SAFE_INTEGER);

t.test(
  "a uint64 is written as the library writes it, and read as the library's number",
  async (t) => {
    for (const number of numbers) {
      const theirs = new BinaryWriter().uint64(number).finish();
      t.same([...new MessageWriter().uint64(number).finish()], [...theirs], String(number));
      const reader = new MessageReader(theirs);
      t.equal(reader.uint64Number(), number);
      t.equal(reader.pos, theirs.byteLength);
    }
  },
);

t.test('a uint64 that is too large for a number, or ends too early, is refused', async (t) => {
  const large = new BinaryWriter().uint64(2n ** 53n).finish();
  t.throws(() => new MessageReader(large).uint64Number(), RangeError);
  const largest = new BinaryWriter().uint64(2n ** 64n - 1n).finish();
  t.throws(() => new MessageReader(largest).uint64Number(), RangeError);
  t.throws(() => new MessageReader(largest.subarray(0, 5)).uint64Number(), RangeError);
  t.throws(() => new MessageReader(new Uint8Array(0)).uint64Number(), RangeError);
  t.throws(() => new MessageReader(new Uint8Array(11).fill(0x80)).uint64Number(), RangeError);
  t.throws(() => EntryId.decode(Uint8Array.of(8, 0x80)), RangeError);
});

t.test('what is too large or negative is left to the library', async (t) => {
  t.equal(new BinaryReader(new MessageWriter().uint64(2n ** 60n).finish()).uint64(), 2n ** 60n);
  t.throws(() => new MessageWriter().uint64(-1));
  t.throws(() => new MessageWriter().uint64(1.5));
});

t.test('messages share a writer, and none has anything of another', async (t) => {
  const one = encoded(EntryId, { generation: 7, index: 2 ** 40 });
  const two = encoded(Outcome, { revision: 3, generation: 2, existed: true });
  t.same(EntryId.decode(one), { generation: 7, index: 2 ** 40 });
  t.same(Outcome.decode(two), { revision: 3, generation: 2, existed: true });
  const headed = encoded(EntryId, { generation: 1, index: 2 }, Uint8Array.of(9, 9));
  t.same([...headed.subarray(0, 2)], [9, 9]);
  t.same(EntryId.decode(headed.subarray(2)), { generation: 1, index: 2 });
});

t.test('after a message that could not be written the next one is whole', async (t) => {
  t.throws(() => encoded(EntryId, { generation: 5, index: -1 }));
  const next = encoded(EntryId, { generation: 1, index: 2 });
  t.same(
    [...next],
    [...EntryId.encode({ generation: 1, index: 2 }, new BinaryWriter() as MessageWriter).finish()],
  );
});

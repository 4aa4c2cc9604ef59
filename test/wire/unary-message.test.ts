import fc from 'fast-check';
import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import { GetResponse } from '../../src/gen/keychaindb/v1/kv.js';
import { parseGrpcTimeout } from '../../src/wire/grpc-timeout.js';
import { MessageWriter } from '../../src/wire/message-writer.js';
import { UnaryMessage } from '../../src/wire/unary-message.js';

function frame(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.byteLength, 1);
  return Buffer.concat([head, message]);
}

t.test('a message is the same however its frame is cut', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 40 }),
      fc.array(fc.nat({ max: 45 }), { maxLength: 8 }),
      (message, cuts) => {
        const body = frame(message);
        const ends = [...cuts, body.byteLength].sort((a, b) => a - b);
        const unary = new UnaryMessage(40);
        let from = 0;
        for (const end of ends) {
          if (from === body.byteLength) break;
          const arrived = unary.add(body.subarray(from, end));
          from = Math.min(end, body.byteLength);
          if (arrived !== (from === body.byteLength ? 'message' : 'more')) return false;
        }
        return Buffer.from(message).equals(unary.message ?? Buffer.from('nothing'));
      },
    ),
  );
});

t.test('a second message is seen however the body is cut', async (t) => {
  const two = Buffer.concat([frame(Buffer.from('one')), frame(Buffer.from('two'))]);
  for (let cut = 1; cut < two.byteLength; cut += 1) {
    const unary = new UnaryMessage(40);
    unary.add(two.subarray(0, cut));
    t.equal(unary.add(two.subarray(cut)), 'second message', `cut at ${cut}`);
  }
});

t.test('a message too large is refused by its head, before its bytes are kept', async (t) => {
  const unary = new UnaryMessage(40);
  t.equal(unary.add(Buffer.from([0, 0, 0])), 'more');
  t.equal(unary.add(Buffer.from([0, 41])), 'too large');
  t.equal(unary.length, 41);
  const atOnce = new UnaryMessage(40);
  t.equal(atOnce.add(frame(Buffer.alloc(41))), 'too large');
  t.equal(atOnce.length, 41);
  t.equal(atOnce.message, undefined);
});

t.test('a number is written as the generated code writes it', async () => {
  const any = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constantFrom(0, 2 ** 32 - 1, 2 ** 32));
  fc.assert(
    fc.property(any, any, (revision, version) => {
      const message = { value: noBytes, revision, createRevision: 1, version, served: undefined };
      const ours = GetResponse.encode(message, new MessageWriter()).finish();
      return Buffer.from(GetResponse.encode(message).finish()).equals(ours);
    }),
  );
});

t.test('a message holds no view of what else was read with it', async (t) => {
  const read = Buffer.concat([frame(Buffer.from('one'))]);
  const unary = new UnaryMessage(40);
  unary.add(read);
  read.fill(0);
  t.equal(Buffer.from(unary.message ?? '').toString(), 'one');
});

t.test('grpc-timeout: at most eight digits and a unit', async (t) => {
  const times: Readonly<Record<string, number | undefined>> = {
    '1H': 3_600_000,
    '2M': 120_000,
    '3S': 3_000,
    '4m': 4,
    '5999u': 5,
    '6000000n': 6,
    '0S': 0,
    '00000007S': 7_000,
    '99999999H': 2 ** 31 - 1,
    '': undefined,
    S: undefined,
    '5': undefined,
    '5s': undefined,
    '5 S': undefined,
    ' 5S': undefined,
    '-5S': undefined,
    '1.5S': undefined,
    '123456789S': undefined,
    '5SS': undefined,
    '1S, 2S': undefined,
  };
  for (const [text, milliseconds] of Object.entries(times)) {
    t.equal(parseGrpcTimeout(text), milliseconds, JSON.stringify(text));
  }
});

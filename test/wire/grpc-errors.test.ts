import { status } from '@grpc/grpc-js';
import t from 'tap';
import { KeychainError } from '../../src/base/errors.js';
import { checkMember } from '../../src/coordinator/member-name.js';
import { answer } from '../../src/wire/grpc-answer.js';
import { errorHeaders, toServiceError } from '../../src/wire/grpc-errors.js';
import { refusal } from '../refusal.js';

t.test('a message that was cut within a character travels all the same', async (t) => {
  const address = `${'a'.repeat(79)}😀`;
  t.throws(() => checkMember('node-9', address), refusal('BAD_REQUEST'));
  try {
    checkMember('node-9', address);
  } catch (error) {
    const { details } = toServiceError(error);
    t.equal(encodeURI(details ?? ''), errorHeaders(KeychainError.from(error))['grpc-message']);
  }
});

t.test('a message that quotes megabytes is cut to what headers carry', async (t) => {
  const error = new KeychainError('MEMBER_NOT_FOUND', `${'x'.repeat(5_000_000)} is no member`);
  t.equal(toServiceError(error).details?.length, 1_024);
  t.ok(JSON.stringify(errorHeaders(error)).length < 4_096);
});

t.test('an answer that can not be sent ends its call and nothing else', async (t) => {
  const told: unknown[] = [];
  await new Promise<void>((resolve) => {
    answer(Promise.resolve('a value'), (error, value) => {
      if (value !== undefined) throw new URIError('half a character');
      told.push(error);
      resolve();
    });
  });
  t.match(told, [{ code: status.INTERNAL, details: /can't be sent: URIError/ }]);
});

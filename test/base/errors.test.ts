import t from 'tap';
import { allReasons, KeychainError } from '../../src/base/errors.js';

t.test('a refusal takes no stack, a fault says where it came from', async (t) => {
  const limit = Error.stackTraceLimit;
  for (const reason of allReasons) {
    const { stack = '' } = new KeychainError(reason, 'so it is');
    const isFault = reason === 'INTERNAL' || reason === 'CORRUPT';
    t.equal(/errors\.test/.test(stack), isFault, reason);
  }
  t.equal(Error.stackTraceLimit, limit, 'others take theirs as before');
});

t.test('what was thrown by others keeps its stack as the cause', async (t) => {
  const bug = new TypeError('a bug');
  const { reason, cause } = KeychainError.from(bug);
  t.equal(reason, 'INTERNAL');
  t.equal(cause, bug);
});

import fc from 'fast-check';
import t from 'tap';
import { allReasons, KeychainError, type Reason } from '../../src/base/errors.js';
import { type AttemptResult, type OperationPlan, runOperation } from '../../src/client/attempts.js';
import { meanings } from '../../src/retry/retry.js';
import { ManualClock } from '../proxy/manual-clock.js';
import { refusal } from '../refusal.js';

type Result = AttemptResult<string>;

/** Attempts whose results the test gives, in its own time. */
class Script {
  readonly clock = new ManualClock();
  readonly results: ((result: Result) => void)[] = [];
  left = 0;
  renewed = 0;
  settled = 0;

  run(options: Partial<OperationPlan<string>> = {}): Promise<string> {
    const done = runOperation<string>(this.clock, {
      kind: 'write',
      timeoutMs: 5_000,
      isPatient: false,
      attempt: (_remainingMs, ended) => {
        this.results.push(ended);
        return () => false;
      },
      leave: () => {
        this.left += 1;
      },
      renew: () => {
        this.renewed += 1;
        return true;
      },
      settled: () => {
        this.settled += 1;
      },
      ...options,
    });
    done.catch(() => undefined);
    return done;
  }

  async give(index: number, result: Result): Promise<void> {
    await this.clock.pass(0);
    this.results[index]?.(result);
    await this.clock.pass(0);
  }
}

const answered: Result = { type: 'answered', response: 'done' };
const refused = (reason: Reason): Result => ({
  type: 'refused',
  error: new KeychainError(reason, 'said the proxy'),
});

t.test('the first answer counts', async (t) => {
  const script = new Script();
  const done = script.run();
  await script.give(0, answered);
  t.equal(await done, 'done');
  t.equal(script.clock.timers, 0);
});

t.test(
  'a read that takes long is asked elsewhere and the first of the two answers counts',
  async (t) => {
    const script = new Script();
    const done = script.run({ kind: 'read' });
    await script.clock.pass(400);
    t.equal(script.results.length, 2);
    t.equal(script.left, 1);
    await script.give(0, answered);
    t.equal(await done, 'done');
  },
);

t.test('with one endpoint an attempt is waited for', async (t) => {
  const script = new Script();
  const done = script.run({ kind: 'read', isPatient: true });
  await script.clock.pass(4_000);
  t.equal(script.results.length, 1);
  await script.give(0, answered);
  t.equal(await done, 'done');
});

t.test('a refusal that is final is told as it is', async (t) => {
  const script = new Script();
  const done = script.run({ kind: 'read' });
  await script.give(0, refused('KEY_NOT_FOUND'));
  await t.rejects(done, { reason: 'KEY_NOT_FOUND', message: 'said the proxy' });
});

t.test('a write that was lost and then refused has an unknown outcome', async (t) => {
  const script = new Script();
  const done = script.run();
  await script.give(0, { type: 'lost' });
  await script.clock.pass(400);
  t.equal(script.results.length, 2);
  await script.give(1, refused('NOT_HEAD'));
  await script.clock.pass(5_000);
  await t.rejects(done, refusal('OUTCOME_UNKNOWN'));
});

t.test('a write that never left is told as not applied', async (t) => {
  const script = new Script();
  const done = script.run({
    attempt: (_remainingMs, ended) => {
      queueMicrotask(() => ended({ type: 'unsent' }));
      return () => false;
    },
  });
  await script.clock.pass(6_000);
  await t.rejects(done, refusal('DEADLINE'));
});

t.test('an expired session is renewed', async (t) => {
  const script = new Script();
  const done = script.run();
  await script.give(0, refused('SESSION_EXPIRED'));
  t.equal(script.renewed, 1);
  await script.give(1, answered);
  t.equal(await done, 'done');
});

t.test('closing the client ends an operation', async (t) => {
  const script = new Script();
  const done = script.run();
  await script.give(0, { type: 'closed', hasLeft: false });
  await t.rejects(done, refusal('SHUTTING_DOWN'));
});

t.test('closing the client leaves a write that has left unknown', async (t) => {
  const script = new Script();
  const done = script.run();
  await script.give(0, { type: 'closed', hasLeft: true });
  await t.rejects(done, refusal('OUTCOME_UNKNOWN'));
  t.equal(script.clock.timers, 0);
});

t.test('a write that still waits to leave at its deadline is told as not applied', async (t) => {
  const script = new Script();
  const done = script.run({ attempt: () => () => true });
  await script.clock.pass(5_000);
  await t.rejects(done, refusal('DEADLINE'));
});

t.test('the endpoint that let the time run out is left', async (t) => {
  const script = new Script();
  const done = script.run({ kind: 'read', timeoutMs: 100 });
  await script.clock.pass(100);
  await t.rejects(done, refusal('DEADLINE'));
  t.equal(script.left, 1);
});

t.test('what is still asked elsewhere is given up when an answer came, once', async (t) => {
  const script = new Script();
  let abandoned = 0;
  const done = script.run({
    kind: 'read',
    attempt: (_remainingMs, ended) => {
      script.results.push(ended);
      return () => {
        abandoned += 1;
        return false;
      };
    },
  });
  await script.clock.pass(400);
  await script.give(1, answered);
  await script.give(0, answered);
  t.equal(await done, 'done');
  t.equal(abandoned, 2);
  t.equal(script.settled, 1);
});

const step$ = fc.oneof(
  fc.record({
    type: fc.constant('give' as const),
    which: fc.nat({ max: 4 }),
    result: fc.oneof(
      fc.constantFrom<Result>({ type: 'lost' }, { type: 'timedOut' }, { type: 'unsent' }),
      fc.constantFrom(...allReasons).map(refused),
    ),
  }),
  fc.record({ type: fc.constant('pass' as const), milliseconds: fc.constantFrom(10, 100, 1_500) }),
);

t.test(
  'whatever happens, a write that may have been applied is never told to have failed',
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step$, { maxLength: 15 }), async (steps) => {
        const script = new Script();
        const certain = new Set<number>();
        const given = new Set<number>();
        let isOutcome = false;
        let ended = false;
        const done = script.run().then(
          () => 'done',
          (error: KeychainError) => error.reason,
        );
        void done.then(() => {
          ended = true;
        });
        for (const step of steps) {
          if (step.type === 'pass') await script.clock.pass(step.milliseconds);
          else if (!given.has(step.which)) {
            await script.clock.pass(0);
            if (ended) break;
            if (step.which >= script.results.length) continue;
            given.add(step.which);
            const { result } = step;
            if (result.type === 'unsent') certain.add(step.which);
            if (result.type === 'refused' && meanings[result.error.reason].applied !== 'unknown') {
              certain.add(step.which);
              isOutcome ||= meanings[result.error.reason].applied === 'outcome';
            }
            await script.give(step.which, result);
          }
        }
        await script.clock.pass(6_000);
        const word = await done;
        if (word === 'OUTCOME_UNKNOWN' || isOutcome) return true;
        return script.results.every((_, index) => certain.has(index));
      }),
      { numRuns: 500 },
    );
  },
);

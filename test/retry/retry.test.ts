import fc from 'fast-check';
import t from 'tap';
import { allReasons, type Reason } from '../../src/base/errors.js';
import {
  type AttemptOutcome,
  attemptHistory,
  attemptTimeoutMs,
  begin,
  end,
  faultsMax,
  judge,
  mayBeApplied,
  meanings,
  type OperationKind,
  reasonAtDeadline,
  type Verdict,
} from '../../src/retry/retry.js';

function run(kind: OperationKind, outcomes: readonly AttemptOutcome[], remainingMs = 1_000) {
  const history = attemptHistory(kind);
  let verdict: Verdict | undefined;
  for (const outcome of outcomes) {
    begin(history);
    end(history, outcome);
    verdict = judge(history, outcome, remainingMs);
  }
  return { history, verdict };
}

const refused = (reason: Reason): AttemptOutcome => ({ type: 'refused', reason });

t.test('every reason has a meaning', async (t) => {
  t.same(Object.keys(meanings).sort(), [...allReasons].sort());
});

t.test('a read that a node refuses is tried elsewhere at once', async (t) => {
  for (const reason of [
    'NOT_SERVING',
    'LEASE_EXPIRED',
    'NOT_HEAD',
    'STALE_EPOCH',
    'SHUTTING_DOWN',
  ] as const) {
    const { verdict } = run('read', [refused(reason)]);
    t.same(verdict, { type: 'retry', where: 'elsewhere', afterMs: 0 }, reason);
  }
  t.match(run('read', [{ type: 'lost' }]).verdict, { type: 'retry', afterMs: 0 });
  t.match(run('read', [{ type: 'timedOut' }]).verdict, { type: 'retry', afterMs: 0 });
});

t.test('an overloaded node is left alone for a while', async (t) => {
  const { verdict } = run('read', [refused('OVERLOADED')]);
  t.match(verdict, { type: 'retry', where: 'elsewhere' });
  t.ok(verdict?.type === 'retry' && verdict.afterMs > 0);
});

t.test('refusals without end wait longer and longer, up to a bound', async (t) => {
  const many = run(
    'write',
    Array.from({ length: 40 }, () => refused('NOT_HEAD')),
  );
  t.match(many.verdict, { type: 'retry', where: 'head', afterMs: 320 });
});

t.test('what is wrong with the request itself is final', async (t) => {
  for (const reason of [
    'KEY_EMPTY',
    'KEY_TOO_LARGE',
    'VALUE_TOO_LARGE',
    'BAD_REQUEST',
    'KEY_NOT_FOUND',
  ] as const) {
    t.same(run('read', [refused(reason)]).verdict, { type: 'settle' }, reason);
    t.same(run('write', [refused(reason)]).verdict, { type: 'settle' }, reason);
  }
});

t.test('a final refusal after a lost attempt leaves the outcome unknown', async (t) => {
  const { verdict } = run('write', [{ type: 'lost' }, refused('VALUE_TOO_LARGE')]);
  t.same(verdict, { type: 'giveUp', reason: 'OUTCOME_UNKNOWN' });
});

t.test('a failed condition is the recorded outcome, also after a lost attempt', async (t) => {
  t.same(run('write', [{ type: 'lost' }, refused('CONDITION_FAILED')]).verdict, { type: 'settle' });
});

t.test('an expired session is renewed only where nothing can have been applied', async (t) => {
  t.same(run('write', [refused('SESSION_EXPIRED')]).verdict, { type: 'renew' });
  t.same(run('write', [{ type: 'unsent' }, refused('SESSION_EXPIRED')]).verdict, { type: 'renew' });
  t.same(run('write', [{ type: 'lost' }, refused('SESSION_EXPIRED')]).verdict, {
    type: 'giveUp',
    reason: 'OUTCOME_UNKNOWN',
  });
});

t.test(
  'refusals that applied nothing end, when the time is up, with the newest of them',
  async (t) => {
    const { verdict } = run('write', [refused('NOT_SERVING'), refused('NOT_HEAD')], 0);
    t.same(verdict, { type: 'giveUp', reason: 'NOT_HEAD' });
  },
);

t.test('a late refusal resolves the attempt that was abandoned', async (t) => {
  const history = attemptHistory('write');
  begin(history);
  end(history, { type: 'timedOut' });
  t.equal(reasonAtDeadline(history), 'OUTCOME_UNKNOWN');
  end(history, refused('NOT_HEAD'));
  t.equal(mayBeApplied(history), false);
  t.equal(reasonAtDeadline(history), 'NOT_HEAD');
});

t.test('faults of the answerer are told after a few', async (t) => {
  const faults = Array.from({ length: faultsMax }, () => refused('CORRUPT'));
  t.same(run('read', faults).verdict, { type: 'settle' });
  t.same(run('write', faults).verdict, { type: 'giveUp', reason: 'OUTCOME_UNKNOWN' });
});

t.test('attempts take twice as long each, never longer than what is left', async (t) => {
  const history = attemptHistory('read');
  begin(history);
  t.equal(attemptTimeoutMs(history, 5_000), 400);
  begin(history);
  t.equal(attemptTimeoutMs(history, 5_000), 800);
  t.equal(attemptTimeoutMs(history, 300), 300);
});

/** A write, its attempts, and what really happened to each: the model that the rules are held against. */
interface ModelAttempt {
  readonly outcome: AttemptOutcome;
  /** Of an attempt without a certain outcome: was it applied? */
  readonly secretlyApplied: boolean;
}

const outcome$ = fc.oneof(
  fc.constantFrom<AttemptOutcome>({ type: 'lost' }, { type: 'timedOut' }, { type: 'unsent' }),
  fc.constantFrom(...allReasons).map(refused),
);
const attempts$ = fc.array(
  fc.record<ModelAttempt>({ outcome: outcome$, secretlyApplied: fc.boolean() }),
  { minLength: 1, maxLength: 12 },
);

function leavesDoubt({ outcome }: ModelAttempt): boolean {
  if (outcome.type === 'lost' || outcome.type === 'timedOut') return true;
  return outcome.type === 'refused' && meanings[outcome.reason].applied === 'unknown';
}

t.test('a write that may have been applied is never told to have failed', async () => {
  fc.assert(
    fc.property(attempts$, fc.nat({ max: 1 }), (attempts, hasTime) => {
      const history = attemptHistory('write');
      let applied = false;
      for (const attempt of attempts) {
        begin(history);
        applied ||= leavesDoubt(attempt) && attempt.secretlyApplied;
        end(history, attempt.outcome);
        const verdict = judge(history, attempt.outcome, hasTime * 1_000);
        if (verdict.type === 'retry') continue;
        // Renewed, it runs again under another name: twice, had it been applied.
        if (verdict.type === 'renew') return !applied;
        if (verdict.type === 'giveUp') return !applied || verdict.reason === 'OUTCOME_UNKNOWN';
        const { outcome } = attempt;
        const isOutcome =
          outcome.type === 'refused' && meanings[outcome.reason].applied === 'outcome';
        return isOutcome || !applied;
      }
      return !applied || reasonAtDeadline(history) === 'OUTCOME_UNKNOWN';
    }),
    { numRuns: 5_000 },
  );
});

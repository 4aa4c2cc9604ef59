import t from 'tap';
import { uncommittedEntriesMax } from '../../src/raft/limits.js';
import { electionMs, Group, heartbeatMs } from './group.js';

/** A group whose member m1 leads term 1. */
function led(size = 3): Group {
  const group = new Group(size);
  group.elect('m1');
  return group;
}

/** What is under way arrives; what that sends is under way then. */
function carry(group: Group): void {
  for (const message of group.messages.splice(0)) group.deliver(message);
}

t.test('a member that nobody leads is elected and commits a no-op of its term', async (t) => {
  const group = led();
  t.equal(group.leader?.id, 'm1');
  t.same(group.member('m2').state.durable.vote, 'm1');
  t.same(group.committed, ['1:1:']);
});

t.test('a single member elects itself', async (t) => {
  const group = new Group(1);
  group.pass(3 * electionMs);
  t.equal(group.leader?.id, 'm1');
  group.leader?.propose(1, 'a');
  group.settle();
  t.equal(group.leader?.resolved.get(1), 'did a');
});

t.test('what is proposed at the leader or at a follower is applied everywhere', async (t) => {
  const group = led();
  group.member('m1').propose(1, 'a');
  group.member('m2').propose(2, 'b');
  group.settle();
  t.equal(group.member('m1').resolved.get(1), 'did a');
  t.equal(group.member('m2').resolved.get(2), 'did b');
  for (const { applied } of group.members) t.same(applied, ['1:1:', '2:1:a', '3:1:b']);
});

t.test('without a leader a proposal is refused: nothing was applied', async (t) => {
  const group = new Group(3);
  group.member('m2').propose(1, 'a');
  t.equal(group.member('m2').resolved.get(1), 'NO_LEADER');
});

t.test(
  'a proposal that was passed on is refused by who leads no more, not passed on again',
  async (t) => {
    const group = led();
    group.member('m2').propose(1, 'a');
    group.member('m1').state.role = 'follower';
    group.settle();
    t.equal(group.member('m2').resolved.get(1), 'NO_LEADER');
  },
);

t.test('a vote leaves after it is on the disk', async (t) => {
  const group = new Group(3);
  const [m1, m2] = [group.member('m1'), group.member('m2')];
  m1.state.electionAt = 0;
  m1.tick();
  group.messages
    .filter((m) => m.to === 'm2')
    .forEach((m) => {
      group.deliver(m);
    });
  m2.sync();
  // The pre-vote is won; the vote itself is asked for when the candidate's own is on its disk.
  group.messages = group.messages.filter((m) => m.to === 'm1');
  group.messages.splice(0).forEach((m) => {
    group.deliver(m);
  });
  t.equal(m1.state.role, 'candidate');
  t.notOk(group.messages.some((m) => m.message?.$case === 'voteRequest'));
  m1.sync();
  const requests = group.messages.filter((m) => m.message?.$case === 'voteRequest');
  t.equal(requests.length, 2);
  group.messages = [];
  requests
    .filter((m) => m.to === 'm2')
    .forEach((m) => {
      group.deliver(m);
    });
  t.equal(group.messages.length, 0, 'not before the sync');
  m2.sync();
  t.match(group.messages, [{ message: { $case: 'voteResponse', value: { granted: true } } }]);
});

t.test('an append is answered after it is on the disk, also by a later heartbeat', async (t) => {
  const group = led();
  const [m1, m2] = [group.member('m1'), group.member('m2')];
  group.cut.add('m1>m3');
  m1.propose(1, 'a');
  m1.sync();
  carry(group);
  group.now += 30;
  m1.tick();
  carry(group);
  t.notOk(group.messages.some((m) => m.message?.$case === 'appendResponse'));
  t.equal(m1.resolved.get(1), undefined);
  m2.sync();
  carry(group);
  t.equal(m1.resolved.get(1), 'did a');
});

t.test('a follower whose disk hangs keeps one answer, however often it is asked', async (t) => {
  const group = led();
  const [m1, m2] = [group.member('m1'), group.member('m2')];
  group.cut.add('m1>m3');
  m1.propose(1, 'a');
  m1.sync();
  carry(group);
  const asked = m1.state.round;
  for (let heartbeats = 1; heartbeats <= 20; heartbeats += 1) {
    group.now += heartbeatMs;
    m1.tick();
    carry(group);
  }
  const { round } = m1.state;
  t.ok(round > asked + 1, 'm1 led for some heartbeats');
  t.equal(m2.state.storing.length, 1);
  m2.sync();
  const answers = group.messages.map(({ to, message }) => `${message?.$case} to ${to}`);
  t.equal(new Set(answers).size, answers.length, 'one to each who asked');
  t.match(
    group.messages.find(({ message }) => message?.$case === 'appendResponse'),
    { to: 'm1', message: { value: { accepted: true, match: 2, round } } },
    'the newest',
  );
});

t.test('an old append that completes does not vouch for newer entries', async (t) => {
  const group = led();
  const m1 = group.member('m1');
  m1.propose(1, 'a');
  m1.syncSlowly();
  m1.propose(2, 'b');
  m1.syncSlowly();
  t.equal(m1.state.synced, 2, 'what was handed over later is not on the disk');
  m1.sync();
  t.equal(m1.state.synced, 3);
});

t.test(
  'a leader commits entries of earlier terms only with one of its own (figure 8)',
  async (t) => {
    const group = led(5);
    const cutOff = (...ids: string[]): void => {
      group.cut.clear();
      for (const a of ids) {
        for (const { id: b } of group.members) {
          if (a === b || ids.includes(b)) continue;
          group.cut.add(`${a}>${b}`);
          group.cut.add(`${b}>${a}`);
        }
      }
    };
    cutOff('m1', 'm2');
    group.member('m1').propose(1, 'old');
    group.settle();
    t.notOk(group.committed.some((entry) => entry.endsWith('old')));
    cutOff('m1');
    group.elect('m2');
    // m2 has the old entry; its own no-op commits both.
    t.equal(group.leader?.id, 'm1', 'the old leader has not noticed');
    t.equal(group.member('m2').state.role, 'leader');
    t.ok(group.member('m2').applied.includes('2:1:old'));
    t.equal(group.committed.at(-1), '3:2:');
  },
);

t.test(
  'a suffix that nobody else has is cut, and its proposer told that nothing is known',
  async (t) => {
    const group = led();
    for (const id of ['m2', 'm3']) {
      group.cut.add(`m1>${id}`);
      group.cut.add(`${id}>m1`);
    }
    for (let i = 0; i < 5; i += 1) group.member('m1').propose(i, `lost ${i}`);
    group.settle();
    group.elect('m2');
    group.member('m2').propose(9, 'kept');
    group.settle();
    group.cut.clear();
    group.pass(100);
    t.equal(group.member('m1').resolved.get(0), 'OUTCOME_UNKNOWN');
    t.same(group.member('m1').applied, group.member('m2').applied);
    t.notOk(group.committed.some((entry) => entry.includes('lost')));
  },
);

t.test('a follower far behind is found by terms, not entry by entry', async (t) => {
  const group = led();
  for (const id of ['m1', 'm2']) {
    group.cut.add(`${id}>m3`);
    group.cut.add(`m3>${id}`);
  }
  for (let i = 0; i < 300; i += 1) group.member('m1').propose(i, `${i}`);
  group.settle();
  group.cut.clear();
  let refusals = 0;
  const original = group.deliver.bind(group);
  group.deliver = (message) => {
    const { message: body } = message;
    if (body?.$case === 'appendResponse' && !body.value.accepted) refusals += 1;
    original(message);
  };
  group.pass(60);
  t.equal(group.member('m3').applied.length, group.member('m1').applied.length);
  t.ok(refusals <= 2, `${refusals} refusals`);
});

t.test('a member that was cut off raises no term and disturbs nobody', async (t) => {
  const group = led();
  for (const id of ['m1', 'm2']) {
    group.cut.add(`${id}>m3`);
    group.cut.add(`m3>${id}`);
  }
  group.pass(10 * electionMs);
  t.equal(group.member('m3').state.durable.term, 1);
  group.cut.clear();
  group.pass(2 * electionMs);
  t.equal(group.leader?.state.durable.term, 1);
});

t.test('a leader that a majority does not answer steps down', async (t) => {
  const group = led();
  for (const id of ['m2', 'm3']) group.cut.add(`${id}>m1`);
  group.pass(3 * electionMs);
  t.not(group.member('m1').state.role, 'leader');
});

t.test('a leader holds a bounded number of uncommitted entries', async (t) => {
  const group = led();
  group.cut.add('m1>m2');
  group.cut.add('m1>m3');
  for (let i = 0; i <= uncommittedEntriesMax; i += 1) group.member('m1').propose(i, 'x');
  t.equal(group.member('m1').resolved.get(uncommittedEntriesMax), 'OVERLOADED');
});

t.test('a restart goes on from the disk, and loses what was not synced', async (t) => {
  const group = led();
  group.member('m1').propose(1, 'kept');
  group.settle();
  const m2 = group.member('m2');
  m2.crash();
  m2.restart();
  t.equal(m2.state.durable.term, 1);
  t.equal(m2.state.durable.vote, 'm1');
  t.equal(m2.state.durable.log.last.index, 2);
  t.equal(m2.state.commit, 0);
  group.pass(50);
  t.same(m2.applied, group.member('m1').applied);
});

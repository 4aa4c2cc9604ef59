import t from 'tap';
import { noBytes } from '../../src/base/bytes.js';
import type { RaftMessage } from '../../src/gen/keychaindb/v1/raft.js';
import { origin } from '../../src/log/event-log.js';
import { SeededRandom } from '../sim/schedule.js';
import { adding, electionMs, Group, heartbeatMs, type Member, removing } from './group.js';
import { stand, together } from './scenarios.js';

/*
 * Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended Version)", 2014: each sentence of
 * §5 to §8 that says what a server does, in our words, and the test that it does so.
 */

type Body = NonNullable<RaftMessage['message']>;

function message(from: string, to: string, term: number, body: Body): RaftMessage {
  return { from, to, term, clusterId: noBytes, address: '', message: body };
}

function append(previous = origin, commit = 0): Body {
  return { $case: 'appendRequest', value: { previous, blocks: [], commit, round: 1 } };
}

function vote(preVote: boolean, last = origin): Body {
  return { $case: 'voteRequest', value: { preVote, last, transfer: false } };
}

function led(size = 3): { group: Group; m1: Member; m2: Member; m3: Member } {
  const group = new Group(size);
  group.elect('m1');
  const m3 = group.members[2] ?? group.member('m2');
  return { group, m1: group.member('m1'), m2: group.member('m2'), m3 };
}

function sentTo(group: Group, to: string, kind: Body['$case']): readonly RaftMessage[] {
  return group.messages.filter((m) => m.to === to && m.message?.$case === kind);
}

function candidate(group: Group, id: string): Member {
  const member = group.member(id);
  member.state.electionAt = group.now;
  for (const { state } of group.members) state.heardLeaderAt = Number.NEGATIVE_INFINITY;
  member.tick();
  for (let i = 0; i < 20 && member.state.role === 'pre-candidate'; i += 1) {
    const next = group.messages.shift();
    if (next !== undefined) group.deliver(next);
  }
  return member;
}

t.test(
  '§5.1: a server whose term is smaller than another one’s takes the larger one',
  async (t) => {
    const { m2 } = led();
    m2.receive(message('m3', 'm2', 7, append()));
    t.equal(m2.state.durable.term, 7);
  },
);

t.test('§5.1: a leader or candidate whose term is out of date becomes a follower', async (t) => {
  const { group, m1 } = led();
  m1.receive(message('m3', 'm1', 9, append()));
  t.same([m1.state.role, m1.state.durable.term], ['follower', 9]);
  const m2 = candidate(group, 'm2');
  t.equal(m2.state.role, 'candidate');
  m2.receive(message('m3', 'm2', 99, append()));
  t.equal(m2.state.role, 'follower');
});

t.test('§5.1: a request with an old term is refused, with the new one', async (t) => {
  const { group, m2 } = led();
  m2.receive(message('m3', 'm2', 5, append()));
  m2.sync();
  group.messages = [];
  m2.receive(message('m1', 'm2', 1, append()));
  m2.receive(message('m1', 'm2', 1, vote(false)));
  t.match(group.messages, [
    { term: 5, message: { $case: 'appendResponse', value: { accepted: false } } },
    { term: 5, message: { $case: 'voteResponse', value: { granted: false } } },
  ]);
});

t.test('§5.2: servers start as followers, and stay so while they hear a leader', async (t) => {
  const group = new Group(3);
  t.same(
    group.members.map((m) => m.state.role),
    ['follower', 'follower', 'follower'],
  );
  group.elect('m1');
  group.pass(20 * electionMs);
  t.same(
    group.members.map((m) => m.state.role),
    ['leader', 'follower', 'follower'],
  );
});

t.test('§5.2: a leader sends heartbeats to all, at once and for ever', async (t) => {
  const { group, m1 } = led();
  for (let i = 0; i < 3; i += 1) {
    group.now += heartbeatMs;
    m1.tick();
    for (const id of ['m2', 'm3']) t.equal(sentTo(group, id, 'appendRequest').length, 1);
    group.settle();
  }
});

t.test('§5.2: who hears nothing for an election timeout stands for election', async (t) => {
  const group = new Group(3);
  const m2 = group.member('m2');
  group.now = m2.state.electionAt - 1;
  m2.tick();
  t.equal(m2.state.role, 'follower');
  group.now += 1;
  m2.tick();
  // It asks first whether it could win (thesis §9.6).
  t.same([m2.state.role, m2.state.durable.term], ['pre-candidate', 0]);
  t.equal(sentTo(group, 'm1', 'voteRequest').length, 1);
});

t.test('§5.2: a candidate raises its term, votes for itself and asks all others', async (t) => {
  const group = new Group(3);
  const m2 = candidate(group, 'm2');
  m2.sync();
  t.same([m2.state.role, m2.state.durable.term, m2.state.durable.vote], ['candidate', 1, 'm2']);
  for (const id of ['m1', 'm3']) {
    const asked = sentTo(group, id, 'voteRequest').filter(
      (m) => m.message?.$case === 'voteRequest' && !m.message.value.preVote,
    );
    t.equal(asked.length, 1);
  }
});

t.test(
  '§5.2: a candidate with the votes of a majority of the servers in its term leads',
  async (t) => {
    const granted = (term: number): Body => ({
      $case: 'voteResponse',
      value: { preVote: false, granted: term > 0 },
    });
    for (const [votes, role] of [
      [['m2'], 'candidate'],
      [['m2', 'm2'], 'candidate'],
      [['m2', 'm3'], 'leader'],
    ] as const) {
      const group = new Group(5);
      const m1 = candidate(group, 'm1');
      m1.sync();
      for (const from of votes) m1.receive(message(from, 'm1', 1, granted(1)));
      t.equal(m1.state.role, role, votes.join());
    }
  },
);

t.test('§5.2: a server votes for one candidate in a term, the first one', async (t) => {
  const group = new Group(3);
  const m3 = group.member('m3');
  m3.receive(message('m1', 'm3', 1, vote(false)));
  m3.receive(message('m2', 'm3', 1, vote(false)));
  m3.receive(message('m1', 'm3', 1, vote(false)));
  m3.sync();
  t.match(
    group.messages.map((m) => [m.to, m.message]),
    [
      ['m1', { value: { granted: true } }],
      ['m2', { value: { granted: false } }],
      ['m1', { value: { granted: true } }],
    ],
  );
});

t.test(
  '§5.2: a candidate that hears a leader of its term, or a later one, follows it',
  async (t) => {
    for (const term of [1, 4]) {
      const m1 = candidate(new Group(3), 'm1');
      m1.receive(message('m2', 'm1', term, append()));
      t.same([m1.state.role, m1.state.leader], ['follower', 'm2']);
    }
  },
);

t.test('§5.2: a candidate that hears a leader of an older term goes on', async (t) => {
  const m1 = candidate(new Group(3), 'm1');
  m1.receive(message('m2', 'm1', 0, append()));
  t.equal(m1.state.role, 'candidate');
});

t.test('§5.2: without a winner each candidate stands again, in a new term', async (t) => {
  const group = new Group(3);
  const m1 = candidate(group, 'm1');
  m1.sync();
  group.messages = [];
  t.equal(m1.state.durable.term, 1);
  group.now = m1.state.electionAt;
  candidate(group, 'm1');
  t.equal(m1.state.durable.term, 2);
});

t.test('§5.2: election timeouts are random, in [E, 2E)', async (t) => {
  const random = new SeededRandom(1);
  const group = new Group(5, () => random.float());
  const timeouts = group.members.map((m) => m.state.electionAt);
  t.equal(new Set(timeouts).size, 5);
  for (const timeout of timeouts) t.ok(timeout >= electionMs && timeout < 2 * electionMs);
});

t.test(
  '§5.3: a command goes into the leader’s log, and to each of the others at once',
  async (t) => {
    const { group, m1 } = led();
    m1.propose(1, 'a');
    t.equal(m1.state.durable.log.last.index, 2);
    for (const id of ['m2', 'm3']) t.equal(sentTo(group, id, 'appendRequest').length, 1);
  },
);

t.test('§5.3: an entry is committed, applied and answered when a majority has it', async (t) => {
  const { group, m1 } = led(5);
  together(group, 'm1', 'm2');
  m1.propose(1, 'a');
  group.settle();
  t.equal(m1.resolved.get(1), undefined, 'two of five');
  together(group, 'm1', 'm2', 'm3');
  group.pass(2 * heartbeatMs);
  t.equal(m1.resolved.get(1), 'did a', 'three of five');
});

t.test('§5.3: a follower that is slow, or was down, is fed until it has all', async (t) => {
  const { group, m1, m3 } = led();
  m3.crash();
  for (let i = 0; i < 5; i += 1) m1.propose(i, `${i}`);
  group.settle();
  t.equal(m1.resolved.get(4), 'did 4', 'it was answered long ago');
  m3.restart();
  group.pass(2 * electionMs);
  t.same(m3.applied, m1.applied);
});

t.test(
  '§5.3: an entry that is committed commits all before it, also earlier leaders’',
  async (t) => {
    const { group, m1, m2 } = led();
    together(group, 'm1', 'm2');
    m1.crash();
    m1.restart();
    const before = m2.state.commit;
    group.messages = [];
    m2.propose(1, 'nobody leads');
    group.cut.clear();
    stand(group, m2);
    group.settle();
    t.ok(m2.state.commit > before);
    t.equal(m2.state.commit, m2.state.durable.log.last.index);
  },
);

t.test(
  '§5.3: followers learn what is committed with the next message, and apply it in order',
  async (t) => {
    const { group, m1, m2 } = led();
    for (let i = 0; i < 3; i += 1) m1.propose(i, `${i}`);
    group.settle();
    group.pass(heartbeatMs);
    t.same(m2.applied, ['1:1:', '2:1:0', '3:1:1', '4:1:2']);
  },
);

t.test('§5.3: a follower without the entry before the new ones refuses them', async (t) => {
  const { group, m2 } = led();
  group.messages = [];
  m2.receive(message('m1', 'm2', 1, append({ generation: 1, index: 9 })));
  m2.receive(message('m1', 'm2', 1, append({ generation: 5, index: 1 })));
  m2.sync();
  const answers = group.messages.map((m) => m.message);
  t.match(answers[0], { $case: 'appendResponse', value: { accepted: false } });
});

t.test('§5.3: a leader never cuts its own log', async (t) => {
  const { group, m1 } = led();
  for (let i = 0; i < 4; i += 1) m1.propose(i, `${i}`);
  const before = m1.state.durable.log.last.index;
  m1.receive(
    message('m2', 'm1', 1, {
      $case: 'appendResponse',
      value: { accepted: false, match: 0, conflict: { generation: 0, index: 1 }, round: 1 },
    }),
  );
  group.settle();
  t.ok(m1.state.durable.log.last.index >= before);
});

t.test('§5.3, figure 7: logs that lack, or have too much, become the leader’s', async (t) => {
  // Terms of the entries, as in the figure; the leader's first.
  const logs = [
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6],
    [1, 1, 1, 4],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    [1, 1, 1, 4, 4, 4, 4],
    [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
  ];
  const group = new Group(7);
  for (const [at, terms] of logs.entries()) group.members[at]?.fill(terms);
  const m1 = group.member('m1');
  for (const { state } of group.members) state.heardLeaderAt = Number.NEGATIVE_INFINITY;
  m1.state.electionAt = 0;
  for (const other of group.members.slice(1)) other.state.electionAt = 10_000;
  group.pass(6 * electionMs);
  t.equal(group.leader?.id, 'm1');
  const termsOf = ({ state }: Member): (number | undefined)[] =>
    Array.from({ length: state.durable.log.last.index }, (_, i) => state.durable.log.termAt(i + 1));
  for (const member of group.members) t.same(termsOf(member), termsOf(m1), member.id);
});

t.test('§5.3: a new leader begins with the entry after its last one', async (t) => {
  const { group, m1 } = led();
  together(group, 'm2', 'm3');
  const m2 = group.member('m2');
  stand(group, m2);
  t.equal(m2.state.progress.get('m1')?.next, 2 /* its own first entry */);
  t.equal(m1.state.role, 'leader', 'which does not know yet');
});

t.test(
  '§5.4.1: a vote is denied to a log that is not as new: by last term, then by length',
  async (t) => {
    const at = (generation: number, index: number) => ({ generation, index });
    for (const [own, theirs, isGranted] of [
      [[1, 1, 2], at(2, 3), true],
      [[1, 1, 2], at(2, 4), true],
      [[1, 1, 2], at(3, 1), true],
      [[1, 1, 2], at(2, 2), false],
      [[1, 1, 2], at(1, 9), false],
    ] as const) {
      const group = new Group(3);
      const m2 = group.member('m2');
      m2.fill(own);
      group.messages = [];
      m2.receive(message('m1', 'm2', 9, vote(false, theirs)));
      m2.sync();
      t.match(group.messages.at(-1)?.message, { value: { granted: isGranted } }, `${theirs.index}`);
    }
  },
);

t.test('§5.4.2: entries of earlier terms are not committed by counting', async (t) => {
  const group = new Group(3);
  const [m1, m2] = [group.member('m1'), group.member('m2')];
  m1.fill([1, 1]);
  m2.fill([1, 1]);
  stand(group, m1);
  // m2 has both old entries; the leader's own is at nobody.
  m1.receive(
    message('m2', 'm1', m1.state.durable.term, {
      $case: 'appendResponse',
      value: { accepted: true, match: 2, conflict: undefined, round: m1.state.round },
    }),
  );
  t.equal(m1.state.commit, 0);
});

t.test('§5.5: a request that comes twice does nothing twice', async (t) => {
  const { group, m1, m2 } = led();
  m1.propose(1, 'a');
  const requests = sentTo(group, 'm2', 'appendRequest');
  for (const request of [...requests, ...requests, ...requests]) group.deliver(request);
  group.settle();
  group.pass(heartbeatMs);
  t.same(m2.applied, ['1:1:', '2:1:a']);
});

t.test('§6: the newest group in the log holds, committed or not', async (t) => {
  const { group, m1 } = led();
  together(group);
  group.start('m4');
  m1.change(1, adding('m4'));
  t.same(
    group.membersOf('m1').map(({ id }) => id),
    ['m1', 'm2', 'm3', 'm4'],
  );
  t.equal(m1.resolved.get(1), undefined);
});

t.test('§6: a new server gets the log before it counts', async (t) => {
  const { group, m1 } = led();
  for (let i = 0; i < 300; i += 1) {
    m1.propose(i, `${i}`);
    group.settle();
  }
  group.start('m4');
  group.cut.add('m4>m1');
  m1.change(1_000, adding('m4'));
  group.settle();
  t.equal(m1.resolved.get(1_000), 'did group');
  t.ok(group.membersOf('m1').find((m) => m.id === 'm4')?.learner);
  // It counts for nothing: two of the three voters are enough.
  m1.propose(1_001, 'x');
  group.settle();
  t.equal(m1.resolved.get(1_001), 'did x');
  group.cut.clear();
  group.pass(2 * electionMs);
  t.notOk(group.membersOf('m1').find((m) => m.id === 'm4')?.learner, 'caught up, it does');
});

t.test(
  '§6: a leader that is removed leads until that is committed, without counting itself',
  async (t) => {
    const { group, m1, m2 } = led();
    m1.change(1, removing('m1'));
    group.settle();
    t.equal(m1.resolved.get(1), 'did group');
    group.pass(4 * electionMs);
    t.ok(m1.isRemoved);
    t.ok(group.leader !== undefined && group.leader !== m1);
    t.equal(group.membersOf(m2.id).length, 2);
  },
);

t.test('§6: who hears a leader ignores those that ask for votes', async (t) => {
  const { group, m2 } = led();
  group.pass(heartbeatMs);
  group.messages = [];
  m2.receive(message('m3', 'm2', 9, vote(false, { generation: 9, index: 9 })));
  m2.receive(message('m3', 'm2', 9, vote(true, { generation: 9, index: 9 })));
  m2.sync();
  t.equal(m2.state.durable.term, 1);
  t.equal(group.messages.length, 0);
});

t.test(
  '§7: a snapshot stands for what is committed, with its last entry and the group then',
  async (t) => {
    const { group, m1 } = led();
    for (let i = 0; i < 6; i += 1) m1.propose(i, `${i}`);
    group.settle();
    m1.propose(7, 'not committed');
    m1.takeSnapshot();
    group.settle();
    const { snapshot, log } = m1.state.durable;
    t.match(snapshot, { at: { generation: 1, index: 7 } });
    t.same(
      snapshot?.group?.members.map(({ id }) => id),
      ['m1', 'm2', 'm3'],
    );
    t.equal(log.first, 6, 'of what it stands for a tail is kept');
    m1.propose(8, 'more');
    m1.takeSnapshot();
    t.equal(m1.state.durable.snapshot?.at?.index, 8, 'it replaces the one before');
  },
);

t.test('§7: a snapshot is asked for once, though more is applied before it is made', async (t) => {
  const group = new Group(1, { snapshotEntries: 5, keptEntries: 0 });
  group.elect('m1');
  const m1 = group.member('m1');
  let asked = 0;
  m1.takeSnapshot = () => {
    asked += 1;
  };
  for (let i = 0; i < 12; i += 1) m1.propose(i, `${i}`);
  group.settle();
  t.equal(m1.state.applied, 13);
  t.equal(asked, 2, 'after each five entries');
});

t.test('§7: a snapshot is sent only where what comes next is not kept any more', async (t) => {
  for (const [missing, isSent] of [
    [1, false],
    [6, true],
  ] as const) {
    const { group, m1, m3 } = led();
    for (let i = 0; i < 6 - missing; i += 1) m1.propose(i, `${i}`);
    group.settle();
    m3.crash();
    for (let i = 0; i < missing; i += 1) m1.propose(10 + i, `${i}`);
    group.settle();
    m1.takeSnapshot();
    group.settle();
    m3.restart();
    let sent = 0;
    const deliver = group.deliver.bind(group);
    group.deliver = (each) => {
      if (each.message?.$case === 'snapshotRequest') sent += 1;
      deliver(each);
    };
    group.pass(electionMs);
    t.equal(sent > 0, isSent, `${missing} missing`);
    t.same(m3.applied, m1.applied);
  }
});

t.test('§8: a leader begins its term with an entry of its own', async (t) => {
  const { m1 } = led();
  t.same(m1.applied, ['1:1:']);
});

t.test(
  '§8: a read is answered after a majority has answered a heartbeat since, without an entry',
  async (t) => {
    const { group, m1, m2 } = led();
    m1.read(1);
    m2.read(2);
    t.equal(m1.resolved.get(1), undefined, 'nobody has answered yet');
    group.settle();
    t.equal(m1.resolved.get(1), 'read at 1');
    t.equal(m2.resolved.get(2), 'read at 1', 'a follower asks the leader');
    t.equal(m1.state.durable.log.last.index, 1);
    together(group);
    m1.read(3);
    group.pass(heartbeatMs);
    t.equal(m1.resolved.get(3), undefined);
  },
);

t.test('§8: reads that come while a round is under way share the next one', async (t) => {
  const { group, m1 } = led();
  const { round } = m1.state;
  for (let token = 1; token <= 50; token += 1) m1.read(token);
  group.settle();
  for (let token = 1; token <= 50; token += 1) t.equal(m1.resolved.get(token), 'read at 1');
  t.equal(m1.state.round, round + 2);
});

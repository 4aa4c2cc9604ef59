import t from 'tap';
import { admittedIn } from '../../src/raft/admission.js';
import { isBlank } from '../../src/raft/durable-record.js';
import { isVoter } from '../../src/raft/group.js';
import { currentGroup, emptyDurable } from '../../src/raft/state.js';
import { check } from '../sim/check.js';
import { adding, electionMs, Group, type Member, removing } from './group.js';
import { together } from './scenarios.js';

/* A coordinator that starts with an empty folder is new, or has lost what the others counted on (decision 16; B14 of bugs.ts). */

function three(group: Group): readonly [Member, Member, Member] {
  return [group.member('m1'), group.member('m2'), group.member('m3')];
}

/** A group at its first start, of which these were admitted and m1 leads. */
function founded(ids: readonly string[]): Group {
  const group = new Group(3, { isFirstStart: true });
  for (const member of group.members) if (!ids.includes(member.id)) member.crash();
  for (const id of ids) check(group.member(id).ask() === 'admitted', 'script', `${id} is new`);
  group.elect('m1');
  return group;
}

function seenAt({ state }: Member): readonly string[] {
  const { members } = currentGroup(state.durable).group;
  return members.flatMap(({ id, seen }) => (seen ? [id] : []));
}

/** E is committed on m1 and m2; the messages of it to m3 are lost. All lose power, and m1 its disk too. */
function poweredOff(): Group {
  const group = founded(['m1', 'm2', 'm3']);
  together(group, 'm1', 'm2');
  const [m1, m2, m3] = three(group);
  m1.propose(1, 'E');
  group.settle();
  check(m1.resolved.get(1) === 'did E', 'script', 'E is acknowledged');
  m1.loseFolder();
  for (const member of [m2, m3]) member.crash();
  group.messages = [];
  group.cut.clear();
  return group;
}

t.test(
  'who lost its folder in a power cut of all is known to the others by their logs',
  async (t) => {
    for (const up of [['m2'], ['m3'], ['m2', 'm3']]) {
      const group = poweredOff();
      for (const id of up) group.member(id).restart();
      const m1 = group.member('m1');
      m1.restart();
      t.equal(m1.ask(), 'refused', up.join());
    }
  },
);

t.test('a new group comes up in any order, and without one of three', async (t) => {
  for (const order of [
    ['m1', 'm2', 'm3'],
    ['m3', 'm1', 'm2'],
    ['m2', 'm3'],
    ['m1', 'm3'],
  ]) {
    const group = new Group(3, { isFirstStart: true });
    for (const member of group.members) member.crash();
    const [first = '', second = '', third] = order;
    group.member(first).restart();
    t.equal(group.member(first).ask(), 'waits', 'one alone could be the one that was lost');
    group.member(second).restart();
    t.equal(group.member(second).ask(), 'admitted');
    group.pass(5 * electionMs);
    t.equal(group.leader, undefined, 'one has no majority');
    t.equal(group.member(first).ask(), 'admitted', 'nobody has stood for election yet');
    group.pass(5 * electionMs);
    t.ok(group.leader, order.join());
    if (third === undefined) continue;
    group.member(third).restart();
    t.equal(group.member(third).ask(), 'admitted', 'both others say that it is new');
    group.pass(2 * electionMs);
    t.same([...seenAt(group.member(third))].sort(), ['m1', 'm2', 'm3']);
  }
});

t.test('how many have to know nothing of a founder', async (t) => {
  const admitted = (founders: number, ...terms: readonly number[]) => {
    const ids = Array.from({ length: founders }, (_, place) => `m${place + 1}`);
    return admittedIn(
      ids,
      terms.map((term) => ({ term, voters: ids })),
    );
  };
  t.equal(admitted(1), 0, 'nobody could count on it');
  t.equal(admitted(2), undefined);
  t.equal(admitted(2, 7), 7);
  t.equal(admitted(3, 7), undefined);
  t.equal(admitted(3, 0), 0);
  t.equal(admitted(3, 7, 5), 7);
  t.equal(admitted(4, 7), undefined);
  t.equal(admitted(4, 7, 5), 7);
  t.equal(admitted(5, 7, 5), undefined);
  t.equal(admitted(5, 0, 0), 0);
  t.equal(admitted(5, 0, 1), undefined);
  t.equal(admitted(5, 7, 5, 5), 7);
});

t.test('a founder is new only to a group of the founders', async (t) => {
  const founders = ['m1', 'm2', 'm3'];
  const of = (...voters: readonly string[]) => ({ term: 7, voters });
  t.equal(admittedIn(founders, [of(), of('m3', 'm1', 'm2')]), undefined, 'one of 0.1.0');
  const asks = { term: 0, voters: [] };
  t.equal(admittedIn(founders, [asks, of('m3', 'm1', 'm2')]), 7, 'one that is new, too');
  t.equal(admittedIn(founders, [of(...founders), of(...founders, 'm4')]), undefined);
  t.equal(admittedIn(founders, [of(...founders), of('m1', 'm2', 'm4')]), undefined);
});

t.test('nobody new gets a vote before all founders were heard, or taken out', async (t) => {
  const group = founded(['m1', 'm2']);
  const [m1, m2, m3] = three(group);
  group.start('m4');
  m1.change(1, adding('m4'));
  group.settle();
  t.equal(m1.resolved.get(1), 'MEMBER_BEHIND', 'nobody has heard m3');
  m3.restart();
  t.equal(m3.ask(), 'admitted');
  group.pass(2 * electionMs);
  m1.change(2, adding('m4'));
  group.settle();
  group.pass(2 * electionMs);
  t.equal(m1.resolved.get(2), 'did group');
  t.ok(isVoter(currentGroup(m2.state.durable).group, 'm4'));
});

t.test('a founder that was never heard can be taken out, and is new no more', async (t) => {
  const group = founded(['m1', 'm2']);
  const [m1, , m3] = three(group);
  group.start('m4');
  m1.change(1, removing('m3'));
  group.settle();
  t.equal(m1.resolved.get(1), 'did group');
  m1.change(2, adding('m4'));
  group.settle();
  t.equal(m1.resolved.get(2), 'did group');
  m3.restart();
  t.equal(m3.ask(), 'refused');
});

t.test('a folder of 0.1.0, which founded no group, is not empty once it has voted', async (t) => {
  const durable = emptyDurable();
  t.equal(isBlank(durable), true);
  durable.term = 1;
  t.equal(isBlank(durable), false);
});

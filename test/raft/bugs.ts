import { noBytes } from '../../src/base/bytes.js';
import type { RaftMessage } from '../../src/gen/keychaindb/v1/raft.js';
import { isSeen } from '../../src/raft/group.js';
import { currentGroup, groupAt } from '../../src/raft/state.js';
import { check } from '../sim/check.js';
import { SeededRandom } from '../sim/schedule.js';
import {
  adding,
  electionMs,
  Group,
  heartbeatMs,
  type Member,
  removing,
  transferring,
} from './group.js';
import { type Script, stand, together } from './scenarios.js';

/** A known bug of Raft implementations (docs/raft.md), and the way on which it shows. */
export interface Bug extends Script {
  readonly id: string;
}

function must(
  condition: boolean,
  what: string,
  facts: Readonly<Record<string, unknown>> = {},
): void {
  check(condition, 'raft bug', what, facts);
}

function members(group: Group, ...ids: readonly string[]): readonly Member[] {
  return ids.map((id) => group.member(id));
}

/** Only messages between these are delivered, in their order, until none is left. */
function carry(group: Group, from: string, to: string): void {
  for (const message of group.messages.filter((m) => m.from === from && m.to === to)) {
    group.messages.splice(group.messages.indexOf(message), 1);
    group.deliver(message);
  }
}

/** A group that m1 leads, with so many entries committed. */
function ledBy(group: Group, entries = 0): Member {
  group.elect('m1');
  const leader = group.member('m1');
  for (let i = 0; i < entries; i += 1) {
    leader.propose(1_000 + i, `entry ${i}`);
    group.settle();
  }
  return leader;
}

function alone(group: Group, id: string): void {
  together(group, ...group.members.map((m) => m.id).filter((other) => other !== id));
}

export const bugs: readonly Bug[] = [
  {
    id: 'B1',
    name: 'two leaders change the group from the same base, and their majorities do not meet',
    run() {
      // Ongaro, raft-dev 2015: four members; each of two leaders in turn changes the group by one.
      const group = new Group(4);
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      group.start('m5');
      // m1 adds m5, which nobody but those two hears of.
      together(group, 'm1', 'm5');
      m1.change(1, adding('m5'));
      // m2 leads with m3 and m4, and must not remove m1 before an entry of its own is committed.
      together(group, 'm2', 'm3', 'm4');
      stand(group, m2);
      m2.change(2, removing('m1'));
      must(m2.resolved.get(2) === 'CHANGE_PENDING', 'refused before an own entry is committed', {
        answer: m2.resolved.get(2),
      });
      group.settle();
      m2.change(3, removing('m1'));
      group.settle();
      must(m2.resolved.get(3) === 'did group', 'done after it', { answer: m2.resolved.get(3) });
    },
  },
  {
    id: 'B1',
    name: 'a group is changed by two members at once, and majorities of before and after do not meet',
    run() {
      const group = new Group(5);
      const m1 = ledBy(group, 1);
      m1.change(1, removing('m5'));
      // Two of those that are left answer, so the change is made; nobody has it yet.
      for (const other of members(group, 'm2', 'm3')) {
        carry(group, 'm1', other.id);
        other.sync();
        carry(group, other.id, 'm1');
      }
      const isMade = (): boolean => !isSeen(currentGroup(m1.state.durable).group, 'm5');
      must(isMade() && m1.resolved.get(1) === undefined, 'one change is made and not committed');
      m1.change(2, removing('m4'));
      must(m1.resolved.get(2) === 'CHANGE_PENDING', 'another one has to wait for it', {
        answer: m1.resolved.get(2),
      });
      group.settle();
      must(m1.resolved.get(1) === 'did group', 'the first is done', { answer: m1.resolved.get(1) });
      m1.change(3, removing('m4'));
      group.settle();
      must(m1.resolved.get(3) === 'did group', 'and the other one after it', {
        answer: m1.resolved.get(3),
      });
    },
  },
  {
    id: 'B3',
    name: 'a vote, a term or an own vote that is not on the disk is relied on',
    run() {
      const group = new Group(3);
      const [m1, m2] = members(group, 'm1', 'm2') as [Member, Member];
      m1.state.electionAt = group.now;
      m1.tick();
      carry(group, 'm1', 'm2');
      m2.sync();
      carry(group, 'm2', 'm1');
      must(m1.state.role === 'candidate', 'the pre-vote is won');
      must(group.messages.length <= 1, 'no vote is asked for before the own one is on the disk');
      m1.sync();
      carry(group, 'm1', 'm2');
      must(
        !group.messages.some((m) => m.message?.$case === 'voteResponse' && m.from === 'm2'),
        'no vote leaves before it is on the disk',
      );
      m2.crash();
      m2.restart();
      must(
        m2.state.durable.vote === '',
        'what was not synced is lost, and nobody has relied on it',
      );
    },
  },
  {
    id: 'B3',
    name: 'a member that is a group of its own leads one term twice',
    run() {
      const group = new Group(1);
      const [m1] = members(group, 'm1') as [Member];
      m1.state.electionAt = group.now;
      m1.tick();
      must(m1.state.role !== 'leader', 'its own vote counts when it is on the disk');
      m1.sync();
      must(m1.state.role === 'leader', 'and then it leads');
    },
  },
  {
    id: 'B4',
    name: 'a leader acknowledges what is not on its own disk',
    run() {
      const group = new Group(1);
      const m1 = ledBy(group);
      m1.propose(1, 'a');
      must(m1.resolved.get(1) === undefined, 'not before the sync');
      m1.sync();
      must(m1.resolved.get(1) === 'did a', 'after it');
    },
  },
  {
    id: 'B5',
    name: 'a step-down in the same term forgets the vote',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const { term } = m1.state.durable;
      together(group);
      group.pass(3 * electionMs);
      must(m1.state.role !== 'leader', 'the leader that nobody answers steps down');
      must(m1.state.durable.term !== term || m1.state.durable.vote === 'm1', 'and keeps its vote');
    },
  },
  {
    id: 'B6',
    name: 'a new leader answers reads before it knows what is committed',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      m1.propose(1, 'a');
      group.settle();
      // m2 has the entry and has not heard that it is committed.
      m1.propose(2, 'b');
      m1.sync();
      carry(group, 'm1', 'm2');
      m2.sync();
      carry(group, 'm2', 'm1');
      must(m1.resolved.get(2) === 'did b', 'm1 has committed it');
      group.messages = [];
      together(group, 'm2', 'm3');
      stand(group, m2);
      m2.read(7);
      group.settle();
      const answer = m2.resolved.get(7) ?? '';
      must(answer === 'NO_LEADER' || answer === 'read at 4', 'refused, or as new', { answer });
      m2.read(8);
      group.settle();
      must(m2.resolved.get(8) === 'read at 4', 'after its first commit it answers', {
        answer: m2.resolved.get(8),
      });
    },
  },
  {
    id: 'B6',
    name: 'a leader that was replaced and does not know it answers reads',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      together(group, 'm2', 'm3');
      stand(group, m2);
      m2.propose(1, 'newer');
      group.settle();
      must(m1.state.role === 'leader', 'm1 believes that it leads');
      m1.read(9);
      group.settle();
      must(m1.resolved.get(9) === undefined, 'nobody confirms it', { answer: m1.resolved.get(9) });
      group.cut.clear();
      group.pass(4 * electionMs);
      must(m1.resolved.get(9) === 'NO_LEADER', 'it is refused when it steps down', {
        answer: m1.resolved.get(9),
      });
    },
  },
  {
    id: 'B6',
    name: 'an answer to a round that left before the read confirms it',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      // A heartbeat is answered, and the answers are late.
      group.now += heartbeatMs;
      m1.tick();
      carry(group, 'm1', 'm2');
      const late = group.messages.splice(0).filter((m) => m.to === 'm1');
      together(group, 'm2', 'm3');
      stand(group, m2);
      m2.propose(1, 'newer');
      group.settle();
      m1.read(9);
      group.cut.clear();
      for (const message of late) group.deliver(message);
      must(m1.resolved.get(9) === undefined, 'it says nothing of now', {
        answer: m1.resolved.get(9),
      });
    },
  },
  {
    id: 'B6',
    name: 'an answer to a question from before a restart answers one from after it',
    run() {
      const random = new SeededRandom(1);
      const group = new Group(3, { random: () => random.float() });
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      m2.read(7);
      carry(group, 'm2', 'm1');
      for (let i = 0; i < 2; i += 1) {
        carry(group, 'm1', 'm3');
        group.member('m3').sync();
        carry(group, 'm3', 'm1');
      }
      const isLate = (m: RaftMessage): boolean => m.message?.$case === 'readResult';
      const late = group.messages.filter(isLate);
      must(late.length === 1, 'm1 has answered, and the answer is late');
      group.messages = group.messages.filter((m) => !isLate(m));
      m2.crash();
      m1.propose(1, 'newer');
      group.settle();
      m2.restart();
      group.now += heartbeatMs;
      m1.tick();
      group.settle();
      m2.read(8);
      for (const message of late) group.deliver(message);
      must(m2.resolved.get(8) === undefined, 'it is another question', {
        answer: m2.resolved.get(8),
      });
      group.settle();
      must(m2.resolved.get(8) === 'read at 2', 'which has its own answer', {
        answer: m2.resolved.get(8),
      });
    },
  },
  {
    id: 'B6',
    name: 'an answer to a message from before a restart confirms a read from after it',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      // Many rounds, and the message of the last one to m2 is late.
      for (let i = 0; i < 50; i += 1) {
        group.now += heartbeatMs;
        m1.tick();
        if (i < 49) group.settle();
      }
      const late = group.messages.splice(0).filter((m) => m.from === 'm1' && m.to === 'm2');
      must(late.length === 1, 'it is under way');
      m1.crash();
      m1.restart();
      stand(group, m1);
      group.settle();
      must(m1.state.role === 'leader', 'm1 leads again, and counts its rounds anew');
      for (const message of late) group.deliver(message);
      carry(group, 'm2', 'm1');
      together(group, 'm2', 'm3');
      stand(group, m2);
      m2.propose(1, 'newer');
      group.settle();
      must(m1.state.role === 'leader', 'm1 believes that it leads');
      m1.read(9);
      must(m1.resolved.get(9) === undefined, 'it says nothing of now', {
        answer: m1.resolved.get(9),
      });
    },
  },
  {
    id: 'B7',
    name: 'a learner that was given its vote and does not know it refuses to vote',
    run() {
      const group = new Group(1);
      const m1 = ledBy(group);
      const m2 = group.start('m2');
      m1.change(1, adding('m2'));
      group.settle();
      must(
        group.membersOf('m1').some((m) => m.id === 'm2' && !m.learner),
        'm2 has its vote',
      );
      // m3 is promoted while its newest messages are lost: it believes that it has none.
      const m3 = group.start('m3');
      m1.change(2, adding('m3'));
      for (let turn = 0; turn < 100; turn += 1) {
        for (const member of group.members) member.sync();
        const message = group.messages.shift();
        if (message !== undefined) group.deliver(message);
        const isPromoted = group.membersOf('m1').some((m) => m.id === 'm3' && !m.learner);
        if (isPromoted) group.cut.add('m1>m3');
        if (isPromoted && m2.state.durable.log.last.index === m1.state.durable.log.last.index)
          break;
      }
      must(!group.membersOf('m3').some((m) => m.id === 'm3' && !m.learner), 'm3 knows of no vote');
      m1.crash();
      group.messages = [];
      stand(group, m2);
      group.settle();
      must(m3.state.durable.vote === 'm2', 'm3 voted');
    },
  },
  {
    id: 'B9',
    name: 'a snapshot cuts entries behind it that match, and were acknowledged',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group, 3);
      const [m3] = members(group, 'm3') as [Member];
      // m3 has all entries and knows of few commits; a snapshot of the past arrives.
      m1.propose(1, 'a');
      m1.propose(2, 'b');
      m1.sync();
      m1.takeSnapshot();
      m1.sync();
      carry(group, 'm1', 'm3');
      m3.sync();
      const before = m3.state.durable.log.last.index;
      const { snapshot } = m1.state.durable;
      must(snapshot !== undefined && before > (snapshot.at?.index ?? 0), 'it is of the past');
      m3.state.commit = 0;
      m3.state.applied = 0;
      m3.receive({
        from: 'm1',
        to: 'm3',
        term: m1.state.durable.term,
        clusterId: noBytes,
        address: '',
        message: { $case: 'snapshotRequest', value: { snapshot, round: m1.state.round } },
      });
      must(m3.state.durable.log.last.index === before, 'what follows it stays', {
        before,
        after: m3.state.durable.log.last.index,
      });
      group.settle();
    },
  },
  {
    id: 'B9',
    name: 'a log that parts from a snapshot stays, and the snapshot is sent for ever',
    run() {
      const group = new Group(3, { keptEntries: 0 });
      const m1 = ledBy(group, 2);
      const [m2, m3] = members(group, 'm2', 'm3') as [Member, Member];
      // m1, cut off, takes entries that nobody else will ever have.
      together(group, 'm2', 'm3');
      for (let i = 0; i < 6; i += 1) m1.propose(10 + i, `lost ${i}`);
      m1.sync();
      stand(group, m2);
      for (let i = 0; i < 6; i += 1) m2.propose(20 + i, `kept ${i}`);
      group.settle();
      m2.takeSnapshot();
      group.settle();
      must(m2.state.durable.log.first > 4, 'm2 has only its snapshot');
      group.cut.clear();
      group.pass(10 * electionMs);
      must(m1.state.durable.log.base.index >= 4, 'm1 took the snapshot');
      must(m1.applied.join() === m3.applied.join(), 'and applied what the others did', {
        own: m1.applied,
        others: m3.applied,
      });
    },
  },
  {
    id: 'B9',
    name: 'a snapshot that comes late puts a member back',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group, 2);
      const [m3] = members(group, 'm3') as [Member];
      m1.takeSnapshot();
      m1.sync();
      const { snapshot } = m1.state.durable;
      for (let i = 0; i < 3; i += 1) m1.propose(i, `more ${i}`);
      group.settle();
      group.pass(2 * heartbeatMs);
      const before = m3.state.commit;
      m3.receive({
        from: 'm1',
        to: 'm3',
        term: m1.state.durable.term,
        clusterId: noBytes,
        address: '',
        message: { $case: 'snapshotRequest', value: { snapshot, round: m1.state.round } },
      });
      must(m3.state.commit === before && m3.state.applied === before, 'nothing goes back');
      group.settle();
    },
  },
  {
    id: 'B10',
    name: 'a restart finds a snapshot without its log, or a log without its snapshot',
    run() {
      const group = new Group(1, { snapshotEntries: 3, keptEntries: 1 });
      const m1 = ledBy(group);
      for (let i = 0; i < 10; i += 1) {
        m1.propose(i, `${i}`);
        m1.syncSlowly();
        if (i % 2 === 1) m1.syncSlowly();
      }
      group.settle();
      const { applied } = m1;
      m1.crash();
      m1.restart();
      group.pass(4 * electionMs);
      must(m1.applied.slice(0, applied.length).join() === applied.join(), 'it applied the same', {
        before: applied,
        after: m1.applied,
      });
      must(m1.state.durable.log.first > 5, 'its log has lost its beginning');
    },
  },
  {
    id: 'B11',
    name: 'a follower that has caught up is probed, or sent a snapshot, for ever',
    run() {
      const group = new Group(3, { keptEntries: 0 });
      const m1 = ledBy(group, 1);
      alone(group, 'm3');
      for (let i = 0; i < 8; i += 1) m1.propose(i, `${i}`);
      group.settle();
      m1.takeSnapshot();
      group.settle();
      group.cut.clear();
      group.pass(3 * electionMs);
      const progress = m1.state.progress.get('m3');
      must(progress?.mode === 'replicate', 'it is fed as the others are', { progress });
      must(progress?.match === m1.state.durable.log.last.index, 'and has all', { progress });
      let sent = 0;
      group.messages = [];
      group.now += heartbeatMs;
      m1.tick();
      sent = group.messages.filter((m) => m.message?.$case === 'snapshotRequest').length;
      must(sent === 0, 'no snapshot is sent to who needs none');
      group.settle();
    },
  },
  {
    id: 'B11',
    name: 'a snapshot whose answer is lost stops its follower for ever',
    run() {
      const group = new Group(3, { keptEntries: 0 });
      const m1 = ledBy(group, 1);
      alone(group, 'm3');
      for (let i = 0; i < 8; i += 1) m1.propose(i, `${i}`);
      group.settle();
      m1.takeSnapshot();
      group.settle();
      // The snapshot is under way and is lost.
      group.cut.clear();
      group.cut.add('m1>m3');
      group.pass(heartbeatMs);
      group.cut.clear();
      group.cut.add('m3>m1');
      group.pass(heartbeatMs);
      group.cut.clear();
      group.pass(8 * electionMs);
      const leader = group.leader ?? m1;
      must(group.member('m3').state.applied === leader.state.applied, 'it is sent again');
    },
  },
  {
    id: 'B11',
    name: 'who says that it lacks what it had is asked again and again, as fast as it answers',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group, 3);
      const { term } = m1.state.durable;
      const value = { accepted: false, match: 0, conflict: { generation: 0, index: 1 }, round: 0 };
      // An old answer; or one of a member whose disk was lost, which would give it to every message.
      group.deliver({
        ...{ from: 'm2', to: 'm1', term, clusterId: noBytes, address: '' },
        message: { $case: 'appendResponse', value },
      });
      must(group.messages.length === 0, 'it is asked again at the next heartbeat, not at once');
      m1.propose(9, 'more');
      group.settle();
      must(group.member('m2').applied.length === m1.applied.length, 'and is fed as before');
    },
  },
  {
    id: 'B12',
    name: 'a member that was removed disturbs the others, or never learns of it',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group, 1);
      const [m3] = members(group, 'm3') as [Member];
      alone(group, 'm3');
      m1.change(1, removing('m3'));
      group.settle();
      must(m1.resolved.get(1) === 'did group', 'it is removed');
      group.cut.clear();
      const { term } = m1.state.durable;
      group.pass(10 * electionMs);
      must(m1.state.durable.term === term && m1.state.role === 'leader', 'nobody is disturbed');
      must(m3.isRemoved, 'it is told');
      m1.change(2, adding('m3'));
      must(m1.resolved.get(2) === 'MEMBER_REMOVED', 'its id never returns', {
        answer: m1.resolved.get(2),
      });
    },
  },
  {
    id: 'B12',
    name: 'two members are left, one of them for ever silent, and cannot be removed',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const [m2, m3] = members(group, 'm2', 'm3') as [Member, Member];
      m3.crash();
      // With m3 dead, m2 may not go: m1 and m3 would be left, and m3 doesn't answer.
      m1.change(1, removing('m2'));
      group.pass(2 * electionMs);
      must(m1.resolved.get(1) === 'LAST_MAJORITY', 'refused', { answer: m1.resolved.get(1) });
      m1.change(2, removing('m3'));
      group.pass(electionMs);
      must(m1.resolved.get(2) === 'did group', 'the dead one goes', { answer: m1.resolved.get(2) });
      must(m2.state.durable.log.last.index === m1.state.durable.log.last.index, 'm2 follows');
    },
  },
  {
    id: 'B12',
    name: 'a leader that removes itself leaves a group that nobody can lead',
    run() {
      const group = new Group(2);
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      // The entry that removes m1 is in its log alone when it loses its leadership.
      m1.change(1, removing('m1'));
      for (let turn = 0; turn < 20 && m1.state.removal !== undefined; turn += 1) {
        for (const message of group.messages.splice(0)) group.deliver(message);
        for (const member of group.members) member.sync();
      }
      must(!group.membersOf('m1').some((m) => m.id === 'm1'), 'm1 has the entry');
      group.messages = [];
      m1.crash();
      m1.restart();
      group.pass(20 * electionMs);
      must(group.leader !== undefined, 'somebody leads');
      must(m2.state.role === 'leader', 'm2, in the end', { m1: m1.state.role, m2: m2.state.role });
      must(m1.isRemoved, 'and m1 is gone');
    },
  },
  {
    id: 'B13',
    name: 'what was acknowledged is lost with a write that was never synced',
    run() {
      const group = new Group(3);
      const m1 = ledBy(group);
      const [m2, m3] = members(group, 'm2', 'm3') as [Member, Member];
      alone(group, 'm3');
      m1.propose(1, 'a');
      m1.sync();
      carry(group, 'm1', 'm2');
      carry(group, 'm2', 'm1');
      must(m1.resolved.get(1) === undefined, 'm2 has it, and not on its disk');
      m2.crash();
      m2.restart();
      group.cut.clear();
      group.messages = [];
      stand(group, m3);
      group.settle();
      must(m1.resolved.get(1) !== 'did a', 'it was never acknowledged');
    },
  },
  {
    id: 'transfer',
    name: 'who is told to take over lacks what is committed, or what was asked for is forgotten',
    run() {
      const random = new SeededRandom(1);
      const group = new Group(3, () => random.float());
      const m1 = ledBy(group);
      const [m2] = members(group, 'm2') as [Member];
      m1.propose(1, 'a');
      m1.change(2, transferring('m2'));
      must(!group.messages.some((m) => m.message?.$case === 'timeoutNow'), 'not before it has all');
      m1.propose(3, 'b');
      must(m1.resolved.get(3) === 'NO_LEADER', 'nothing new is taken meanwhile');
      group.settle();
      must(m2.state.role === 'leader', 'm2 leads', { role: m2.state.role });
      must(m1.resolved.get(1) === 'did a', 'what was asked for before is done');
      must(m1.resolved.get(2) === '', 'the transfer is done', { answer: m1.resolved.get(2) });
      m2.crash();
      group.cut.add('m1>m2');
      m1.resolved.clear();
      group.pass(6 * electionMs);
      const leader = group.leader ?? m1;
      leader.change(4, transferring('m2'));
      group.pass(2 * electionMs);
      must(
        leader.resolved.get(4) === 'MEMBER_BEHIND' || leader.resolved.get(4) === 'TRANSFER_FAILED',
        'one that does not answer is not waited for',
        { answer: leader.resolved.get(4) },
      );
      leader.propose(5, 'c');
      group.pass(electionMs);
      must(leader.resolved.get(5) === 'did c', 'and the leader goes on');
    },
  },
  {
    id: 'B14',
    name: 'a member that lost its folder in a power cut of all votes against what is committed',
    run() {
      // E is on m1 and m2; m1's disk is replaced, and m3, which lacks E, is the first to stand.
      const group = founded();
      const [m1, m2, m3] = members(group, 'm1', 'm2', 'm3') as [Member, Member, Member];
      together(group, 'm1', 'm2');
      m1.propose(1, 'E');
      group.settle();
      must(m1.resolved.get(1) === 'did E', 'E is acknowledged');
      m1.loseFolder();
      for (const member of [m2, m3]) member.crash();
      group.messages = [];
      group.cut.clear();
      m1.restart();
      must(m1.ask() === 'waits', 'while nobody answers it takes no part');
      m3.restart();
      group.pass(10 * electionMs);
      must(group.leader === undefined, 'm3 gets no vote of m1');
      must(m1.ask() === 'refused', 'm3 lacks E, and knows m1');
      m2.restart();
      must(m1.ask() === 'refused', 'm2 knows m1, too');
      group.pass(10 * electionMs);
      must(group.leader === m2, 'who has E leads');
      m2.propose(2, 'F');
      group.settle();
      must(
        m3.applied.some((entry) => entry.endsWith(':E')),
        'E is applied everywhere',
      );
    },
  },
  {
    id: 'B14',
    name: 'a vote that was lost with a folder is given again, and a term has two leaders',
    run() {
      const group = new Group(3, { isFirstStart: true });
      const [m1, m2, m3] = members(group, 'm1', 'm2', 'm3') as [Member, Member, Member];
      for (const member of group.members) member.ask();
      group.settle();
      // m1 leads term 1 by the vote of m2, and nobody hears of it.
      m3.crash();
      stand(group, m1);
      m1.sync();
      m1.crash();
      group.messages = [];
      m2.loseFolder();
      for (const member of [m1, m2, m3]) member.restart();
      must(m2.ask() === 'admitted', 'nobody has counted on an entry of m2');
      // m1 does not stand; m3 has heard of no election.
      group.cut.add('m1>m2').add('m1>m3');
      group.cut.add('m2>m1').add('m3>m1');
      for (let tries = 0; tries < 20 && m3.state.role !== 'leader'; tries += 1) {
        m3.state.electionAt = group.now;
        m3.tick();
        group.settle();
        group.now += electionMs;
      }
      must(m3.state.role !== 'leader' || m3.state.durable.term > 1, 'term 1 had its leader');
    },
  },
  {
    id: 'B14',
    name: 'an entry is committed by a member, and nobody else knows that it takes part',
    run() {
      const group = new Group(3, { isFirstStart: true });
      const [m1, m2, m3] = members(group, 'm1', 'm2', 'm3') as [Member, Member, Member];
      for (const member of group.members) member.ask();
      group.settle();
      m3.crash();
      stand(group, m1);
      // m2 has the first entries, and whoever reads its disk then knows of them.
      for (let turn = 0; turn < 200 && m1.state.commit === 0; turn += 1) {
        for (const member of [m1, m2]) member.sync();
        const message = group.messages.shift();
        if (message !== undefined) group.deliver(message);
      }
      const { commit, durable } = m1.state;
      must(commit > 0, 'm1 and m2 are a majority');
      must(isSeen(groupAt(durable, commit), 'm2'), 'what is committed says by whom', { commit });
    },
  },
  {
    id: 'B14',
    name: 'a member that lost its folder is taken for a new one by who was down while it took part',
    run() {
      const group = new Group(3, { isFirstStart: true });
      const [m1, m2, m3] = members(group, 'm1', 'm2', 'm3') as [Member, Member, Member];
      m3.crash();
      for (const member of [m1, m2]) member.ask();
      group.settle();
      ledBy(group);
      m2.crash();
      // m3 can't know what m2 has: it begins when both have spoken.
      m3.restart();
      must(m3.ask() === 'waits', 'm1 alone does not know what m2 has');
      m2.restart();
      must(m3.ask() === 'admitted', 'm1 and m2 do not know m3');
      group.settle();
      m2.crash();
      group.pass(5 * electionMs);
      m1.propose(1, 'E');
      group.settle();
      must(m1.resolved.get(1) === 'did E', 'm1 and m3 have E');
      m1.crash();
      m3.loseFolder();
      m2.restart();
      m3.restart();
      must(m3.ask() === 'waits', 'm2 knows nothing of m3, and m1 could');
      m1.restart();
      must(m3.ask() === 'refused', 'm1 does');
    },
  },
  {
    id: 'B14',
    name: 'a member that lost its folder is taken for a new one by who missed a change of the group',
    run() {
      const group = new Group(4, { isFirstStart: true });
      const [m1, m4] = members(group, 'm1', 'm4') as [Member, Member];
      m4.crash();
      for (const member of group.members) if (member !== m4) member.ask();
      group.settle();
      ledBy(group);
      const m5 = group.start('m5');
      together(group, 'm1', 'm2', 'm3');
      m1.change(1, adding('m5'));
      group.settle();
      m4.restart();
      must(m4.ask() === 'admitted', 'the others do not know m4');
      // m5 would get its vote, and m4 be heard, where m2 and m3 learn of neither.
      together(group, 'm1', 'm5');
      group.pass(2 * heartbeatMs);
      together(group, 'm1', 'm4', 'm5');
      m1.propose(2, 'E');
      group.pass(2 * heartbeatMs);
      for (const member of [m1, m5]) member.crash();
      m4.loseFolder();
      group.messages = [];
      group.cut.clear();
      m4.restart();
      must(m4.ask() === 'admitted', 'm2 and m3 do not know m4');
      // The group checks that whoever leads has E, where it was acknowledged.
      group.elect('m2');
      must(group.leader?.id === 'm2', 'they are a majority of the founders');
    },
  },
];

/** Three members at their first start; m1 leads, and each has taken part. */
function founded(): Group {
  const group = new Group(3, { isFirstStart: true });
  for (const member of group.members) member.ask();
  group.settle();
  ledBy(group);
  return group;
}

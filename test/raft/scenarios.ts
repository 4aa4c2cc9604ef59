import { appendBytesMax } from '../../src/raft/limits.js';
import { check } from '../sim/check.js';
import { Group, type Member } from './group.js';

/** A way that chance takes too rarely; throws where something breaks on it. */
export interface Script {
  readonly name: string;
  run(): void;
}

/** Only these hear each other. */
export function together(group: Group, ...ids: string[]): void {
  group.cut.clear();
  for (const { id: a } of group.members) {
    for (const { id: b } of group.members) {
      if (a !== b && !(ids.includes(a) && ids.includes(b))) group.cut.add(`${a}>${b}`);
    }
  }
}

/** This one is elected by whoever hears it; nothing more is delivered then. */
export function stand(group: Group, candidate: Member): void {
  standWithout(group, candidate, undefined);
}

/** The same, while the disk of another one is busy. */
export function standWithout(group: Group, candidate: Member, busy: Member | undefined): void {
  candidate.state.electionAt = group.now;
  for (const { state } of group.members) state.heardLeaderAt = Number.NEGATIVE_INFINITY;
  candidate.tick();
  for (let turn = 0; turn < 200 && candidate.state.role !== 'leader'; turn += 1) {
    for (const member of group.members) if (member !== busy) member.sync();
    const message = group.messages.shift();
    if (message !== undefined) group.deliver(message);
    else candidate.state.electionAt = group.now;
    if (message === undefined) candidate.tick();
  }
  check(candidate.state.role === 'leader', 'script', `${candidate.id} is elected`);
}

export function led(size: number): { readonly group: Group; readonly members: readonly Member[] } {
  const group = new Group(size);
  group.elect('m1');
  return { group, members: group.members };
}

export const scripts: readonly Script[] = [
  {
    name: 'figure 8: an entry of an earlier term on a majority of disks is not committed by that',
    run() {
      const { group } = led(5);
      const [m1, m3, m5] = [group.member('m1'), group.member('m3'), group.member('m5')];
      // Term 1: three entries, each as large as a message may be, reach m2 alone.
      together(group, 'm1', 'm2');
      for (const name of ['a', 'b', 'c']) m1.propose(1, name.repeat(appendBytesMax));
      group.settle();
      m1.crash();
      // Term 2: m5 is elected by those without them, and nobody hears more of it.
      together(group, 'm3', 'm4', 'm5');
      stand(group, m5);
      m5.sync();
      m5.crash();
      group.messages = [];
      // Term 3: m1 is back; one of its old entries reaches m3, its own of term 3 doesn't.
      m1.restart();
      together(group, 'm1', 'm2', 'm3', 'm4');
      stand(group, m1);
      together(group, 'm1', 'm2', 'm3');
      m1.sync();
      for (let turn = 0; turn < 200 && m3.state.durable.log.last.index < 2; turn += 1) {
        for (const member of [m1, group.member('m2'), m3]) member.sync();
        const message = group.messages.shift();
        if (message !== undefined) group.deliver(message);
        else m1.tick();
      }
      check(m3.state.durable.log.last.index === 2, 'script', 'one of the old entries is at m3');
      m3.sync();
      for (const message of group.messages.splice(0)) {
        if (message.to === 'm1') group.deliver(message);
      }
      group.check();
      m1.crash();
      group.member('m2').crash();
      group.messages = [];
      // Term 4: m5 has a newer entry there; what was committed would be lost.
      m5.restart();
      group.cut.clear();
      stand(group, m5);
      group.pass(300);
      check(group.leader === m5, 'script', 'm5 leads again');
    },
  },
  {
    name: 'a vote is not forgotten when its giver waits for another election',
    run() {
      const group = new Group(3);
      const [m1, m2, m3] = ['m1', 'm2', 'm3'].map((id) => group.member(id));
      if (m1 === undefined || m2 === undefined || m3 === undefined) return;
      const carry = (from: string, to: string): void => {
        for (const message of group.messages.filter((m) => m.from === from && m.to === to)) {
          group.messages.splice(group.messages.indexOf(message), 1);
          group.deliver(message);
        }
      };
      // Both stand for term 1, with the help of m3, which votes for m1.
      for (const member of [m1, m2]) {
        member.state.electionAt = group.now;
        member.tick();
        carry(member.id, 'm3');
        m3.sync();
        carry('m3', member.id);
        member.sync();
      }
      carry('m1', 'm3');
      m3.sync();
      carry('m3', 'm1');
      check(m1.state.role === 'leader', 'script', 'm1 leads term 1');
      // m3 hears nothing of it, asks around in vain, and then m2's request arrives.
      m3.state.electionAt = group.now;
      m3.tick();
      m3.sync();
      carry('m2', 'm3');
      m3.sync();
      carry('m3', 'm2');
      group.check();
      check(m2.state.role !== 'leader', 'raft script', 'one leader in a term');
    },
  },
  {
    name: 'a sync of an entry that was cut says nothing of the one in its place',
    run() {
      const { group } = led(3);
      const [m1, m2, m3] = ['m1', 'm2', 'm3'].map((id) => group.member(id));
      if (m1 === undefined || m2 === undefined || m3 === undefined) return;
      // m1, cut off, begins to sync an entry of term 1; m2 leads term 2 and puts its own there.
      together(group, 'm2', 'm3');
      m1.propose(1, 'old');
      const old = m1.state.durable.log.last;
      m1.syncSlowly();
      standWithout(group, m2, m1);
      group.cut.clear();
      group.now += 30;
      m2.tick();
      for (let round = 0; round < 4; round += 1) {
        for (const message of group.messages.splice(0)) {
          if (message.to === 'm1' || message.from === 'm1') group.deliver(message);
        }
      }
      check(m1.state.durable.log.termAt(old.index) === 2, 'script', 'the old entry was cut');
      m1.syncSlowly();
      check(m1.state.synced < old.index, 'raft script', 'what is not on the disk does not count', {
        synced: m1.state.synced,
        old,
      });
    },
  },
];

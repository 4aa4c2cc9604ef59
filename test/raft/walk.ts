import { SeededRandom } from '../sim/schedule.js';
import { adding, Group, type Member, removing, transferring } from './group.js';

const steps = 400;

/** How likely each step is; drawn by the seed, so that some walks are all crashes and others all delay. */
interface Mix {
  readonly time: number;
  readonly message: number;
  readonly sync: number;
  readonly propose: number;
  readonly crash: number;
  readonly cut: number;
  readonly heal: number;
  /** A member stands for election, and some of what that leads to happens. */
  readonly elect: number;
  /** Messages arrive in their order, and disks sync, for a while. */
  readonly flow: number;
  /** A sync begins, or one that has begun ends. */
  readonly slowSync: number;
  /** A member is added, another one removed. */
  readonly change: number;
  /** Leadership is handed over. */
  readonly transfer: number;
  readonly read: number;
  /** Part of the messages that are taken in their order. */
  readonly inOrder: number;
  /** Parts of the messages that stay under way too, and that are lost. */
  readonly doubled: number;
  readonly lost: number;
}

function mixOf(random: SeededRandom): Mix {
  return {
    time: random.between(0.1, 0.4),
    message: random.between(0.2, 0.6),
    sync: random.between(0.02, 0.2),
    propose: random.between(0.02, 0.2),
    crash: random.between(0, 0.1),
    cut: random.between(0, 0.1),
    heal: random.between(0, 0.1),
    elect: random.chance(0.5) ? random.between(0, 0.3) : 0,
    flow: random.chance(0.5) ? random.between(0, 0.3) : 0,
    slowSync: random.chance(0.5) ? random.between(0, 0.3) : 0,
    change: random.chance(0.6) ? random.between(0, 0.1) : 0,
    transfer: random.chance(0.4) ? random.between(0, 0.1) : 0,
    read: random.chance(0.5) ? random.between(0, 0.2) : 0,
    inOrder: random.float(),
    doubled: random.chance(0.5) ? random.between(0, 0.2) : 0,
    lost: random.chance(0.5) ? random.between(0, 0.3) : 0,
  };
}

/**
 * One random walk of a group: loss, doubles, reordering, crashes and cuts, every invariant after every step; then
 * everything heals, and the group must commit again. Throws where something breaks.
 */
export function walk(seed: number): { readonly committed: number } {
  const random = new SeededRandom(seed);
  const group = new Group(random.pick([1, 2, 3, 3, 4, 5, 5]), {
    random: () => random.float(),
    snapshotEntries: random.pick([3, 10, 1_000]),
    keptEntries: random.int(4),
  });
  const mix = mixOf(random);
  const moves: readonly (readonly [number, () => void])[] = [
    [mix.time, () => passSome(group, random)],
    [mix.message, () => deliverOne(group, random, mix)],
    [mix.sync, () => random.pick(group.members).sync()],
    [mix.propose, () => proposeAt(group, random)],
    [mix.crash, () => crashOrRestart(random.pick(group.members))],
    [mix.cut, () => cutSome(group, random)],
    [mix.heal, () => group.cut.clear()],
    [mix.elect, () => standForElection(group, random)],
    [mix.flow, () => flow(group, random)],
    [mix.slowSync, () => random.pick(group.members).syncSlowly()],
    [mix.change, () => changeSome(group, random)],
    [mix.transfer, () => transferSome(group, random)],
    [mix.read, () => random.pick(group.members).read(random.uint32())],
  ];
  const all = moves.reduce((sum, [weight]) => sum + weight, 0);
  for (let i = 0; i < steps; i += 1) {
    let dice = random.float() * all;
    for (const [weight, move] of moves) {
      dice -= weight;
      if (dice >= 0) continue;
      move();
      break;
    }
    group.check();
  }
  return { committed: healed(group) };
}

function passSome(group: Group, random: SeededRandom): void {
  group.now += random.int(30);
  for (const each of group.members) each.tick();
}

/** Whoever leads is not heard any more; what follows is up to the messages. */
function standForElection(group: Group, random: SeededRandom): void {
  const member = random.pick(group.members);
  member.state.electionAt = group.now;
  for (const other of group.members) other.state.heardLeaderAt = Number.NEGATIVE_INFINITY;
  member.tick();
}

function flow(group: Group, random: SeededRandom): void {
  const some = 1 + random.int(30);
  for (let i = 0; i < some; i += 1) {
    if (random.chance(0.5)) random.pick(group.members).sync();
    const message = group.messages.shift();
    if (message !== undefined) group.deliver(message);
    group.check();
  }
}

function deliverOne(group: Group, random: SeededRandom, mix: Mix): void {
  const { doubled, lost, inOrder } = mix;
  if (group.messages.length === 0) return;
  const at = random.chance(inOrder) ? 0 : random.int(group.messages.length);
  const message = group.messages[at];
  if (!random.chance(doubled)) group.messages.splice(at, 1);
  if (message !== undefined && !random.chance(lost)) group.deliver(message);
}

function proposeAt(group: Group, random: SeededRandom): void {
  someLeader(group, random).propose(random.uint32(), `${random.uint32()}`);
}

/** A leader, if there is one: others only pass on what they are asked for. */
function someLeader(group: Group, random: SeededRandom): Member {
  const leaders = group.members.filter((m) => m.isUp && m.state.role === 'leader');
  return leaders.length > 0 ? random.pick(leaders) : random.pick(group.members);
}

/** At most seven processes at a time; who is removed never returns. */
function changeSome(group: Group, random: SeededRandom): void {
  const leader = someLeader(group, random);
  const present = group.membersOf(leader.id);
  const running = group.members.filter((m) => !m.isRemoved);
  if (random.chance(0.6) && running.length < 7 && group.members.length < 12) {
    const { id } = group.start(`m${group.members.length + 1}`);
    leader.change(random.uint32(), adding(id));
    return;
  }
  // One that was started and not taken in yet is asked for again.
  const outside = running.filter(({ id }) => !present.some((m) => m.id === id));
  if (outside.length > 0 && random.chance(0.5)) {
    leader.change(random.uint32(), adding(random.pick(outside).id));
  } else if (present.length > 0) {
    leader.change(random.uint32(), removing(random.pick(present).id));
  }
}

function transferSome(group: Group, random: SeededRandom): void {
  const leader = someLeader(group, random);
  const to = random.chance(0.3) ? '' : random.pick(group.members).id;
  leader.change(random.uint32(), transferring(to));
}

function crashOrRestart(member: Member): void {
  if (member.isUp) member.crash();
  else member.restart();
}

/** One link, or one member from all others. */
function cutSome(group: Group, random: SeededRandom): void {
  const { id } = random.pick(group.members);
  const isAlone = random.chance(0.5);
  const others = isAlone ? group.members : [random.pick(group.members)];
  for (const other of others) {
    group.cut.add(`${id}>${other.id}`);
    if (isAlone) group.cut.add(`${other.id}>${id}`);
  }
}

function healed(group: Group): number {
  group.cut.clear();
  for (const member of group.members) if (!member.isUp) member.restart();
  group.messages = [];
  group.pass(1_500);
  const before = group.committed.length;
  group.leader?.propose(-1, 'healed');
  group.pass(200);
  if (group.committed.length <= before)
    throw new Error(
      'a healed group commits nothing' +
        JSON.stringify(
          group.members.map((m) => [
            m.id,
            m.isUp,
            m.isRemoved,
            m.state.role,
            m.state.durable.term,
            m.state.commit,
            m.state.durable.log.last.index,
            group
              .membersOf(m.id)
              .map((x) => x.id + (x.learner ? 'L' : ''))
              .join(' '),
          ]),
        ),
    );
  const { leader } = group;
  for (const { id } of leader === undefined ? [] : group.membersOf(leader.id)) {
    const { applied, commit } = group.member(id).state;
    const isLast = applied === group.committed.length;
    if (!isLast) throw new Error(`${id} has not applied all: ${applied} of ${commit}`);
  }
  return group.committed.length;
}

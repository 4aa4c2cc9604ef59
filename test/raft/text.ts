import type { RaftMessage } from '../../src/gen/keychaindb/v1/raft.js';
import { currentGroup } from '../../src/raft/state.js';
import { adding, Group, type Member, removing, transferring } from './group.js';

/*
 * Scenarios as text: a command, `----`, and what it led to, up to an empty line.
 *
 *   group N [snapshot=K] [kept=K]   start ID
 *   elect ID                        stands for election; everything is delivered
 *   campaign ID                     its election timeout is over; nothing is delivered
 *   propose ID TEXT   read ID       add ID NEW   remove ID WHOM   transfer ID [TO]   (asked at ID)
 *   deliver [A>B]                   what is under way now (between these); what it leads to stays under way
 *   sync [ID …]                     disks (all, or these)
 *   settle                          syncs and delivers until nothing is under way
 *   pass MS                         time passes, everything is delivered
 *   tick ID MS                      time passes for this one alone; nothing is delivered
 *   lose [A>B]                      what is under way is lost
 *   cut A>B …   alone ID   heal     crash ID   restart ID   snapshot ID
 *   log ID                          its log
 *
 * Each answers with the members whose state has changed, what was asked for and is answered, and what is under way.
 */

/** Runs one file; the same text with the present answers. */
export function runText(text: string): string {
  const world = new World();
  const blocks = text.trimEnd().split(/\n\n+/);
  return `${blocks.map((block) => world.answer(block)).join('\n\n')}\n`;
}

class World {
  #group = new Group(0);
  readonly #before = new Map<string, string>();
  readonly #answered = new Map<string, string>();
  #nextToken = 1;
  readonly #asked: { readonly id: string; readonly token: number; readonly what: string }[] = [];

  /** A block of comments stays; of one with commands the answer is made anew. */
  answer(block: string): string {
    const lines = block.split('\n');
    const end = lines.indexOf('----');
    const asked = end < 0 ? lines : lines.slice(0, end);
    if (asked.every((line) => line.startsWith('#'))) return block;
    const said: string[] = [];
    for (const line of asked) if (!line.startsWith('#')) said.push(...this.#run(line));
    return [...asked, '----', ...said, ...this.#changes()].join('\n');
  }

  #run(line: string): readonly string[] {
    const [command = '', ...args] = line.split(/\s+/);
    const [first = '', second = ''] = args;
    switch (command) {
      case 'group':
        this.#found(Number(first), args.slice(1));
        return [];
      case 'log':
        return [logOf(this.#group.member(first))];
      case 'start':
        this.#group.start(first);
        return [];
      case 'cut':
        for (const link of args) this.#group.cut.add(link);
        return [];
      case 'alone':
        for (const { id } of this.#group.members) {
          this.#group.cut.add(`${id}>${first}`);
          this.#group.cut.add(`${first}>${id}`);
        }
        return [];
      case 'heal':
        this.#group.cut.clear();
        return [];
      case 'pass':
        this.#group.pass(Number(first));
        return [];
      case 'settle':
        this.#group.settle();
        return [];
      case 'sync':
        for (const { id } of this.#group.members) {
          if (args.length === 0 || args.includes(id)) this.#group.member(id).sync();
        }
        return [];
      case 'deliver':
      case 'lose':
        this.#carry(first, command === 'deliver');
        return [];
      default:
        this.#act(command, this.#group.member(first), second, args);
        return [];
    }
  }

  #found(size: number, flags: readonly string[]): void {
    const flag = (name: string): number | undefined => {
      const found = flags.find((f) => f.startsWith(`${name}=`));
      return found === undefined ? undefined : Number(found.slice(name.length + 1));
    };
    const [snapshotEntries, keptEntries] = [flag('snapshot'), flag('kept')];
    this.#group = new Group(size, {
      ...(snapshotEntries === undefined ? {} : { snapshotEntries }),
      ...(keptEntries === undefined ? {} : { keptEntries }),
    });
  }

  #carry(link: string, arrives: boolean): void {
    const { messages } = this.#group;
    const now = messages.filter((m) => link === '' || `${m.from}>${m.to}` === link);
    this.#group.messages = messages.filter((m) => !now.includes(m));
    if (arrives) for (const message of now) this.#group.deliver(message);
  }

  #act(command: string, member: Member, second: string, args: readonly string[]): void {
    switch (command) {
      case 'elect':
        this.#group.elect(member.id);
        return;
      case 'campaign':
        member.state.electionAt = this.#group.now;
        for (const { state } of this.#group.members) {
          state.heardLeaderAt = Number.NEGATIVE_INFINITY;
        }
        member.tick();
        return;
      case 'tick':
        this.#group.now += Number(second);
        member.tick();
        return;
      case 'crash':
        member.crash();
        return;
      case 'restart':
        member.restart();
        return;
      case 'snapshot':
        member.takeSnapshot();
        return;
      case 'propose':
        member.propose(this.#ask(member, args.slice(1).join(' ')), args.slice(1).join(' '));
        return;
      case 'read':
        member.read(this.#ask(member, 'read'));
        return;
      case 'add':
        member.change(this.#ask(member, `add ${second}`), adding(second));
        return;
      case 'remove':
        member.change(this.#ask(member, `remove ${second}`), removing(second));
        return;
      case 'transfer':
        member.change(this.#ask(member, `transfer ${second}`.trim()), transferring(second));
        return;
      default:
        throw new Error(`there is no command ${command}`);
    }
  }

  #ask({ id }: Member, what: string): number {
    const token = this.#nextToken;
    this.#nextToken += 1;
    this.#asked.push({ id, token, what });
    return token;
  }

  #changes(): readonly string[] {
    const lines: string[] = [];
    for (const member of this.#group.members) {
      const now = stateOf(member);
      if (this.#before.get(member.id) !== now) lines.push(`${member.id}: ${now}`);
      this.#before.set(member.id, now);
    }
    for (const { id, token, what } of this.#asked) {
      const answer = this.#group.member(id).resolved.get(token);
      const key = `${id} ${token}`;
      if (answer === undefined || this.#answered.has(key)) continue;
      this.#answered.set(key, answer);
      lines.push(`${id} answers ${what}: ${answer === '' ? 'done' : answer}`);
    }
    const { messages } = this.#group;
    if (messages.length > 0) lines.push(`under way: ${messages.map(messageOf).join(', ')}`);
    return lines.length === 0 ? ['nothing changes'] : lines;
  }
}

function stateOf({ state, isUp, isRemoved }: Member): string {
  if (isRemoved) return 'removed';
  if (!isUp) return 'down';
  const { role, leader, durable, commit, applied, synced } = state;
  const { log, term, vote } = durable;
  const led = role === 'follower' ? ` of ${leader ?? 'nobody'}` : '';
  const { members } = currentGroup(durable).group;
  const group = members.map((m) => `${m.id}${m.learner ? '?' : ''}`).join(' ');
  const begin = log.base.index === 0 ? '' : `${log.first}..`;
  const figures = `log ${begin}${log.last.index}, synced ${synced}, commit ${commit}`;
  const late = applied === commit ? '' : `, applied ${applied}`;
  return `${role}${led}, term ${term}, vote ${vote || '-'}, ${figures}${late}, {${group}}`;
}

function logOf({ state }: Member): string {
  const { log } = state.durable;
  const blocks = log.between(log.first, log.last.index);
  const entries = blocks.map(({ end, entries: [entry] }) => {
    const text = entry?.isGroup === true ? 'group' : Buffer.from(entry?.payload ?? []).toString();
    return `${end.index}/${end.generation} ${text || '-'}`;
  });
  return `log of ${state.id}: ${[...(log.base.index > 0 ? [`snapshot through ${log.base.index}`] : []), ...entries].join(', ')}`;
}

function messageOf({ from, to, term, message }: RaftMessage): string {
  return `${from}>${to} ${bodyOf(message)}@${term}`;
}

function bodyOf(body: RaftMessage['message']): string {
  switch (body?.$case) {
    case 'voteRequest':
      return body.value.preVote ? 'pre-vote?' : 'vote?';
    case 'voteResponse':
      return `${body.value.preVote ? 'pre-vote' : 'vote'}:${body.value.granted ? 'yes' : 'no'}`;
    case 'appendRequest': {
      const { previous, blocks, commit } = body.value;
      const after = previous?.index ?? 0;
      const carried = blocks.length === 0 ? 'nothing' : `${after + 1}-${after + blocks.length}`;
      return `append(${carried}, commit ${commit})`;
    }
    case 'appendResponse':
      return body.value.accepted ? `has(${body.value.match})` : 'refuses';
    case 'snapshotRequest':
      return `snapshot(${body.value.snapshot?.at?.index ?? 0})`;
    default:
      return body?.$case ?? '?';
  }
}

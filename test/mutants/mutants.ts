/** One place of the source, and what a defect makes of it. */
export interface Edit {
  /** Below src/. */
  readonly file: string;
  /** Found exactly once. */
  readonly find: string;
  readonly put: string;
}

/** A single defect that the checkers must find. Never built into the product: tools/mutants patches a copy. */
export interface Mutant {
  readonly name: string;
  /** The rule, invariant or bug of the field that it breaks. */
  readonly rule: string;
  readonly edits: readonly Edit[];
}

const one = (name: string, rule: string, file: string, find: string, put: string): Mutant => ({
  name,
  rule,
  edits: [{ file, find, put }],
});

const raft: readonly Mutant[] = [
  one(
    'an entry of an earlier term is committed by counting',
    'Raft §5.4.2, B2',
    'raft/replication.ts',
    'if (index > state.commit && state.durable.log.termAt(index) === state.durable.term) {',
    'if (index > state.commit) {',
  ),
  one(
    'a vote leaves before it is on the disk',
    'Raft figure 2, B3',
    'raft/election.ts',
    '{ term: granted ? term : durable.term, afterSync: true },',
    '{ term: granted ? term : durable.term, afterSync: false },',
  ),
  one(
    'term and vote are not synced',
    'Raft figure 2, B3',
    'raft/durable-record.ts',
    'log.record(recordVote(event.term, event.vote), { sync: true });',
    'void recordVote;',
  ),
  one(
    'a leader counts itself before its own sync',
    'B4',
    'raft/replication.ts',
    'id === state.id ? state.synced : (state.progress.get(id)?.match ?? 0);',
    'id === state.id ? state.durable.log.last.index : (state.progress.get(id)?.match ?? 0);',
  ),
  one(
    'a step-down in the same term forgets the vote',
    'B5',
    'raft/election.ts',
    "if (term > state.durable.term) turn.emit({ type: 'TermVoted', term, vote: '' });",
    "turn.emit({ type: 'TermVoted', term, vote: '' });",
  ),
  one(
    'a write of an entry that was cut vouches for the one in its place',
    'B8',
    'raft/turn.ts',
    'for (const storing of state.storing) storing.through = Math.min(storing.through, after);',
    'void after;',
  ),
  one(
    'a follower commits what its leader committed, whether it has it or not',
    'B11',
    'raft/replication.ts',
    'commitThrough(turn, Math.min(request.commit, match));',
    'commitThrough(turn, Math.min(request.commit, log.last.index));',
  ),
  one(
    'an append is answered before it is on the disk',
    'Raft figure 2, B13',
    'raft/replication.ts',
    `value: { ...response, round: request.round } },
      { afterSync: true },`,
    `value: { ...response, round: request.round } },
      { afterSync: false },`,
  ),
  one(
    'a vote for whoever asks, however old its log',
    'Raft §5.4.1',
    'raft/election.ts',
    'const granted = free && isUpToDate(last, durable.log.last);',
    'const granted = free && isUpToDate(last, last);',
  ),
  one(
    'two votes in a term',
    'Raft §5.2',
    'raft/election.ts',
    ": durable.vote === from || (durable.vote === '' && state.leader === undefined);",
    ': state.leader === undefined;',
  ),
  one(
    'an append is taken without a look at the entry before it',
    'Raft §5.3',
    'raft/replication.ts',
    'if (log.termAt(previous.index) !== previous.generation) {',
    'if (log.termAt(previous.index) === undefined) {',
  ),
  one(
    'one member less than a majority commits',
    'Raft §5.3',
    'raft/group.ts',
    'return indexes[Math.floor(indexes.length / 2)] ?? 0;',
    'return indexes[Math.max(0, Math.floor(indexes.length / 2) - 1)] ?? 0;',
  ),
  one(
    'one vote less than a majority elects',
    'Raft §5.2',
    'raft/group.ts',
    'return voters.filter(holds).length * 2 > voters.length;',
    'return voters.filter(holds).length * 2 >= voters.length;',
  ),
  one(
    'a group is changed before an entry of the own term is committed',
    'B1',
    'raft/change.ts',
    "return !knowsCommits(state) || isPending || isBusy ? 'CHANGE_PENDING' : undefined;",
    "return isPending || isBusy ? 'CHANGE_PENDING' : undefined;",
  ),
  one(
    'a group is changed while another change is not committed',
    'thesis §4.1, B1',
    'raft/change.ts',
    'const isPending = currentGroup(state.durable).index > state.commit;',
    'const isPending = false;',
  ),
  one(
    'a candidate counts its own vote before it is on the disk',
    'Raft figure 2, B3',
    'raft/election.ts',
    'state.votes = new Map(preVote ? [[state.id, true]] : []);',
    'state.votes = new Map([[state.id, true]]);',
  ),
  one(
    'a leader answers reads before its first commit',
    'B6',
    'raft/reads.ts',
    'if (!knowsCommits(state)) {',
    'if (state.removed) {',
  ),
  one(
    'a read joins the round that is under way',
    'thesis §6.4, B6',
    'raft/reads.ts',
    'state.reads.push({ reader, index: state.commit, round: state.round + 1 });',
    'state.reads.push({ reader, index: state.commit, round: state.round });',
  ),
  one(
    'numbers of questions to the leader begin anew at a restart',
    'B6',
    'raft/core.ts',
    'return 1 + Math.floor(chance * 2 ** 32) * 2 ** 20;',
    'return 1 + 0 * chance;',
  ),
  one(
    'who answers a message of an older term confirms its round',
    'thesis §6.4, B6',
    'raft/core.ts',
    'const value = { accepted: false, match: 0, conflict: undefined, round: 0 };',
    'const value = { accepted: false, match: 0, conflict: undefined, round: body.value.round };',
  ),
  one(
    'who says that it lacks what it had is asked again at once',
    'B11',
    'raft/replication.ts',
    'if (conflict.generation === 0 && conflict.index <= progress.match) return;',
    '',
  ),
  one(
    'a member without a vote, as far as it knows, gives none',
    'B7',
    'raft/election.ts',
    'const granted = free && isUpToDate(last, durable.log.last);',
    'const granted =\n    free && isVoter(currentGroup(durable).group, state.id) && isUpToDate(last, durable.log.last);',
  ),
  one(
    'a snapshot cuts the entries behind it, though they match',
    'B9',
    'raft/state.ts',
    'if (keepsLog(state, snapshot)) return;',
    '',
  ),
  one(
    'a log that parts from a snapshot stays',
    'B9',
    'raft/state.ts',
    'return log.termAt(at.index) === at.generation;',
    'return log.termAt(at.index) !== undefined;',
  ),
  one(
    'a snapshot puts a member back behind what it has committed',
    'B9',
    'raft/snapshot.ts',
    'if (index > state.commit) {',
    'if (index > 0) {',
  ),
  one(
    'the log loses its beginning before the snapshot is on the disk',
    'B10',
    'raft/durable-record.ts',
    'log.record([recordSnapshot(event.snapshot)], { sync: true });\n      log.drop(state.log.base);',
    'log.drop(state.log.base);',
  ),
  one(
    'a follower that has caught up is fed snapshots for ever',
    'B11',
    'raft/progress.ts',
    "progress.mode = 'replicate';\n  progress.probed = false;",
    'progress.probed = false;',
  ),
  one(
    'a member whose removal is not committed stands for no election',
    'thesis §4.2.2, B12',
    'raft/election.ts',
    'return isVoter(currentGroup(durable).group, id) || isVoter(groupAt(durable, commit), id);',
    'return isVoter(currentGroup(durable).group, id) && isVoter(groupAt(durable, commit), id);',
  ),
  one(
    'an id that was removed is taken in again',
    'B12',
    'raft/change.ts',
    ': group.removed.includes(id)',
    ": group.removed.includes('')",
  ),
  one(
    'a learner counts for commits',
    'thesis §4.2.1',
    'raft/group.ts',
    'return members.filter(({ learner }) => !learner).map(({ id }) => id);',
    'return members.map(({ id }) => id);',
  ),
  one(
    'who has an empty folder hears the others before they have said that it is new',
    'decision 16, B14',
    'raft/core.ts',
    'if (!turn.state.unsure) onMessage(turn, input.message, input.blocks);',
    'onMessage(turn, input.message, input.blocks);',
  ),
  one(
    'who was admitted with an empty folder votes again in a term that was led',
    'decision 16, B14',
    'raft/core.ts',
    "if (term > 0) turn.emit({ type: 'TermVoted', term, vote: state.id });",
    '',
  ),
  one(
    'a voter commits before it is in the log that it takes part',
    'decision 16, B14',
    'raft/replication.ts',
    'if (!isMajority(group, (id) => matchOf(id) >= index && isSeen(then, id))) return;',
    '',
  ),
  one(
    'a majority that says nothing of a founder is any of the others',
    'decision 16, B14',
    'raft/admission.ts',
    'const meetsMajorities = telling.length > founders.length - majority;',
    'const meetsMajorities = telling.length > 0;',
  ),
  one(
    'somebody new gets a vote though a founder was never heard',
    'decision 16, B14',
    'raft/change.ts',
    'return members.some(({ learner, seen }) => !learner && !seen);',
    'return members.some(({ learner, seen }) => !learner && !seen && false);',
  ),
  one(
    'a founder is taken for a new one by a group that was changed',
    'decision 16, B14',
    'raft/admission.ts',
    'return voters.length > 0 && !isSame;',
    'return voters.length > 0 && !isSame && false;',
  ),
  one(
    'who is told to take over does so without what it lacks',
    'thesis §3.10',
    'raft/transfer.ts',
    'if (state.commit < last || state.progress.get(transfer.to)?.match !== last) return;',
    '',
  ),
];

const coordinator: readonly Mutant[] = [
  one(
    'an order is made on any view',
    'R16',
    'coordinator/registry.ts',
    `  if (serving.every((m, place) => m.id === ids[place])) return isSo;
  if (isStale(state, expectedEpoch)) return stale(state, expectedEpoch);`,
    '  if (serving.every((m, place) => m.id === ids[place])) return isSo;',
  ),
  {
    name: 'who is drained is taken in at once',
    rule: 'R16',
    edits: [
      {
        file: 'coordinator/registry.ts',
        find: 'if (member.drained) return',
        put: 'if (member.incarnation < 0) return',
      },
      {
        file: 'coordinator/detector.ts',
        find: `        !m.drained &&
`,
        put: '',
      },
    ],
  },
  one(
    'a chain is recovered without members that nobody has named',
    'R10',
    'coordinator/registry.ts',
    'if (lost.some((each) => !lostIds.includes(each))) {',
    'if (lost.length === 0) {',
  ),
  {
    name: 'silent members are removed with nobody heard',
    rule: 'R10, mutant 20',
    edits: [
      {
        file: 'coordinator/detector.ts',
        find: 'if (!this.#isServedSince(id, this.#now - this.#timing.detectionMs / 2)) return undefined;',
        put: 'void this.#isServedSince;',
      },
      {
        file: 'coordinator/detector.ts',
        find: `    if (!this.#isServed) return undefined;
    let longest`,
        put: '    let longest',
      },
    ],
  },
  one(
    'a stream that has ended is evidence',
    'R13, decision 13',
    'coordinator/probes.ts',
    'this.#of(process).hasEnded = true;',
    'Object.assign(this.#of(process), { hasEnded: true, refusedAt: 0 });',
  ),
  one(
    'a probe that nobody answers is evidence',
    'R13, decision 13',
    'coordinator/probes.ts',
    "const isRefused = answer === 'refused' && probed.hasEnded;",
    "const isRefused = answer !== 'accepted' && probed.hasEnded;",
  ),
  one(
    'who is refused goes though nobody has outlived it',
    'R10, decision 13',
    'coordinator/detector.ts',
    '(m) => m.id !== member.id && this.#hears(m) && probes.isThereSince(m, goneSince),',
    '(m) => m.id !== member.id && this.#hears(m),',
  ),
  one(
    'a process that returns loses its claim though nobody is heard',
    'R10',
    'coordinator/registry.ts',
    'const isLeft = keepsPlace || isOnlyServing(members, id);',
    'const isLeft = isOnlyServing(members, id);',
  ),
  {
    name: 'a store that was never complete goes on alone',
    rule: 'R10, mutant 10',
    edits: [
      {
        file: 'coordinator/registry.ts',
        find: 'if (serving.length > 0 && !serving.some((m) => equalBytes(m.storeId, member.storeId))) {',
        put: 'if (serving.length > 0 && !serving.some((m) => m.id === member.id || equalBytes(m.storeId, member.storeId))) {',
      },
      {
        file: 'coordinator/detector.ts',
        find: ': waiting.filter((m) => this.#serving.some((s) => equalBytes(s.storeId, m.storeId)));',
        put: ': waiting.filter((m) => this.#serving.some((s) => s.id === m.id || equalBytes(s.storeId, m.storeId)));',
      },
    ],
  },
];

const comparison: readonly Mutant[] = [
  one(
    'states are compared at two entries',
    'R18',
    'chain/state-scan.ts',
    'own.chunk.hashAt(this.#log, theirs.at, theirs.to)',
    'own.chunk.hashAt(this.#log, own.chunk.range.through, theirs.to)',
  ),
  one(
    'what was read is not brought to the entry that is agreed on',
    'R18',
    'chain/state-chunk.ts',
    'if (blocks.length > 0) commitThrough(ledger, at, store);',
    'if (blocks.length > 0) void [commitThrough, at, store];',
  ),
  one(
    'a difference is not seen',
    'R18',
    'chain/compare.ts',
    'const isEqual = own.hash === theirs.hash;',
    "const isEqual = own.hash !== '';",
  ),
  one(
    'a store that is found damaged is emptied at once, be it the last one',
    'R18',
    'chain/compare.ts',
    "  turn.emit({ type: 'DamageFound', damage: { what, outlier: '' } });",
    `  turn.emit({ type: 'Removed' });
  turn.effect({ type: 'stop', wipe: true, why: what });`,
  ),
  one(
    'a damaged member that was taken out keeps its store',
    'R18',
    'chain/activation.ts',
    'const wipe = isStrange || isDamaged(state);',
    'const wipe = isStrange || (isDamaged(state) && state.removed && state.seen === undefined);',
  ),
];

const chain: readonly Mutant[] = [
  ...comparison,
  one(
    'a restart keeps its place',
    'R5, R11',
    'log/data-folder.ts',
    'const incarnation = Math.max(least, Math.floor(wallMs));',
    'const incarnation = Math.max(this.#identity.incarnation, 1, 0 * least, 0 * wallMs);',
  ),
  one(
    'a removed node goes on answering',
    'R2',
    'chain/promise.ts',
    `    !state.removed &&
    state.active !== undefined &&`,
    '    state.active !== undefined &&',
  ),
  {
    name: 'promises are granted by the view that is active',
    rule: 'R2, mutant 8: a livelock',
    edits: [
      {
        file: 'chain/promise.ts',
        find: 'if (seen === undefined || state.removed || !servesIn(seen, from)) return;',
        put: 'if (seen === undefined || state.removed || !servesIn(state.active ?? seen, from)) return;',
      },
      {
        file: 'chain/promise.ts',
        find: '  const member = memberOf(seen, from);\n  if (member === undefined) return;\n  if (leaseMs',
        put: '  const member = memberOf(state.active ?? seen, from);\n  if (member === undefined) return;\n  if (leaseMs',
      },
    ],
  },
  one(
    'a promise is owed only to members of the view that is left',
    'R3, mutant 9',
    'chain/promise.ts',
    'if (until <= last || servesIn(view, name) || state.stopped.has(key)) continue;',
    `if (until <= last || servesIn(view, name) || state.stopped.has(key)) continue;
    if (state.active === undefined || !servesIn(state.active, name)) continue;`,
  ),
  one(
    'a newer process on another store proves that the old one is gone',
    'R3, mutant 10',
    'chain/promise.ts',
    '(m) => m.id === name.id && m.incarnation > name.incarnation && equalBytes(m.storeId, old),',
    '(m) => m.id === name.id && m.incarnation > name.incarnation && equalBytes(old, old),',
  ),
  one(
    'a stop is confirmed by a node that has not seen its removal',
    'R3, mutant 10',
    'chain/core.ts',
    "    case 'promiseRequest':\n",
    `    case 'promiseRequest':
      if (state.active?.members.some((m) => m.id === state.self.id && m.state > 1) === true) {
        const seenEpoch = state.seen?.epoch ?? 0;
        const to = { ...from, address: everyoneIn(state.active).find((m) => m.id === from.id)?.address ?? '' };
        turn.effect({
          type: 'say',
          to,
          message: { header: headerTo(state, to), message: { $case: 'stopped', value: { seenEpoch } } },
        });
      }
`,
  ),
  one(
    'promises are not waited out',
    'R3',
    'chain/activation.ts',
    'if (owesAgainst(state, seen, now)) return;',
    'void owesAgainst;',
  ),
  one(
    'a lease counts from the answer',
    'R4',
    'chain/promise.ts',
    'const until = nonce / 1000 + state.timing.leaseMs;',
    'const until = now + state.timing.leaseMs;',
  ),
  one(
    'a promise is not kept for as long as it is relied on',
    'R4, invariant 10',
    'chain/promise.ts',
    'const until = now + promiseMs(leaseMs, state.timing.drift);',
    'const until = now + promiseMs(leaseMs / 2, state.timing.drift);',
  ),
  one(
    "reads need the tail's promise alone",
    'R4',
    'chain/promise.ts',
    '.filter((m) => !sameName(m, self) && countsIn(active, m) && countsIn(seen, m))',
    '.filter((m) => !sameName(m, self) && countsIn(active, m) && countsIn(seen, m) && m === active.members.at(-1))',
  ),
  one(
    'a JOINING member is not among those whose promise is needed',
    'R4, R9, mutant 5',
    'chain/promise.ts',
    '.filter((m) => !sameName(m, self) && countsIn(active, m) && countsIn(seen, m))',
    '.filter((m) => !sameName(m, self) && servesIn(active, m) && countsIn(seen, m))',
  ),
  one(
    'the lease is looked at with the time of the last tick',
    'R4, mutant 12',
    'chain/core.ts',
    'onReadsReceived(turn, input.reads, input.now);',
    'onReadsReceived(turn, input.reads, state.lastTick?.now ?? input.now);',
  ),
  one(
    'no wait after a start',
    'R5, mutant 7',
    'chain/activation.ts',
    'if (servesIn(seen, state.self) && now < state.bootWaitUntil) return;',
    'void servesIn;',
  ),
  one(
    'the follower resumes by revision alone',
    'R6, mutant 17',
    'chain/kept.ts',
    'const common = ends.find((end) => holds(ledger.spans, end));',
    'const common = ends.find((end) => end.index <= ledger.last.index);',
  ),
  one(
    'a divergent suffix is not cut',
    'R6',
    'chain/link.ts',
    'if (!sameEntry(common, ledger.last)) {',
    'if (!sameEntry(common, ledger.last) && ledger.last.index < 0) {',
  ),
  one(
    'a watermark is applied before the log is reconciled',
    'R6, mutant 18',
    'chain/link.ts',
    '  if (!up.reconciled) {\n    const { snapshot } = message;',
    `  if (message.watermark !== undefined && message.watermark.index <= state.ledger.last.index) {
    commitThroughKnown(turn, idAt(state.ledger.spans, message.watermark.index), now);
  }
  if (!up.reconciled) {
    const { snapshot } = message;`,
  ),
  one(
    'a snapshot is put over what was there',
    'R17, mutant 19',
    'chain/install.ts',
    'this.#then(session, () => this.#empty(session));',
    'void this.#empty;',
  ),
  one(
    'a snapshot leaves out what requests have come to',
    'R12, R17',
    'chain/compaction.ts',
    'this.#log.scan(metaPrefix, sessionPrefix)',
    "this.#log.scan(metaPrefix, new TextEncoder().encode('o'))",
  ),
  one(
    'a store does not say that it holds a part of a snapshot',
    'R10, R17, mutant 19',
    'chain/install.ts',
    "{ type: 'put', key: incompleteKey, value: EntryId.encode(revisionOf(base)).finish() },",
    '',
  ),
  {
    name: 'a store that holds a part of a snapshot goes on after a restart',
    rule: 'R17, mutant 19',
    edits: [
      {
        file: 'chain/open-store.ts',
        find: 'return stored !== undefined;',
        put: 'return stored !== undefined && false;',
      },
      // Who remembers from such a store sees it once more.
      {
        file: 'chain/node-store.ts',
        find: 'if ((await log.get(incompleteKey)) !== undefined) {',
        put: 'if (((await log.get(incompleteKey)) as unknown) === log) {',
      },
    ],
  },
  one(
    'the log is dropped through the base that is not valid yet',
    'R17',
    'chain/compaction.ts',
    'await flush(true);',
    "await flush(true);\n    this.#give({ type: 'BaseWritten', base: { id: at, bytes: 0 }, now: 0 });\n    return;",
  ),
  one(
    'a snapshot is whole before its last chunk',
    'R17',
    'chain/snapshot.ts',
    'if (chunk.sequence + 1 === install.chunks) {',
    'if (chunk.sequence + 1 === Math.max(1, install.chunks - 1)) {',
  ),
  one(
    'links and what they said outlive their view',
    'R6, R7: a watermark taken from a dead view',
    'chain/evolve.ts',
    `  state.up = undefined;
  state.down = undefined;
  state.upHeardAt = now;`,
    '  state.upHeardAt = now;',
  ),
  one(
    'a node feeds its successor before it is reconciled itself',
    'R7',
    'chain/link.ts',
    'return isHead(active, state.self) || state.up?.reconciled === true;',
    'return true;',
  ),
  one(
    'a new tail has authority as soon as it is active',
    'R7, mutant 3',
    'chain/activation.ts',
    `  if (isHead(view, state.self)) {
    // The head's token is its activation (R7).
    if (isTail(view, state.self)) takeToken(turn);`,
    `  if (isTail(view, state.self)) takeToken(turn);
  commitWhatMay(turn, now);
  if (isHead(view, state.self)) {`,
  ),
  one(
    'authority outlives the place at the tail',
    'R8',
    'chain/evolve.ts',
    'state.authority = state.authority && isTail(view, state.self);',
    'void isTail;',
  ),
  one(
    'commits do not wait for a JOINING member',
    'R9, mutant 4',
    'chain/write.ts',
    'if (joining !== undefined) {',
    'if (joining !== undefined && limit.index < 0) {',
  ),
  one(
    'promotion before catch-up',
    'R9',
    'chain/report.ts',
    'const complete = down.acked.index >= ledger.watermark.index;',
    'const complete = down.acked.index >= 0;',
  ),
  one(
    'the tail commits what is not on its disk',
    'R11, mutant 13',
    'chain/link.ts',
    'return up.syncedThrough.index < ledger.synced.index ? up.syncedThrough : ledger.synced;',
    'return up.syncedThrough.index < ledger.last.index ? up.syncedThrough : ledger.last;',
  ),
  one(
    'the tail commits what those before it have not synced',
    'R11, mutant 13',
    'chain/write.ts',
    'let limit = syncedThrough(state);',
    'let limit = ledger.synced;',
  ),
  one(
    'the head acknowledges what it has staged',
    'R15: acknowledge before the tail',
    'chain/write.ts',
    'for (const { id, token } of this.#waiting) waitFor(this.#state, id, token);',
    `for (const { id, token } of this.#waiting) {
      const outcome = { revision: id.index, generation: id.generation, existed: false };
      turn.effect({
        type: 'answerWrite',
        token,
        answer: { type: 'committed', outcome, ...servedBy(this.#state) },
      });
    }`,
  ),
  one(
    'a dirty read answers the staged version without asking',
    'R14, CRAQ §2.3',
    'chain/read.ts',
    `    parkDirty(turn, read, key);
    return;`,
    `    answerFound(turn, read, keyValue(dirty.at(-1) ?? { revision: 0, value: undefined, createRevision: 0, version: 0 }), false);
    return;`,
  ),
  one(
    'a dirty read answers the last committed version without asking',
    'R14, CRAQ §2.3',
    'chain/read.ts',
    `    parkDirty(turn, read, key);
    return;`,
    `    answerFound(turn, read, read.stored, false);
    return;`,
  ),
  one(
    'a dirty read joins the query in flight',
    'R14, mutant 1',
    'chain/read.ts',
    '  else parked.push({ read, key });',
    `  else if (turn.state.waiting.query !== undefined) {
    (turn.state.waiting.query.covers as ParkedRead[]).push({ read, key });
  } else parked.push({ read, key });`,
  ),
  {
    name: 'neither the tail nor the reader looks at its lease for a dirty read',
    rule: 'R14: either is enough, given the token (trace a2)',
    edits: [
      {
        file: 'chain/read.ts',
        find: 'if (active === undefined || !isLeased(state, now)) return;',
        put: 'if (active === undefined || state.removed) return;',
      },
      {
        file: 'chain/read.ts',
        find: 'if (current && state.authority && isLeased(state, now)) {',
        put: 'if (current && state.authority) {',
      },
      {
        file: 'chain/read.ts',
        find: 'if (state.active?.epoch !== query.epoch || epoch !== query.epoch || !isLeased(state, now)) {',
        put: 'if (state.active?.epoch !== query.epoch || epoch !== query.epoch) {',
      },
      {
        file: 'chain/read.ts',
        find: `  if (!isLeased(state, now)) {
    parkUnleased(turn, read);`,
        put: `  if (!isLeased(state, now) && read.floor === undefined && !state.ledger.dirty.has(toMapKey(read.key))) {
    parkUnleased(turn, read);`,
      },
    ],
  },
  one(
    'the tail answers queries without authority and without a lease',
    'R14, mutant 2',
    'chain/read.ts',
    'if (current && state.authority && isLeased(state, now)) {',
    'if (current) {',
  ),
  one(
    'a staged write is forgotten when the view changes',
    'R7, CRAQ §2.5',
    'chain/activation.ts',
    "  turn.emit({ type: 'Activated', view, now });",
    `  turn.emit({ type: 'Activated', view, now });
  const { ledger } = state;
  if (ledger.last.index > ledger.watermark.index) {
    turn.emit({ type: 'SuffixCut', after: ledger.watermark });
  }`,
  ),
  one(
    'a retry is answered from a staged record',
    'R12, mutant 15',
    'chain/write.ts',
    '      waitFor(state, staged, write.token);\n      return;',
    `      const early = { revision: staged.index, generation: staged.generation, existed: false };
      turn.effect({
        type: 'answerWrite',
        token: write.token,
        answer: { type: 'committed', outcome: early, ...servedBy(state) },
      });
      return;`,
  ),
  one(
    'a cut keeps the record of the request',
    'R12, invariant 8, mutant 14',
    'chain/fold.ts',
    '  session.staged.delete(envelope.request.seq);\n  const empty',
    '  const empty',
  ),
  one(
    'what a new link says first of the syncs above stays where it came',
    'R11',
    'chain/link.ts',
    'const before = syncedThrough(state).index;\n  if (!up.reconciled) {',
    'const before = up.reconciled ? syncedThrough(state).index : Number.POSITIVE_INFINITY;\n  if (!up.reconciled) {',
  ),
  one(
    'a staged request is not known at a new head',
    'R12',
    'chain/fold.ts',
    'sessionOf(ledger, client).staged.set(request.seq, { generation, index });',
    'sessionOf(ledger, client).staged.set(-1 - request.seq, { generation, index });',
  ),
  one(
    'a request that was answered long ago runs again',
    'R12, mutant 16',
    'chain/write.ts',
    'if (seq < session.answeredBelow) {',
    'if (seq < 0) {',
  ),
  one(
    'outcomes do not outlive a restart',
    'R12: a request record is missing after a return',
    'chain/node-store.ts',
    'session.outcomes.set(seq, outcome);',
    '',
  ),
  one(
    'a head that is removed says that nothing was applied',
    'R15',
    'chain/write.ts',
    "  reason: 'OUTCOME_UNKNOWN',\n  message: 'the node left",
    "  reason: 'NOT_HEAD',\n  message: 'the node left",
  ),
  one(
    'a write whose link was lost counts as not applied',
    'R15, client and proxy',
    'retry/retry.ts',
    "} else if (outcome.type === 'answered' || outcome.type === 'unsent') {",
    "} else if (outcome.type !== 'timedOut') {",
  ),
  one(
    'a view that was seen is not on the disk',
    'R1',
    'chain/runtime.ts',
    'this.#log.record(recordSeen(view), { sync: true });',
    'void recordSeen;',
  ),
];

const log: readonly Mutant[] = [
  one(
    'sync is switched off',
    'log',
    'log/durable-log.ts',
    'await this.#engine.write(ops, { sync: batch.sync });',
    'await this.#engine.write(ops, { sync: false });',
  ),
  one(
    'a hole in the log is not noticed at open',
    'log',
    'log/open-log.ts',
    'if (sameEntry(previous, last) && end.index === blockIndexOf(key)) return undefined;',
    'if (end.index === blockIndexOf(key)) return undefined;',
  ),
  one(
    'a checksum is not looked at',
    'log',
    'log/record.ts',
    'if (stored.getUint32(size) === checksumOf(key, value)) return value;',
    'if (stored.byteLength > 0 && checksumOf(key, value) >= 0) return value;',
  ),
  one(
    'a cut leaves its blocks on the disk',
    'R6',
    'log/durable-log.ts',
    "for await (const [key] of this.#engine.scan(range)) dels.push({ type: 'del', key });",
    "for await (const [key] of this.#engine.scan({ ...range, limit: 0 })) dels.push({ type: 'del', key });",
  ),
  one(
    'a commit does not reach the objects that are kept in memory',
    'R14',
    'chain/objects.ts',
    'this.hot.keep(mapKey, found);',
    'void found;',
  ),
  one(
    'a load that a commit has overtaken is kept in memory',
    'R14',
    'chain/objects.ts',
    'if (content === this.#content && this.#committed(mapKey) === undefined) {',
    'if (content === this.#content) {',
  ),
  one(
    'what is committed and not stored yet is not looked at',
    'R14',
    'chain/objects.ts',
    'return this.#unstored.get(mapKey) ?? this.#recent.get(mapKey);',
    'return this.#recent.get(mapKey);',
  ),
  one(
    'a commit is not atomic: the watermark is written without the objects',
    'R12',
    'chain/objects.ts',
    'this.#log.record([...ops, ...others], { sync: false });',
    'this.#log.record([...ops.slice(1), ...others], { sync: false });',
  ),
];

export const mutants: readonly Mutant[] = [...raft, ...coordinator, ...chain, ...log];

/** Defects that another rule covers: nothing breaks without them alone, and why. */
export const redundant: readonly (Mutant & { readonly why: string })[] = [
  {
    ...one(
      'a change of the view is applied whatever the view is by then',
      'R9, mutant 6',
      'coordinator/registry.ts',
      'if (expectedEpoch !== state.view.epoch) return',
      'if (expectedEpoch > state.view.epoch) return',
    ),
    why: 'a change names incarnations, and each change is refused where those are not in the state that it needs; the epoch guards it once more',
  },
  {
    ...one(
      'a report of an earlier epoch promotes',
      'R9',
      'coordinator/detector.ts',
      'if (report?.epoch !== view.epoch) return undefined;',
      'if (report === undefined) return undefined;',
    ),
    why: 'from the report on the tail commits only what the JOINING member has, for as long as it is JOINING (R9): the report cannot go stale, and the change carries the epoch as well',
  },
  {
    ...one(
      'an incarnation that is gone returns',
      'invariant 11, B12',
      'coordinator/registry.ts',
      'if (incarnation <= highestIncarnation(state, id)) {',
      'if (incarnation <= 0) {',
    ),
    why: 'coordinators propose only incarnations above those known; the registry refuses the others once more',
  },
  {
    ...one(
      'a new tail answers before it has committed what it holds',
      'R7',
      'chain/write.ts',
      "turn.emit({ type: 'TokenReceived', through: turn.state.ledger.last.index });",
      "turn.emit({ type: 'TokenReceived', through: turn.state.ledger.watermark.index });",
    ),
    why: 'what was committed before is synced at all members before the new tail, so that the first message of its predecessor covers it (R11)',
  },
  {
    name: 'what was read is taken to contain less than it may',
    rule: 'R18',
    edits: [
      {
        file: 'chain/state-chunk.ts',
        find: 'const stored = await log.get(watermarkKey);',
        put: 'const early = watermark(); const stored = await log.get(watermarkKey);',
      },
      { file: 'chain/state-chunk.ts', find: 'through: watermark(),', put: 'through: early,' },
    ],
    why: 'what is committed is stored just before a part is read (decision 15), and hardly ever anything more in the moment between: the store holds nothing newer than the watermark was',
  },
];

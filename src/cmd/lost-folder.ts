import { type Clock, pause } from '../base/clock.js';
import { KeychainError } from '../base/errors.js';
import type { AskStatus } from '../coordinator/group.js';
import type { ClusterStatusResponse } from '../gen/keychaindb/v1/coordinator.js';
import { admittedIn, isOfOtherGroup, type Witness } from '../raft/admission.js';

export interface FreshCoordinator {
  readonly id: string;
  readonly dataDir: string;
  /** Empty where it joins others. */
  readonly founders: ReadonlyMap<string, string>;
  readonly join?: readonly string[];
  readonly ask: AskStatus;
}

/** Milliseconds that each of the others may take to say whether it knows this one, and between two rounds of asking. */
const askMs = 500;
const askPauseMs = 50;
/** Milliseconds after which it is told once that this one still waits. */
const tellMs = 5_000;

/**
 * A coordinator whose folder is empty asks the others whether it was one of them before: then what it voted for and
 * acknowledged is lost with its folder, and with its vote the group could lose what is committed (Raft §5.1, figure 2).
 * Returns what those say that answer; rejects with MEMBER_EXISTS or MEMBER_REMOVED.
 */
export async function refuseLostFolder(
  own: FreshCoordinator,
): Promise<readonly ClusterStatusResponse[]> {
  const { id, dataDir, ask } = own;
  const asked = await Promise.all(
    addressesOf(own).map((address) => ask(address, askMs).catch(() => undefined)),
  );
  const answers = asked.flatMap((answer) => (answer === undefined ? [] : [answer]));
  if (answers.some((answer) => hasVoted(answer, own))) {
    throw new KeychainError(
      'MEMBER_EXISTS',
      `${id} is a coordinator of this cluster already, and its folder ${dataDir} is empty: what it voted for is lost. Replace it: keychaindb cluster remove ${id}, then start another one under a new --id, with an empty --data-dir and --join`,
    );
  }
  if (answers.some((answer) => isRemoved(answer, own))) {
    throw new KeychainError(
      'MEMBER_REMOVED',
      `${id} was removed from the coordinators, and its folder ${dataDir} is empty: start another one under a new --id, with --join`,
    );
  }
  if (answers.some((answer) => isChanged(answer, own))) {
    throw new KeychainError(
      'MEMBER_EXISTS',
      `${id} founds a group that was changed since, and its folder ${dataDir} is empty: nobody can say whether it took part before. Replace it: keychaindb cluster remove ${id}, then start another one under a new --id, with an empty --data-dir and --join`,
    );
  }
  return answers;
}

/**
 * It asks until enough of them have said that they know nothing of it; until then it takes no part. Resolves with the
 * newest term that they know. `tell`: called once where it takes long.
 */
export async function admission(
  own: FreshCoordinator,
  clock: Clock,
  tell: (message: string) => void,
): Promise<number> {
  const { id, dataDir, founders, join } = own;
  const since = clock.monotonic();
  let isTold = false;
  for (;;) {
    const answers = await refuseLostFolder(own);
    const term =
      join === undefined
        ? admittedIn([...founders.keys()], answers.map(witnessOf))
        : newest(answers);
    if (term !== undefined) return term;
    if (!isTold && clock.monotonic() - since > tellMs) {
      isTold = true;
      tell(
        `${id}'s folder ${dataDir} is empty, and too few others say that ${id} is new (${answers.length} of ${addressesOf(own).length} answer; those of 0.1.0 can't): it takes no part yet. Start them; where they are gone for ever: keychaindb cluster remove ${id}, and another one under a new --id with --join`,
      );
    }
    await pause(clock, askPauseMs);
  }
}

/**
 * Who joins has its vote when it has the log; a founder has it from the beginning. One that knows of no group says nothing: it
 * may be this one itself, by way of a proxy.
 */
function newest(answers: readonly ClusterStatusResponse[]): number | undefined {
  const terms = answers.flatMap(({ members, term }) =>
    Object.keys(members).length > 0 ? [term] : [],
  );
  return terms.length === 0 ? undefined : Math.max(...terms);
}

function witnessOf({ term, coordinators }: ClusterStatusResponse): Witness {
  return { term, voters: coordinators.flatMap(({ id, learner }) => (learner ? [] : [id])) };
}

function isChanged(answer: ClusterStatusResponse, { founders, join }: FreshCoordinator): boolean {
  return join === undefined && isOfOtherGroup([...founders.keys()], witnessOf(answer));
}

function addressesOf({ id, founders, join }: FreshCoordinator): readonly string[] {
  return join ?? [...founders].filter(([other]) => other !== id).map(([, address]) => address);
}

/** Who joined has its vote since it had the log; a founder has it from the beginning, and may not have run yet. */
function hasVoted({ coordinators, heard }: ClusterStatusResponse, own: FreshCoordinator): boolean {
  if (own.join === undefined) return heard.includes(own.id);
  return coordinators.some((c) => c.id === own.id && !c.learner);
}

/** A founder that is none any more. Who has just begun to ask, too, knows of no group. */
function isRemoved({ coordinators }: ClusterStatusResponse, own: FreshCoordinator): boolean {
  if (own.join !== undefined || coordinators.length === 0) return false;
  return !coordinators.some((c) => c.id === own.id);
}

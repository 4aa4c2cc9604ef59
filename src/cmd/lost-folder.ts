import { KeychainError } from '../base/errors.js';
import type { AskStatus } from '../coordinator/group.js';
import type { ClusterStatusResponse } from '../gen/keychaindb/v1/coordinator.js';

export interface FreshCoordinator {
  readonly id: string;
  readonly dataDir: string;
  /** Empty where it joins others. */
  readonly founders: ReadonlyMap<string, string>;
  readonly join?: readonly string[];
  readonly ask: AskStatus;
}

/** Milliseconds that each of the others may take to say whether it knows this one. */
const askMs = 2_000;

/**
 * A coordinator whose folder is empty asks the others whether it was one of them before: then what it voted for and
 * acknowledged is lost with its folder, and with its vote the group could lose what is committed (Raft §5.1, figure 2).
 * Rejects with MEMBER_EXISTS. Where nobody answers it goes on, as the first one of a new group does.
 */
export async function refuseLostFolder(own: FreshCoordinator): Promise<void> {
  const { id, dataDir, founders, join, ask } = own;
  const others = [...founders].filter(([other]) => other !== id).map(([, address]) => address);
  const addresses = join ?? others;
  const answers = await Promise.all(
    addresses.map((address) => ask(address, askMs).catch(() => undefined)),
  );
  const isKnown = answers.some((answer) => answer !== undefined && hasVoted(answer, own));
  if (!isKnown) return;
  throw new KeychainError(
    'MEMBER_EXISTS',
    `${id} is a coordinator of this cluster already, and its folder ${dataDir} is empty: what it voted for is lost. Replace it: keychaindb cluster remove ${id}, then start another one under a new --id, with an empty --data-dir and --join`,
  );
}

/** Who joined has its vote since it had the log; a founder has it from the beginning, and may not have run yet. */
function hasVoted({ coordinators, heard }: ClusterStatusResponse, own: FreshCoordinator): boolean {
  const isVoter = coordinators.some((c) => c.id === own.id && !c.learner);
  return isVoter && (own.join !== undefined || heard.includes(own.id));
}

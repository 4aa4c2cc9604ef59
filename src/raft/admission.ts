/** Another founder that has answered a founder whose folder is empty, and knows nothing of it. */
export interface Witness {
  /** The newest term that it has heard of; 0: nobody has stood for election, as far as it knows. */
  readonly term: number;
  /** Of the newest group in its log; none: it was not admitted itself. */
  readonly voters: readonly string[];
}

/**
 * May a founder whose folder is empty take part? It is new, or its folder was lost, and with it votes and entries that a
 * majority has counted on (decision 16). Returns the newest term that its forgotten votes may be of, or undefined: not yet.
 *
 * - Whoever has what was committed with its help has it in its log that it took part (`markSeen`), and whoever led with
 *   its vote, or gave its own beside it, has the term. So it is new where so many say that they know nothing of it that
 *   every majority of the founders it could have belonged to has one of them. Of a majority of another group nobody can
 *   tell: before the first change of the group all founders are marked (`lacksVoter`), or one that is asked knows of it.
 * - Or a majority, with itself, has never heard of an election: the first start, of which one or two may be missing. Not
 *   safe where all these are founders that no leader has ever reached, or have lost their folders too.
 */
export function admittedIn(
  founders: readonly string[],
  witnesses: readonly Witness[],
): number | undefined {
  if (witnesses.some((witness) => isOfOtherGroup(founders, witness))) return undefined;
  // One of 0.1.0 does not say whom it has heard, nor who votes.
  const telling = witnesses.filter(({ term, voters }) => term === 0 || voters.length > 0);
  const majority = Math.floor(founders.length / 2) + 1;
  const blank = telling.filter(({ term }) => term === 0).length;
  const isFirstStart = 1 + blank >= majority;
  const meetsMajorities = telling.length > founders.length - majority;
  if (!isFirstStart && !meetsMajorities) return undefined;
  return Math.max(0, ...witnesses.map(({ term }) => term));
}

/** Does it know of voters who are not the founders? */
export function isOfOtherGroup(founders: readonly string[], { voters }: Witness): boolean {
  const isSame = voters.length === founders.length && voters.every((id) => founders.includes(id));
  return voters.length > 0 && !isSame;
}

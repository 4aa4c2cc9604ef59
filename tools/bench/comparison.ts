import { median } from './median.js';
import type { Settings } from './settings.js';
import type { Counts } from './systems/system.js';
import type { Trial } from './trial.js';

/** One contender of a comparison. */
export interface Case {
  readonly name: string;
  /** What it is compared with: the `versus` cases with the best median. */
  readonly isPeer: boolean;
  readonly run: () => Promise<Trial>;
}

export interface Row {
  readonly name: string;
  readonly perSecond: number;
  readonly cpuMicros: number;
  readonly cpuByRole: Readonly<Record<string, number>>;
  readonly generatorMicros: number;
  /** Medians over the rounds of this case's to the peer's of the same round; undefined without a peer. */
  readonly throughputRatio: number | undefined;
  readonly cpuRatio: number | undefined;
  /** Answers other than OK in all rounds, by code. */
  readonly refused: Counts;
}

/** Each case once a round, and each of them first equally often. Rounds before the first warm up and count for nothing. */
export async function alternate(
  cases: readonly Case[],
  { rounds, warmUps }: Pick<Settings, 'rounds' | 'warmUps'>,
  say: (text: string) => void,
): Promise<readonly Row[]> {
  const trials = cases.map((): Trial[] => []);
  for (let round = -warmUps; round < rounds; round += 1) {
    for (let turn = 0; turn < cases.length; turn += 1) {
      const index = (round + warmUps + turn) % cases.length;
      const one = cases[index];
      if (one === undefined) continue;
      const result = await one.run();
      if (round < 0) continue;
      trials[index]?.push(result);
      say(
        `round ${round + 1}, ${one.name}: ${Math.round(result.perSecond)}/s, ${Math.round(result.cpuMicros)} µs`,
      );
    }
  }
  return rowsOf(cases, trials);
}

/** Medians of each case, and ratios to the fastest peer, round by round. */
export function rowsOf(
  cases: readonly Pick<Case, 'name' | 'isPeer'>[],
  trials: readonly (readonly Trial[])[],
): readonly Row[] {
  const peer = fastestPeer(cases, trials);
  return cases.map(({ name }, index) => {
    const own = trials[index] ?? [];
    const to = (of: (trial: Trial) => number): number | undefined =>
      peer === undefined
        ? undefined
        : median(
            own.flatMap((trial, round) => {
              const other = peer[round];
              return other === undefined ? [] : [of(trial) / of(other)];
            }),
          );
    const roles = new Set(own.flatMap(({ cpuByRole }) => Object.keys(cpuByRole)));
    return {
      name,
      perSecond: median(own.map((trial) => trial.perSecond)),
      cpuMicros: median(own.map((trial) => trial.cpuMicros)),
      cpuByRole: Object.fromEntries(
        [...roles].map((role) => [role, median(own.map((t) => t.cpuByRole[role] ?? 0))]),
      ),
      generatorMicros: median(own.map((trial) => trial.generatorMicros)),
      throughputRatio: to((trial) => trial.perSecond),
      cpuRatio: to((trial) => trial.cpuMicros),
      refused: summed(own.map(({ refused }) => refused)),
    };
  });
}

function summed(all: readonly Counts[]): Counts {
  const sums: Record<string, number> = {};
  for (const [code, count] of all.flatMap((counts) => Object.entries(counts))) {
    sums[code] = (sums[code] ?? 0) + count;
  }
  return sums;
}

function fastestPeer(
  cases: readonly Pick<Case, 'isPeer'>[],
  trials: readonly (readonly Trial[])[],
): readonly Trial[] | undefined {
  const rate = (own: readonly Trial[]): number => median(own.map((trial) => trial.perSecond));
  return trials
    .filter((own, index) => cases[index]?.isPeer === true && own.length > 0)
    .sort((a, b) => rate(b) - rate(a))[0];
}

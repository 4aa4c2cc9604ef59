import { randomBytes } from 'node:crypto';

/** The one way to chance, so that a simulator can own it. */
export interface Random {
  /** A float in [0, 1). */
  float(): number;
  bytes(count: number): Uint8Array;
}

export const systemRandom: Random = {
  float: () => Math.random(),
  bytes: (count) => new Uint8Array(randomBytes(count)),
};

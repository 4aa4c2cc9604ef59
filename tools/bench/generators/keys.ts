/** How the key of an operation is chosen of so many. */
export type KeyChoice = 'one' | 'uniform' | 'zipf';

/** The exponent of YCSB's zipfian: the most popular of 10,000 keys takes about a tenth of all. */
export const zipfExponent = 0.99;

/** Gives indices below `count`. @param random from 0 up to 1 */
export function chooser(choice: KeyChoice, count: number, random: () => number): () => number {
  if (choice === 'one') return () => 0;
  if (choice === 'uniform') return () => Math.floor(random() * count);
  const upTo = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank += 1) {
    sum += 1 / (rank + 1) ** zipfExponent;
    upTo[rank] = sum;
  }
  return () => {
    const at = random() * sum;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

export function keyOf(index: number): string {
  return `bench/${index}`;
}

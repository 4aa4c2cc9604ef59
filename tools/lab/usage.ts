import { readFileSync } from 'node:fs';

/** Of a process and its children, from /proc: CPU time in ticks of 10 ms, resident pages of 4 KiB. */
export function usage(pid: number): { readonly cpuMs: number; readonly memoryMb: number } {
  const all = [pid, ...childrenOf(pid)].map(fieldsOf);
  const sum = (of: readonly number[]): number =>
    all
      .flatMap((fields) => of.map((field) => Number(fields?.[field] ?? 0)))
      .reduce((a, b) => a + b);
  // Its own, and of those that have ended: what a process used is not lost with it.
  return { cpuMs: sum([11, 12, 13, 14]) * 10, memoryMb: (sum([21]) * 4_096) / (1 << 20) };
}

/** Ids of the workers of a proxy; of other processes none. */
export function childrenOf(pid: number): readonly number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

/** From the state on; undefined where it has ended. */
function fieldsOf(pid: number, index: number): readonly string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ');
  } catch (error) {
    // Only a child may end meanwhile.
    if (index === 0) throw error;
    return undefined;
  }
}

/** CPU time of several processes together, milliseconds. */
export function cpuOf(pids: readonly number[]): number {
  return pids.reduce((all, pid) => all + usage(pid).cpuMs, 0);
}
